"""Resizing with PyTorch's arithmetic: bilinear, half-pixel centres, edges clamped, no antialiasing.

`jax.image.resize` is not used: it antialiases, and it always takes size ratios as its step.

Along one axis, an interpolation is a sparse matrix: every output pixel is the weighted sum of two input pixels. Where
they lie and what they weigh is worked out once, in float64 and outside the compiled program; so is the transpose of
that matrix, which gradients need and which differentiation would turn into a slow (on GPUs, irreproducible) scatter:
a test looks at the program.

CPUs and GPUs gather those pixels; on a GPU both axes and what comes next become one kernel. TPUs are slow at gathers:
they take slices where the output has k pixels for each of the input, and elsewhere multiply by those blocks of the
matrix that hold anything. (`benchmarks/ahead.py` compiles for both.)
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rvm_jax.model.platforms import by_platform

# On TPUs: how many pixels, of input or output, a block of an interpolation's matrix has.
BAND = 128


class Taps(NamedTuple):
    """`out[i] = Σ_k weights[k][i] · x[indices[k][i]]` along one axis."""

    indices: np.ndarray
    weights: np.ndarray


def resize_axis(x: Array, axis: int, size: int) -> Array:
    """Bring one axis of x to `size`; the step is the ratio of the sizes."""
    return interpolate(x, axis, size, x.shape[axis] / size)


def scaled_size(size: Sequence[int], ratio: float) -> tuple[int, int]:
    """The size of an image scaled by `ratio`: rounded down."""
    height, width = size
    return math.floor(height * ratio), math.floor(width * ratio)


def downscale(x: Array, ratio: float) -> Array:
    """`[N, H, W, C]` → `[N, ⌊H·ratio⌋, ⌊W·ratio⌋, C]`; the step is `1 / ratio`, not quite the ratio of the sizes."""
    for axis, out_size in zip((1, 2), scaled_size(x.shape[1:3], ratio), strict=True):
        x = interpolate(x, axis, out_size, 1 / ratio)
    return x


def upscale_twice(x: Array, size: Sequence[int]) -> Array:
    """`[N, h, w, C]` → `[N, *size, C]`: twice the size, then cropped at the bottom and on the right."""
    # What is cropped need not be computed: the step is given, not derived from the size.
    for axis in (2, 1):
        x = interpolate(x, axis, size[axis - 1], 0.5)
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def interpolate(x: Array, axis: int, out_size: int, step: float) -> Array:
    """Linear interpolation along `axis`, at `out_size` positions that lie `step` pixels apart."""
    taps = linear_taps(x.shape[axis], out_size, step)
    return _by_platform(x, axis, taps, _without_gathers(axis, out_size, step))


def _interpolate_forward(x: Array, axis: int, out_size: int, step: float) -> tuple[Array, Array]:
    # All that the backward pass needs of x is its size, and a residual must be an array: an empty one says it.
    return interpolate(x, axis, out_size, step), jnp.zeros((x.shape[axis], 0))


def _interpolate_backward(axis: int, out_size: int, step: float, residual: Array, cotangent: Array) -> tuple[Array]:
    size = residual.shape[0]
    x = jax.ShapeDtypeStruct((*cotangent.shape[:axis], size, *cotangent.shape[axis + 1 :]), cotangent.dtype)

    def transpose(cotangent: Array) -> Array:
        (gradient,) = jax.linear_transpose(_without_gathers(axis, out_size, step), x)(cotangent)
        return gradient

    return (_by_platform(cotangent, axis, _transposed_linear_taps(size, out_size, step), transpose),)


interpolate.defvjp(_interpolate_forward, _interpolate_backward)


def _by_platform(x: Array, axis: int, taps: Taps, without_gathers: Callable[[Array], Array]) -> Array:
    def gathered(x: Array) -> Array:
        return _weighted_sum(x, axis, taps)

    def on_cpu(x: Array) -> Array:
        # Without the barrier, XLA's CPU back end would compute whatever made x, or the interpolation before, anew for
        # every tap: `benchmarks/network.py`.
        return gathered(lax.optimization_barrier(x))

    return by_platform(x, cpu=on_cpu, tpu=without_gathers, default=gathered)


def _without_gathers(axis: int, out_size: int, step: float) -> Callable[[Array], Array]:
    """`x ↦ interpolate(x, axis, out_size, step)` as slices or as products, to be transposed by JAX."""
    form = interleave if (1 / step).is_integer() else _banded_product
    return partial(form, axis=axis, out_size=out_size, step=step)


def interleave(x: Array, axis: int, out_size: int, step: float) -> Array:
    """With k = 1/step output pixels for each of the input: k weighted sums of neighbours, interleaved."""
    size, factor = x.shape[axis], round(1 / step)
    first, last = (lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, size - 1))
    padded = jnp.concatenate([first, x, last], axis)
    before, here, after = (lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3))
    phases = []
    for phase in range(factor):
        position = (phase + 0.5) * step - 0.5
        low, high, weight = (before, here, position + 1) if position < 0 else (here, after, position)
        phases.append(low * (1 - weight) + high * weight)
    whole = jnp.stack(phases, axis + 1).reshape(*x.shape[:axis], factor * size, *x.shape[axis + 1 :])
    return lax.slice_in_dim(whole, 0, out_size, axis=axis)


def _banded_product(x: Array, axis: int, out_size: int, step: float) -> Array:
    """The product with the interpolation's matrix, block by block: for some outputs each, the inputs that they need."""
    starts, blocks = _bands(x.shape[axis], out_size, step)
    count, width, outputs = blocks.shape
    bands = jnp.stack([lax.slice_in_dim(x, start, start + width, axis=axis) for start in starts])
    products = lax.dot_general(
        bands,
        jnp.asarray(blocks, x.dtype),
        (((axis + 1,), (1,)), ((0,), (0,))),
        precision=lax.Precision.HIGHEST,  # TPUs would round the factors to bfloat16
    )  # [blocks, ... without axis ..., outputs]
    products = jnp.moveaxis(products, (0, -1), (axis, axis + 1))
    whole = products.reshape(*x.shape[:axis], count * outputs, *x.shape[axis + 1 :])
    return lax.slice_in_dim(whole, 0, out_size, axis=axis)


