"""From the number of a sample to its clip, frames, shape and augmentation: random draws without a generator."""
