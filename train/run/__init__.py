"""What a run needs around its devices: the first state, batches, which programs, checkpoints and its folder."""