@lru_cache
def _bands(size: int, out_size: int, step: float) -> tuple[list[int], np.ndarray]:
    """The first input of each block, and what its inputs weigh in its outputs: `[blocks, width, outputs]`."""
    outputs = max(1, round(BAND / max(step, 1)))
    indices, weights = linear_taps(size, out_size, step)
    ends = [(indices[0, i], indices[1, min(i + outputs, out_size) - 1]) for i in range(0, out_size, outputs)]
    width = max(int(last - first) for first, last in ends) + 1
    starts = [min(int(first), size - width) for first, _ in ends]
    blocks = np.zeros((len(starts), width, outputs))
    for tap, weight in zip(indices, weights, strict=True):
        for i in range(out_size):
            block = i // outputs
            blocks[block, tap[i] - starts[block], i % outputs] += weight[i]
    return starts, blocks


@lru_cache
def linear_taps(size: int, out_size: int, step: float) -> Taps:
    """The two neighbours of each of `out_size` positions that lie `step` pixels apart on an axis of `size` pixels."""
    position = np.maximum((np.arange(out_size) + 0.5) * step - 0.5, 0)
    low = np.minimum(position.astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    weight = np.where(high > low, position - low, 0)
    return Taps(np.stack([low, high]), np.stack([1 - weight, weight]))


@lru_cache
def _transposed_linear_taps(size: int, out_size: int, step: float) -> Taps:
    """The same matrix, transposed: for each of `size` pixels, the positions that look at it."""
    taps = linear_taps(size, out_size, step)
    matrix = np.zeros((out_size, size))
    for indices, weights in zip(*taps, strict=True):
        np.add.at(matrix, (np.arange(out_size), indices), weights)
    count = max(1, (matrix != 0).sum(0).max())
    # The positions that look at a pixel, heaviest first; where fewer than `count` do, the rest weigh nothing.
    indices = np.argsort(-matrix, axis=0, kind="stable")[:count]
    return Taps(indices, np.take_along_axis(matrix, indices, 0))


def _weighted_sum(x: Array, axis: int, taps: Taps) -> Array:
    shape = [1] * x.ndim
    shape[axis] = -1
    total = jnp.zeros((), x.dtype)
    for indices, weights in zip(*taps, strict=True):
        picked = jnp.take(x, indices, axis, mode="clip")
        total = total + picked * jnp.asarray(weights.reshape(shape), x.dtype)
    return total


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
