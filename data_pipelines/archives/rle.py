"""Run-length encoding (RLE) of masks, as COCO and YouTubeVIS write them when not compressed."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rvm_jax.errors import InputError


def run_lengths(counts: object, size: tuple[int, int]) -> NDArray[np.uint32]:
    """Check the run lengths of a mask of `size` (height, width); the message of the error still lacks the file."""
    if not isinstance(counts, list):
        raise InputError("its run lengths are compressed: expected a list of numbers, as in the owners' release")
    runs = np.asarray(counts)
    if runs.ndim != 1 or runs.dtype.kind != "i" or (runs < 0).any():
        raise InputError("its run lengths are not a list of whole numbers from 0 up")
    height, width = size
    if runs.sum() != height * width:
        raise InputError(
            f"its run lengths add up to {runs.sum()} pixels, but {height} rows of {width} have {height * width}"
        )
    return runs.astype(np.uint32)


def to_mask(runs: ArrayLike, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Run lengths to bool [H, W]. Runs go down the columns, and the first one is outside of the mask."""
    runs = np.asarray(runs)
    inside = np.arange(len(runs)) % 2 == 1
    height, width = size
    return np.repeat(inside, runs).reshape(width, height).T
