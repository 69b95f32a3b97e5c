"""Windows of frames: which frames of which clip a sample is made of, and at what shape its step runs.

Both are functions of the sample's position alone.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_pipelines.records.clips import Clips
from data_pipelines.sampling import random_draws
from rvm_jax.errors import InputError

SPEEDS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
BUCKETS = 4
SMALLEST = 16
"""The side of the smallest square that a batch's shape may be cut from."""


class Windows(NamedTuple):
    """Stretches of clips, an entry each: where its clip begins (a frame number), how long that is, where it starts."""

    first: np.ndarray
    length: np.ndarray
    start: np.ndarray


def windows(clips: Clips, stride: int) -> Windows:
    """Windows that start at frames 0, `stride`, 2 · `stride` … of every clip; the last one may reach over its end."""
    counts = -(-clips.lengths // stride)
    clip = np.repeat(np.arange(len(clips)), counts)
    number = np.arange(len(clip)) - np.repeat(np.cumsum(counts) - counts, counts)  # of the window in its clip
    return Windows(clips.firsts[clip], clips.lengths[clip], number * stride)


def take(table: Windows, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """First, length and start of the window `index`."""
    first, length, start = (tf.gather(tf.constant(column, tf.int64), index) for column in table)
    return first, length, start


def in_order(first: tf.Tensor, length: tf.Tensor, start: tf.Tensor, frames: int) -> tf.Tensor:
    """The numbers of `frames` frames of a clip from `start`; what reaches over its end goes on at its beginning."""
    return first + (start + tf.range(frames, dtype=tf.int64)) % length


def varied(
    at: random_draws.Position, who: str, first: tf.Tensor, length: tf.Tensor, start: tf.Tensor, frames: int
) -> tf.Tensor:
    """As `in_order`, at a random speed, shifted by less than the window, and half the time backwards."""
    speed = tf.gather(tf.constant(SPEEDS), random_draws.integer(at, f"{who} speed", len(SPEEDS)))
    shift = random_draws.integer(at, f"{who} shift", frames)
    steps = tf.cast(tf.floor(tf.range(frames, dtype=tf.float32) * speed), tf.int64)
    numbers = first + (start + shift + steps) % length
    return tf.where(random_draws.happens(at, f"{who} backwards", 0.5), numbers[::-1], numbers)


def background(at: random_draws.Position, images: Clips, clips: Clips, frames: int, *, vary: bool = True) -> tf.Tensor:
    """A still image repeated or, half the time, a stretch of a clip, `varied` or in order.

    The frames' numbers, int64 [T], count in `images`, then in `clips`.
    """
    if len(images) + len(clips) == 0:
        raise ValueError("there is no background: neither an image nor a clip")

    def still() -> tf.Tensor:
        return tf.repeat(random_draws.integer(at, "background image", images.frames), frames)

    def moving() -> tf.Tensor:
        which = random_draws.integer(at, "background clip", len(clips))
        first = tf.gather(tf.constant(clips.firsts + images.frames), which)
        length = tf.gather(tf.constant(clips.lengths), which)
        start = random_draws.integer(at, "background start", tf.maximum(tf.constant(1, tf.int64), length - frames))
        if vary:
            return varied(at, "background", first, length, start, frames)
        return in_order(first, length, start, frames)

    if not len(images) or not len(clips):
        return still() if len(images) else moving()
    return tf.where(random_draws.happens(at, "background is an image", 0.5), still(), moving())


def sizes(size: int, buckets: int = BUCKETS) -> tuple[int, ...]:
    """The heights and widths that a step at square size `size` may have: an even grid over size/2 .. size − 1.

    Each is the middle of its bucket, so the mean is what it would be if every size were allowed. Without buckets it is
    `size` alone.
    """
    if buckets < 0:
        raise InputError(f"{buckets} buckets of sizes: expected 0 or more")
    if size < SMALLEST:
        raise InputError(f"a square of {size} pixels: expected {SMALLEST} or more")
    if not buckets:
        return (size,)
    return tuple(size // 2 + (2 * bucket + 1) * size // (4 * buckets) for bucket in range(buckets))


def shape(
    seed: int, stream: str, batch: tf.Tensor | int, size: int, buckets: int = BUCKETS
) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of a batch: int64, independent of each other, the same on every host."""
    at = random_draws.Position(seed, stream, tf.cast(batch, tf.int64))
    grid = sizes(size, buckets)
    height, width = (
        tf.gather(tf.constant(grid, tf.int64), random_draws.integer(at, name, len(grid)))
        for name in ("height", "width")
    )
    return height, width
