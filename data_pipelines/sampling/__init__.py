"""From the number of a sample to its clip, frames and shape: random draws without a generator."""
