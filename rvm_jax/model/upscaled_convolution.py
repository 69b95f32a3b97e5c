"""A 3×3 convolution over an array that is first up-sampled to twice its size, and over others of that size.

The decoder does this at four scales, and the up-sampled arrays and their concatenation were what a training pass wrote
most of. Accelerators need neither: up-sampling and convolution are linear, so together they are one convolution at low
size that gives the four pixels of every 2×2 cell as channels (`benchmarks/ahead.py` shows the bytes).
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rvm_jax.model.convolution import conv2d, convolve
from rvm_jax.model.platforms import by_platform
from rvm_jax.model.resize import interleave, upscale_twice

# What each low-size tap weighs in a full-size one, for an even and an odd pixel: `[2, 3 low, 3 full]`. An even pixel is
# ¼ of the low one before it and ¾ of the one that it lies in, an odd pixel ¾ and ¼ of the one behind.
PHASES = np.array(
    [[[0.75, 0.25, 0], [0.25, 0.75, 0.75], [0, 0, 0.25]], [[0.25, 0, 0], [0.75, 0.75, 0.25], [0, 0.25, 0.75]]]
)
# That treats what lies beyond the edges as zeros before the up-sampling. What the first and last low pixel weigh too
# little in the two outer pixels of a side, as edges are repeated there and zeros come after: `[2 sides, 2, 3 full]`.
EDGES = np.array([[[-0.25, 0.25, 0], [0.25, 0, 0]], [[0, 0, 0.25], [0, 0.25, -0.25]]])
# The same where the size is odd: of the last low pixel, half is cropped.
CROPPED_EDGES = np.array([EDGES[0], [[0, 0, 0], [0, 0, -0.75]]])


def upscaled_conv2d(x: Array, others: Sequence[Array], kernel: Array) -> Array:
    """`[N, h, w, I]` and others `[N, H, W, I']`, kernel `[3, 3, I + Σ I', O]` → `[N, H, W, O]`; H is 2h or 2h - 1."""
    return by_platform(x, tuple(others), kernel, cpu=_joined, default=_in_cells)


def _joined(x: Array, others: tuple[Array, ...], kernel: Array) -> Array:
    return conv2d(jnp.concatenate([upscale_twice(x, others[0].shape[1:3]), *others], -1), kernel)


def _in_cells(x: Array, others: tuple[Array, ...], kernel: Array) -> Array:
    own, rest = jnp.split(kernel, [x.shape[-1]], 2)
    size = others[0].shape[1:3]
    return convolve(jnp.concatenate(others, -1), rest) + _upscaled(x, own, size)


def _upscaled(x: Array, kernel: Array, size: Sequence[int]) -> Array:
    """`conv2d(upscale_twice(x, size), kernel)`."""
    count, rows, columns, _ = x.shape
    height, width = size
    cells = convolve(x, _combine(np.einsum("pat,qbu->abpqtu", PHASES, PHASES), kernel))
    cells = cells.reshape(count, rows, columns, 2, 2, -1).swapaxes(2, 3)  # [N, h, 2, w, 2, O]
    whole = cells.reshape(count, 2 * rows, 2 * columns, -1)[:, :height, :width]
    # What misses at the edges of rows, over all columns, and at the edges of columns, which the rows' edges do not see.
    vertical, horizontal = (EDGES if side % 2 == 0 else CROPPED_EDGES for side in size)
    top_bottom = interleave(_ends(x, 1), 2, width, 0.5)  # [N, 2, W, I]
    top_bottom = convolve(top_bottom, _combine(np.einsum("srt,bu->bsrtu", vertical, np.eye(3))[None], kernel))
    top_bottom = top_bottom.reshape(count, 2, width, 2, 2, -1)
    left_right = convolve(_ends(x, 2), _combine(np.einsum("pat,sru->asrptu", PHASES, horizontal)[:, None], kernel))
    left_right = left_right.reshape(count, rows, 2, 2, 2, 2, -1)
    for side, (row, column) in enumerate(((0, 0), (height - 2, width - 2))):
        strip = top_bottom[:, side, :, side].swapaxes(1, 2)  # [N, 2, W, O]
        whole = whole + _placed(strip, 1, row, height)
        strip = left_right[:, :, side, side].transpose(0, 1, 3, 2, 4)  # [N, h, 2, 2, O]
        strip = strip.reshape(count, 2 * rows, 2, -1)[:, :height]  # [N, H, 2, O]
        whole = whole + _placed(strip, 2, column, width)
    return whole


def _combine(weights: np.ndarray, kernel: Array) -> Array:
    """Kernels `[h, w, I, k·O]` of which each tap is a weighted sum of those of `kernel`: weights `[h, w, k…, 3, 3]`."""
    exact = kernel.dtype if kernel.dtype.itemsize >= 4 else jnp.float32
    weights = weights.reshape(*weights.shape[:2], 1, -1, 1, 9)
    taps = jnp.moveaxis(kernel.astype(exact).reshape(9, *kernel.shape[2:]), 0, -1)[:, None]  # [I, 1, O, 9]
    # A sum and not a product of matrices, which accelerators would round.
    combined = (jnp.asarray(weights, exact) * taps[None, None]).sum(-1)  # [h, w, I, k, O]
    return combined.reshape(*combined.shape[:3], -1).astype(kernel.dtype)


def _ends(x: Array, axis: int) -> Array:
    """The first and the last line along an axis."""
    size = x.shape[axis]
    return jnp.concatenate([lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, size - 1)], axis)


def _placed(strip: Array, axis: int, start: int, size: int) -> Array:
    """A strip of two lines, from `start` of `size` lines of zeros; what would lie outside is cropped."""
    padding = [(0, 0, 0)] * strip.ndim
    padding[axis] = (start, size - start - 2, 0)
    return lax.pad(strip, jnp.zeros((), strip.dtype), padding)
