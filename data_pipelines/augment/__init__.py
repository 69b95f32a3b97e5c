"""Augmentation: movement, colour, noise, and the curves they follow."""
