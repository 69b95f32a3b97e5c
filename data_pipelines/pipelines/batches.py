"""Endless batches from a function of a sample's number."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from rvm_jax.errors import InputError
from rvm_jax.host.cores import cores

# The accelerator is JAX's: TensorFlow would take all of its memory.
tf.config.set_visible_devices([], "GPU")

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Slice:
    """Which samples of a stream a host makes.

    Attributes:
        batch: Samples in a batch, over all hosts.
        start: The number of the first batch.
        host: Which of `hosts` this is. Host `i` has the `i`th of equal slices of every batch.
        hosts: How many there are.
    """

    batch: int
    start: int = 0
    host: int = 0
    hosts: int = 1

    def __post_init__(self) -> None:
        if self.batch < 1 or self.start < 0:
            raise InputError(f"batches of {self.batch} from number {self.start}: expected 1 or more, from 0 or later")
        if not 0 <= self.host < self.hosts:
            raise InputError(f"host {self.host} of {self.hosts}: expected one of 0 to {self.hosts - 1}")
        if self.batch % self.hosts:
            raise InputError(f"a batch of {self.batch} cannot be divided among {self.hosts} hosts: choose a multiple")

    @property
    def share(self) -> int:
        return self.batch // self.hosts


def from_plan(
    render: Callable[[Any], Sequence[np.ndarray]], plan: Mapping[str, Any], outputs: Mapping[str, tuple[int, int]]
) -> dict[str, tf.Tensor]:
    """Call `render` with a plan of tensors turned into NumPy arrays, as one TensorFlow operation.

    `outputs` names what it returns, uint8 [T, h, w, C], and gives each (T, C).
    """

    def call(*values: np.ndarray) -> Sequence[np.ndarray]:
        return render(tf.nest.pack_sequence_as(plan, values))

    pictures = tf.numpy_function(call, tf.nest.flatten(plan), [tf.uint8] * len(outputs), stateful=False)
    for picture, (frames, channels) in zip(pictures, outputs.values(), strict=True):
        picture.set_shape([frames, None, None, channels])
    return dict(zip(outputs, pictures, strict=True))


def batched(
    sample: Callable[[tf.Tensor], Mapping[str, tf.Tensor]], part: Slice, threads: int | None = None
) -> tf.data.Dataset:
    """Batches of `sample(number)`, in order of number, made by `threads` threads (all cores by default)."""

    @tf.autograph.experimental.do_not_convert  # our functions are plain calls of TensorFlow; nothing is to be rewritten
    def make(place: tf.Tensor) -> Mapping[str, tf.Tensor]:
        """The sample at this place among those of this host."""
        return sample(place // part.share * part.batch + part.host * part.share + place % part.share)

    threads = cores() if threads is None else threads
    if threads < 1:
        raise InputError(f"{threads} threads: expected 1 or more")
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = threads
    # Nothing here is for it to tune, and an iterator that is left can wait a minute for the thread that would.
    options.autotune.enabled = False
    return (
        tf.data.Dataset.range(part.start * part.share, tf.int64.max)
        .map(make, num_parallel_calls=threads, deterministic=True)
        .batch(part.share, drop_remainder=True)
        .prefetch(1)  # samples are made ahead too, and four streams with large batches fill a host's memory
        .with_options(options)
    )


def arrays(dataset: tf.data.Dataset) -> Iterator[Batch]:
    """The batches of a dataset as NumPy arrays; a record that is damaged is told in one line."""
    try:
        yield from dataset.as_numpy_iterator()
    except tf.errors.OpError as error:
        told = re.search(r"frame \d+ of .* is damaged: .*", error.message)
        if told is None:
            raise
        raise InputError(told[0]) from error
