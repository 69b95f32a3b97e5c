"""Resizing with PyTorch's arithmetic: bilinear, half-pixel centres, edges clamped, no antialiasing.

`jax.image.resize` is not used: it antialiases, and it always takes size ratios as its step. Positions and weights are
worked out once, in float64 and outside the compiled program.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax


class Taps(NamedTuple):
    """Linear interpolation along one axis: `out[i] = (1 - weight[i]) · x[low[i]] + weight[i] · x[high[i]]`."""

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray


def linear_taps(size: int, out_size: int, step: float) -> Taps:
    """The two neighbours of each of `out_size` positions that lie `step` pixels apart on an axis of `size` pixels."""
    position = np.maximum((np.arange(out_size) + 0.5) * step - 0.5, 0)
    low = np.minimum(position.astype(np.int64), size - 1)
    return Taps(low, np.minimum(low + 1, size - 1), np.minimum(position - low, 1))


def resize(x: Array, size: Sequence[int]) -> Array:
    """`[N, H, W, C]` → `[N, *size, C]`; the step is the ratio of the sizes."""
    for axis, out_size in zip((1, 2), size, strict=True):
        x = _interpolate(x, axis, linear_taps(x.shape[axis], out_size, x.shape[axis] / out_size))
    return x


def scaled_size(size: Sequence[int], ratio: float) -> tuple[int, int]:
    """The size of an image scaled by `ratio`: rounded down."""
    height, width = size
    return math.floor(height * ratio), math.floor(width * ratio)


def downscale(x: Array, ratio: float) -> Array:
    """`[N, H, W, C]` → `[N, ⌊H·ratio⌋, ⌊W·ratio⌋, C]`; the step is `1 / ratio`, not quite the ratio of the sizes."""
    for axis, out_size in zip((1, 2), scaled_size(x.shape[1:3], ratio), strict=True):
        x = _interpolate(x, axis, linear_taps(x.shape[axis], out_size, 1 / ratio))
    return x


def upscale_twice(x: Array, size: Sequence[int]) -> Array:
    """`[N, h, w, C]` → `[N, *size, C]`: twice the size, then cropped at the bottom and on the right."""
    for axis in (1, 2):
        x = _interpolate(x, axis, linear_taps(x.shape[axis], 2 * x.shape[axis], 0.5))
    return x[:, : size[0], : size[1]]


def _interpolate(x: Array, axis: int, taps: Taps) -> Array:
    shape = [1] * x.ndim
    shape[axis] = -1
    weight = jnp.asarray(taps.weight.reshape(shape), x.dtype)
    low, high = (jnp.take(x, indices, axis, mode="clip") for indices in (taps.low, taps.high))
    return low + weight * (high - low)


def halve(x: Array) -> Array:
    """Mean over 2×2 windows: `[N, H, W, C]` → `[N, ⌈H/2⌉, ⌈W/2⌉, C]`; at an odd edge, of the pixels that exist."""
    for axis in (1, 2):
        size = x.shape[axis]
        if size % 2:
            # Repeating the last line makes the mean over the edge that of the existing pixels alone.
            x = jnp.concatenate([x, lax.slice_in_dim(x, size - 1, size, axis=axis)], axis)
        even, odd = (lax.slice_in_dim(x, start, None, stride=2, axis=axis) for start in (0, 1))
        x = (even + odd) / 2
    return x
