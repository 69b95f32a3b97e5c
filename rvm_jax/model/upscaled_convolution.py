"""A 3×3 convolution over an array that is first up-sampled to twice its size, and over others of that size.

The decoder does this at four scales, and the up-sampled arrays and their concatenation were what a training pass wrote
most of. Accelerators need neither: up-sampling and convolution are linear, so together they are one convolution at low
size that gives the four pixels of every 2×2 cell as channels (`benchmarks/ahead.py` shows the bytes).

A TPU fills the channels of what it convolves up to 128, and moves all of them: sixteen channels of full size are eight
times as many bytes as they hold. There the layers that follow are computed in cells as well.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import block_diag

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
CROPPED_EDGES = np.array([EDGES[0], [[0, 0, -0.75], [0, 0, 0]]])
# Up to how many channels of the others are convolved at low size too, which takes four times the arithmetic.
FEW_OTHERS = 4


def upscaled_conv2d(x: Array, others: Sequence[Array], kernel: Array) -> Array:
    """`[N, h, w, I]` and others `[N, H, W, I']`, kernel `[3, 3, I + Σ I', O]` → `[N, H, W, O]`; H is 2h or 2h - 1."""
    return by_platform(x, tuple(others), kernel, cpu=_joined, default=_in_cells)


def conv2d_in_cells(x: Array, kernel: Array) -> Array:
    """`conv2d` with an odd kernel of up to 3×3, on TPUs in cells."""

    def cells(x: Array, kernel: Array) -> tuple[Array]:
        return (convolve(x, _kernel_of_cells(kernel)),)

    def pixels(x: Array, kernel: Array) -> tuple[Array]:
        return (conv2d(x, kernel),)

    (y,) = in_cells(x, kernel, cells=cells, default=pixels)
    return y


def in_cells(x: Array, *operands: Array, cells: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """`default(x, *operands)`: on TPUs `cells`, for which x is `[N, H/2, W/2, 4·C]`, as is the first of its results.

    Between two such layers XLA finds that cells become pixels and cells again, and leaves that out.
    """
    size = x.shape[1:3]
    if size[0] % 2 or size[1] % 2:
        return default(x, *operands)

    def on_tpu(x: Array, *operands: Array) -> Any:
        y, *rest = cells(_to_cells(x), *operands)
        return _from_cells(y, size), *rest

    return by_platform(x, *operands, tpu=on_tpu, default=default)


def _joined(x: Array, others: tuple[Array, ...], kernel: Array) -> Array:
    return conv2d(jnp.concatenate([upscale_twice(x, others[0].shape[1:3]), *others], -1), kernel)


def _in_cells(x: Array, others: tuple[Array, ...], kernel: Array) -> Array:
    """As cells of 2×2 pixels in the channels, `[N, h, w, 4·O]`, to the end."""
    own, rest = jnp.split(kernel, [x.shape[-1]], 2)
    other = jnp.concatenate(others, -1)
    size = other.shape[1:3]
    combined = _combine(np.einsum("pat,qbu->abpqtu", PHASES, PHASES), own)
    if other.shape[-1] > FEW_OTHERS:
        return _from_cells(_with_edges(convolve(x, combined), x, own, size), size) + convolve(other, rest)
    cells = convolve(jnp.concatenate([x, _to_cells(other)], -1), jnp.concatenate([combined, _kernel_of_cells(rest)], 2))
    return _from_cells(_with_edges(cells, x, own, size), size)


def _with_edges(cells: Array, x: Array, kernel: Array, size: Sequence[int]) -> Array:
    """Add what misses in the outer cells: of rows, over all columns, and of columns, which the rows' do not see."""
    count, rows, columns, _ = x.shape
    width = size[1]
    vertical, horizontal = (EDGES if side % 2 == 0 else CROPPED_EDGES for side in size)
    top_bottom = interleave(_ends(x, 1), 2, width, 0.5)  # [N, 2, W, I]
    top_bottom = convolve(top_bottom, _combine(np.einsum("srt,bu->bsrtu", vertical, np.eye(3))[None], kernel))
    top_bottom = jnp.pad(top_bottom, ((0, 0), (0, 0), (0, 2 * columns - width), (0, 0)))
    top_bottom = top_bottom.reshape(count, 2, columns, 2, 2, 2, -1)
    left_right = convolve(_ends(x, 2), _combine(np.einsum("pat,sru->asprtu", PHASES, horizontal)[:, None], kernel))
    left_right = left_right.reshape(count, rows, 2, 2, -1)
    for side, (row, column) in enumerate(((0, 0), (rows - 1, columns - 1))):
        strip = top_bottom[:, side, :, :, side].swapaxes(2, 3)  # [N, w, 2, 2, O]
        cells = _add_line(cells, strip.reshape(count, 1, columns, -1), 1, row)
        cells = _add_line(cells, left_right[:, :, side, side].reshape(count, rows, 1, -1), 2, column)
    return cells


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _add_line(x: Array, line: Array, axis: int, index: int) -> Array:
    """Add to one line of x along an axis, in place: no pass over all of x, neither forward nor backward."""
    # The barrier keeps the sum out of the update, which would read x and therefore not be in place.
    line = lax.optimization_barrier(lax.slice_in_dim(x, index, index + 1, axis=axis) + line)
    return lax.dynamic_update_slice_in_dim(x, line, index, axis)


def _add_line_forward(x: Array, line: Array, axis: int, index: int) -> tuple[Array, None]:
    return _add_line(x, line, axis, index), None


def _add_line_backward(axis: int, index: int, _: None, cotangent: Array) -> tuple[Array, Array]:
    # The barrier keeps whatever makes the cotangent from being done again for the line.
    cotangent = lax.optimization_barrier(cotangent)
    return cotangent, lax.slice_in_dim(cotangent, index, index + 1, axis=axis)


_add_line.defvjp(_add_line_forward, _add_line_backward)


def _to_cells(x: Array) -> Array:
    """`[N, H, W, C]` → `[N, ⌈H/2⌉, ⌈W/2⌉, 4·C]`, with zeros beyond an odd edge."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    count, height, width, channels = x.shape
    x = x.reshape(count, height // 2, 2, width // 2, 2, channels).swapaxes(2, 3)
    return x.reshape(count, height // 2, width // 2, -1)


def _from_cells(x: Array, size: Sequence[int]) -> Array:
    """`[N, h, w, 4·C]` → `[N, *size, C]`."""
    count, rows, columns, _ = x.shape
    x = x.reshape(count, rows, columns, 2, 2, -1).swapaxes(2, 3)
    return x.reshape(count, 2 * rows, 2 * columns, -1)[:, : size[0], : size[1]]


def _kernel_of_cells(kernel: Array) -> Array:
    """`[k, k, I, O]` → `[k, k, 4·I, 4·O]`, which does to cells what the kernel, k = 1 or 3, does to their pixels."""
    inputs, outputs = kernel.shape[2:]
    if kernel.shape[0] == 1:
        return block_diag(*[kernel[0, 0]] * 4)[None, None]
    # Of the six pixels of three cells, those that the first and the second pixel of the middle one sees.
    placed = [jnp.pad(kernel, ((1 + i, 2 - i), (1 + j, 2 - j), (0, 0), (0, 0))) for i in (0, 1) for j in (0, 1)]
    wide = jnp.stack(placed).reshape(4, 3, 2, 3, 2, inputs, outputs)
    return wide.transpose(1, 3, 2, 4, 5, 0, 6).reshape(3, 3, 4 * inputs, 4 * outputs)


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
