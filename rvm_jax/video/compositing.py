"""Compositing: from the network's output to pictures of 8 or 16 bits, on the device, by pure functions of arrays.

Foreground and frames are `[T, H, W, 3]`, alpha `[T, H, W, 1]`, floats in 0..1.
"""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from rvm_jax.model.resize import resize_axis
from rvm_jax.video.hdr import from_srgb

BLUR_SIDE = 64
"""How many pixels the short side of a frame has while it is blurred."""

BLUR_REACH = 3

BLEED_STEP = 8
"""How many pixels a block has by which colours go outward; they reach three of them."""


def to_integers(x: Array, dtype: DTypeLike = jnp.uint8) -> Array:
    """Floats in 0..1 to whole numbers from 0 to the most that `dtype` holds, rounded."""
    return jnp.round(x * jnp.iinfo(dtype).max).astype(dtype)


def to_floats(x: Array, dtype: DTypeLike) -> Array:
    """Whole numbers of 8 or 16 bits to floats in 0..1."""
    return x.astype(dtype) / jnp.iinfo(x.dtype).max


def pictures(
    frames: Array,
    foreground: Array | None,
    alpha: Array,
    background: Array | None,
    kinds: tuple[str, ...],
    deep: tuple[str, ...] = (),
    transfer: int | None = None,
) -> dict[str, Array]:
    """`[T, H, W, C]` of each kind (see `rvm_jax.video.matting.CHANNELS`), uint16 of those that are `deep`, else uint8.

    `background` is uint8 or uint16 and broadcasts to the frames; without one it is the frames' own, blurred. With a
    `transfer` frames and foreground are HDR, and so is what is made. Alpha alone needs no foreground.
    """
    types = {kind: jnp.uint16 if kind in deep else jnp.uint8 for kind in kinds}
    made = {"alpha": to_integers(alpha, types["alpha"])} if "alpha" in kinds else {}
    if kinds == ("alpha",):
        return made
    assert foreground is not None
    if "cut_out" in kinds:
        made["cut_out"] = cut_out(foreground, alpha, types["cut_out"])
    composites = [kind for kind in ("composite", "view") if kind in kinds]
    if composites:
        if background is None:
            behind = blurred(frames, alpha)
        else:
            behind = to_floats(background, frames.dtype)
            behind = behind if transfer is None else from_srgb(behind, transfer)
        made |= {kind: composite(foreground, alpha, behind, types[kind]) for kind in composites}
    if "foreground" in kinds:
        made["foreground"] = to_integers(foreground, types["foreground"])
    return made


def cut_out(foreground: Array, alpha: Array, dtype: DTypeLike = jnp.uint8) -> Array:
    """`[T, H, W, 4]`, straight alpha. Where it is 0, nothing of what was removed can be seen.

    Near people their colours go on there, and further off it is black: who scales such a picture or stores it with
    colours at half size mixes them in.
    """
    stored = _made_once(jnp.concatenate([to_integers(foreground, dtype), to_integers(alpha, dtype)], -1))
    around = _words(_bled(to_floats(stored, foreground.dtype), dtype))
    for axis in (2, 1):
        around = jnp.repeat(around, BLEED_STEP, axis)
    _, height, width, _ = stored.shape
    chosen = jnp.where(stored[..., 3:] > 0, _words(stored), around[:, :height, :width])
    return lax.bitcast_convert_type(chosen, dtype).reshape(stored.shape)


def composite(foreground: Array, alpha: Array, background: Array, dtype: DTypeLike = jnp.uint8) -> Array:
    """In front of `background`, floats that broadcast to `[T, H, W, 3]`: `[T, H, W, 3]`."""
    made = _made_once(jnp.concatenate([foreground, alpha], -1))
    foreground, alpha = made[..., :3], made[..., 3:]
    return to_integers(foreground * alpha + background * (1 - alpha), dtype)


def _made_once(x: Array) -> Array:
    """On CPUs, a barrier: else the network's last layer is computed anew for each use (`benchmarks/RESULTS.md`)."""
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda x: x)


def _bled(cut_out: Array, dtype: DTypeLike) -> Array:
    """The mean colours of people in the blocks around them, of floats, and alpha 0: `[T, ⌈H/8⌉, ⌈W/8⌉, 4]`."""
    colors, alpha = cut_out[..., :3], cut_out[..., 3:]
    near = _smooth(_block_mean(jnp.concatenate([colors * alpha, alpha], -1), BLEED_STEP))
    return jnp.pad(to_integers(near[..., :3] / jnp.maximum(near[..., 3:], 1e-6), dtype), ((0, 0),) * 3 + ((0, 1),))


def _words(pixels: Array) -> Array:
    """uint8 or uint16 `[T, H, W, 4]` as one or two uint32 a pixel, which CPUs choose and repeat in half the time."""
    size = pixels.dtype.itemsize
    return lax.bitcast_convert_type(pixels.reshape(*pixels.shape[:3], size, 4 // size), jnp.uint32)


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
    lines = x.reshape(count, rows, step, columns * step * channels).mean(2)  # whole rows are added: half the time
    return lines.reshape(count, rows, columns, step, channels).mean(3)


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
