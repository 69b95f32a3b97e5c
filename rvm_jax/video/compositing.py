"""Compositing: from the network's output to pictures of 8 bits, on the device, by pure functions of arrays.

Foreground and frames are `[T, H, W, 3]`, alpha `[T, H, W, 1]`, floats in 0..1.
"""

import jax.numpy as jnp
from jax import Array

from rvm_jax.model.resize import resize_axis

BLUR_SIDE = 64
"""How many pixels the short side of a frame has while it is blurred."""

BLUR_REACH = 3


def to_uint8(x: Array) -> Array:
    """Floats in 0..1 to whole numbers in 0..255, rounded."""
    return jnp.round(x * 255).astype(jnp.uint8)


def cut_out(foreground: Array, alpha: Array) -> Array:
    """`[T, H, W, 4]`, straight alpha. Where it is 0 there is no colour, so nothing of what was removed can be seen."""
    alpha_bytes = to_uint8(alpha)
    colors = jnp.where(alpha_bytes > 0, to_uint8(foreground), jnp.uint8(0))
    return jnp.concatenate([colors, alpha_bytes], -1)


def composite(foreground: Array, alpha: Array, background: Array) -> Array:
    """In front of `background`, floats that broadcast to `[T, H, W, 3]`: uint8 `[T, H, W, 3]`."""
    return to_uint8(foreground * alpha + background * (1 - alpha))


def blurred(frames: Array, alpha: Array) -> Array:
    """The frames without sharpness, and without the people: the colours around them take their place."""
    _, height, width, _ = frames.shape
    step = max(1, round(min(height, width) / BLUR_SIDE))
    around = jnp.concatenate([frames * (1 - alpha), 1 - alpha], -1)  # [T, H, W, 4]
    small = _smooth(_block_mean(around, step))
    plain = _smooth(_block_mean(frames, step))
    little = jnp.asarray(1e-3, frames.dtype)  # decides where there is nobody but people
    colors = (small[..., :3] + little * plain) / (small[..., 3:] + little)
    rows, columns = -(-height // step) * step, -(-width // step) * step
    return resize_axis(resize_axis(colors, 2, columns), 1, rows)[:, :height, :width]


def _block_mean(x: Array, step: int) -> Array:
    """Mean of blocks of step×step pixels, edges repeated: `[T, H, W, C]` → `[T, ⌈H/step⌉, ⌈W/step⌉, C]`."""
    count, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, -height % step), (0, -width % step), (0, 0)), "edge")
    rows, columns = x.shape[1] // step, x.shape[2] // step
    return x.reshape(count, rows, step, columns, step, channels).mean((2, 4))


def _smooth(x: Array) -> Array:
    """A Gaussian of about `BLUR_REACH` / 2 pixels, edges repeated."""
    offsets = jnp.arange(-BLUR_REACH, BLUR_REACH + 1, dtype=x.dtype)
    weights = jnp.exp(-(offsets**2) / (2 * (BLUR_REACH / 2) ** 2))
    weights = weights / weights.sum()
    for axis in (1, 2):
        padding = [(0, 0)] * x.ndim
        padding[axis] = (BLUR_REACH, BLUR_REACH)
        padded, size = jnp.pad(x, padding, "edge"), x.shape[axis]
        x = sum(
            (weights[i] * jnp.take(padded, jnp.arange(i, i + size), axis=axis) for i in range(2 * BLUR_REACH + 1)),
            start=jnp.zeros_like(x),
        )
    return x
