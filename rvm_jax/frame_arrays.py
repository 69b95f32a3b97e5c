"""What a network may be called on: arrays of frames, as bytes or as floats in 0..1."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from rvm_jax.errors import InputError


def check_clips(frames: Any, what: str = "frames") -> tuple[int, int]:
    """Refuse what is neither `[B, T, H, W, 3]` nor `[H, W, 3]`, uint8 or floats in 0..1; gives height and width.

    Floats of a JAX array are not looked at, for that is to wait until they are computed.
    """
    if not isinstance(frames, (np.ndarray, Array)):
        raise InputError(
            f"{what} are a {type(frames).__name__}: expected a NumPy or JAX array, uint8 or floats in 0..1"
        )
    shape = tuple(frames.shape)
    if len(shape) == 4:
        raise InputError(
            f"{what} have shape {shape}: give frames[None] if they are one clip [1, T, H, W, 3], or "
            "frames[:, None] if they have nothing to do with one another [B, 1, H, W, 3]"
        )
    if len(shape) not in (3, 5) or shape[-1] != 3:
        raise InputError(
            f"{what} have shape {shape}: expected [B, T, H, W, 3] for clips or [H, W, 3] for one frame, RGB last"
        )
    check_values(frames, what)
    return shape[-3], shape[-2]


def check_values(frames: np.ndarray | Array, what: str) -> None:
    """Refuse arrays without pixels, and values that are neither uint8 nor floats in 0..1."""
    shape = tuple(frames.shape)
    if 0 in shape:
        raise InputError(f"{what} have shape {shape}, which holds no pixel: give at least one frame")
    floats = jnp.issubdtype(frames.dtype, jnp.floating)
    if not floats and frames.dtype != np.uint8:
        raise InputError(f"{what} are {frames.dtype}: expected uint8 in 0..255 or floats in 0..1")
    if floats and isinstance(frames, np.ndarray):
        low, high = float(frames.min()), float(frames.max())
        if not (low >= 0 and high <= 1):  # also true of NaN
            mend = "divide by 255, or give uint8" if high > 2 else "clip them"
            raise InputError(f"{what} range from {low:g} to {high:g}: expected 0..1, so {mend}")
