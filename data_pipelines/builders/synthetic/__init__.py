"""People-like clips made from a seed: matting, backgrounds and segmentation, with nothing to download."""
