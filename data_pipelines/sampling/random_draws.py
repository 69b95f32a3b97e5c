"""Random draws without a generator: each is a function of (seed, stream, index) and its own name alone.

A sample's number says all about it, so any sample can be made first, again, or on another host. Because a draw is keyed
by its name, a new augmentation leaves the draws of all others as they were.
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

Drawn = Mapping[str, tf.Tensor]
"""What was drawn for one augmentation of a clip: scalars and small vectors of TensorFlow, or of NumPy."""


class Position(NamedTuple):
    """Where a sample stands: the `index`th (an int64 scalar) of `stream` in a run with this `seed`."""

    seed: int
    stream: str
    index: tf.Tensor


def key(at: Position, name: str) -> tf.Tensor:
    """The seed of TensorFlow's stateless operations for the draw `name`: int64 [2]."""
    return tf.stack([tf.constant(_label(at.seed, at.stream, name), tf.int64), tf.cast(at.index, tf.int64)])


def uniform(at: Position, name: str, low: float, high: float, shape: tuple[int, ...] = ()) -> tf.Tensor:
    """float32 in [low, high)."""
    return tf.random.stateless_uniform(shape, key(at, name), low, high)


def normal(at: Position, name: str, deviation: float, shape: tuple[int, ...] = ()) -> tf.Tensor:
    """float32 around 0."""
    return tf.random.stateless_normal(shape, key(at, name), 0.0, deviation)


def integer(at: Position, name: str, end: int | tf.Tensor, shape: tuple[int, ...] = ()) -> tf.Tensor:
    """int64 in 0 .. end − 1; `end` is at least 1."""
    return tf.random.stateless_uniform(shape, key(at, name), tf.constant(0, tf.int64), tf.cast(end, tf.int64), tf.int64)


def happens(at: Position, name: str, probability: float, shape: tuple[int, ...] = ()) -> tf.Tensor:
    """bool, true with this probability."""
    return tf.random.stateless_uniform(shape, key(at, name)) < probability


def item(at: Position, count: int) -> tf.Tensor:
    """Which of `count` items has its turn: every item once an epoch, in an order of the epoch's own."""
    epoch = key(at._replace(index=at.index // count), "order")
    return tf.random.experimental.index_shuffle(at.index % count, epoch, count - 1)


def _label(*parts: object) -> int:
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
