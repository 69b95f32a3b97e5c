"""What a run needs around its devices: the first state, batches, checkpoints and its folder."""
