"""BG-20k: still backgrounds without people or other salient objects."""
