"""Augmentation: movement, colour, noise, and the curves they follow, all in NumPy and OpenCV."""
