"""Mattes by networks without memory: each frame by itself or smoothed over three, and with a foreground estimated."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rvm_jax.baselines.matte import BaselineMatte
from rvm_jax.foreground import estimate_foreground
from rvm_jax.video import compositing
from rvm_jax.video.hdr import to_seen
from rvm_jax.video.streaming.chunks import Chunk

ALIKE = 0.1
"""ξ: how much alphas of one pixel may differ and still agree."""

Made = dict[str, Array]


class Prediction(NamedTuple):
    """Of `[T, H, W, 3]` frames: foreground, if the network has one, and alpha `[T, H, W, 1]`, floats in 0..1."""

    foreground: Array | None
    alpha: Array


def mattes(
    matte: BaselineMatte,
    chunks: Iterator[Chunk],
    plate: np.ndarray | None,
    ratio: float | None,
    transfer: int | None,
    delay: bool,
    background: Array | None,
    kinds: tuple[str, ...],
    deep: tuple[str, ...],
) -> Iterator[tuple[Chunk, Made]]:
    """Each chunk, and what is made of it; with `delay` once the next is there.

    `plate` and `background` are for chunks that bring none of their own.
    """
    still = None if plate is None else jax.device_put(plate)

    def finished(chunk: Chunk, made: Prediction) -> tuple[Chunk, Made]:
        shown = background if chunk.background is None else chunk.background
        return chunk, finish(chunk.pixels, made, shown, kinds, deep, transfer)

    held: tuple[Chunk, Prediction] | None = None
    before: Array | None = None
    for chunk in chunks:
        pixels = jax.device_put(chunk.pixels)
        made = predict(matte, pixels, still if chunk.plate is None else chunk.plate, ratio, transfer)
        if not delay:
            yield finished(chunk, made)
            continue
        if held is not None:
            yield finished(held[0], _smoothed(held[1], before, made.alpha))
            before = held[1].alpha
        held = chunk, made
    if held is not None:
        yield finished(held[0], _smoothed(held[1], before, held[1].alpha[-1:]))


def _smoothed(made: Prediction, before: Array | None, after: Array) -> Prediction:
    before = made.alpha[:1] if before is None else before[-1:]
    return made._replace(alpha=one_frame_delay(before, made.alpha, after[:1]))


@jax.jit
def one_frame_delay(before: Array, alpha: Array, after: Array) -> Array:
    """MODNet's smoothing of alpha `[T, H, W, 1]`, with the frame before it and that after it `[1, H, W, 1]`.

    Where the frames around one agree with each other and not with it, it is their mean.
    """
    past, future = jnp.concatenate([before, alpha[:-1]]), jnp.concatenate([alpha[1:], after])
    agree = jnp.abs(past - future) <= ALIKE
    alone = agree & (jnp.abs(alpha - past) > ALIKE) & (jnp.abs(alpha - future) > ALIKE)
    return jnp.where(alone, (past + future) / 2, alpha)


@partial(jax.jit, static_argnames=("ratio", "transfer"))
def predict(
    matte: BaselineMatte,
    pixels: Array,
    plate: Array | np.ndarray | None,
    ratio: float | None = None,
    transfer: int | None = None,
) -> Prediction:
    """Of uint8 or uint16 `[T, H, W, 3]`, and a plate `[H, W, 3]` or one for each frame."""
    matte = dataclasses.replace(matte, estimate_foreground=False)  # that is `finish`, which is on the host
    frames = compositing.to_floats(pixels, matte.dtype)
    seen = frames if transfer is None else to_seen(frames, transfer)
    background = None
    if plate is not None:
        background = compositing.to_floats(jnp.asarray(plate), matte.dtype)
        background = background if background.ndim == 3 else background[None]
    result = matte(seen[None], None, ratio, background=background)
    foreground = None if result.foreground is None else jnp.asarray(result.foreground)[0]
    return Prediction(foreground, result.alpha[0])


def finish(
    pixels: np.ndarray,
    made: Prediction,
    background: Array | np.ndarray | None,
    kinds: tuple[str, ...],
    deep: tuple[str, ...] = (),
    transfer: int | None = None,
) -> Made:
    """The pictures of each kind: see `compositing.pictures`. A foreground that is missing is estimated, on the host."""
    foreground: Array | np.ndarray | None = made.foreground
    if foreground is None and kinds != ("alpha",):
        frames = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
        alphas = np.asarray(made.alpha, np.float32)
        foreground = np.stack([estimate_foreground(*each) for each in zip(frames, alphas, strict=True)])
    return _pictures(pixels, foreground, made.alpha, background, kinds, deep, transfer)


def check(matte: BaselineMatte, size: tuple[int, int], ratio: float | None) -> None:
    """Refuse frames and a ratio that the network does not take, before anything is computed."""
    pixels = jax.ShapeDtypeStruct((1, *size, 3), np.uint8)
    plate = jax.ShapeDtypeStruct((*size, 3), np.uint8) if matte.needs else None
    jax.eval_shape(partial(predict, ratio=ratio), matte, pixels, plate)


@partial(jax.jit, static_argnames=("kinds", "deep", "transfer"))
def _pictures(
    pixels: Array,
    foreground: Array | None,
    alpha: Array,
    background: Array | None,
    kinds: tuple[str, ...],
    deep: tuple[str, ...],
    transfer: int | None,
) -> Made:
    frames = compositing.to_floats(pixels, alpha.dtype)
    foreground = foreground if foreground is None else foreground.astype(alpha.dtype)
    return compositing.pictures(frames, foreground, alpha, background, kinds, deep, transfer)
