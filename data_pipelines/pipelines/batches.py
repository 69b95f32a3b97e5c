"""Endless batches with tf.data: a sample's number becomes a plan, and NumPy makes the pixels of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from rvm_jax.errors import InputError
from rvm_jax.host.cores import cores

# The accelerator is JAX's: TensorFlow would take all of its memory.
tf.config.set_visible_devices([], "GPU")

Batch = dict[str, np.ndarray]
Plan = Mapping[str, Any]
"""All that is drawn for one clip, as tensors or, to make its pixels, as NumPy arrays."""


@dataclass(frozen=True)
class Slice:
    """Which samples of a stream a host makes.

    Attributes:
        batch: Samples in a batch, over all hosts.
        start: The number of the first batch.
        host: Which of `hosts` this is. Host `i` has the `i`th of equal slices of every part of a batch.
        hosts: How many there are.
        parts: How many equal parts a batch has, of samples that follow each other: the same for any number of hosts.
    """

    batch: int
    start: int = 0
    host: int = 0
    hosts: int = 1
    parts: int = 1

    def __post_init__(self) -> None:
        if self.batch < 1 or self.start < 0:
            raise InputError(f"batches of {self.batch} from number {self.start}: expected 1 or more, from 0 or later")
        if not 0 <= self.host < self.hosts:
            raise InputError(f"host {self.host} of {self.hosts}: expected one of 0 to {self.hosts - 1}")
        if self.batch % (self.hosts * self.parts):
            parts = f", in {self.parts} parts each" if self.parts > 1 else ""
            raise InputError(
                f"a batch of {self.batch} cannot be divided among {self.hosts} hosts{parts}: choose a multiple"
            )

    @property
    def share(self) -> int:
        return self.batch // self.hosts

    def number(self, place: tf.Tensor) -> tf.Tensor:
        """The number in the stream of the sample at this place among those of this host."""
        part, share = self.batch // self.parts, self.share // self.parts
        return place // share * part + self.host * share + place % share


@dataclass(frozen=True, eq=False)
class Batches:
    """Endless batches of one host; `arrays` gives them.

    Attributes:
        dataset: The pipeline of tf.data.
        errors: What was wrong with a sample, by its number. TensorFlow passes on no more than the text of an exception.
    """

    dataset: tf.data.Dataset
    errors: dict[int, InputError] = field(default_factory=dict)


def batched(
    plan: Callable[[tf.Tensor], Plan],
    render: Callable[[Plan], Sequence[np.ndarray]],
    outputs: Mapping[str, tuple[int, int]],
    part: Slice,
    threads: int | None = None,
) -> Batches:
    """Batches of `render(plan(number))`, in order of number, made by `threads` threads (all cores by default).

    `plan` gives tensors, `render` takes NumPy arrays. `outputs` names what `render` returns, uint8 [T, h, w, C], and
    gives each (T, C).
    """
    errors: dict[int, InputError] = {}

    @tf.autograph.experimental.do_not_convert  # our functions are plain calls of TensorFlow; nothing is to be rewritten
    def sample(place: tf.Tensor) -> Mapping[str, tf.Tensor]:
        """The sample at this place among those of this host."""
        number = part.number(place)
        drawn = plan(number)

        def pixels(number: np.ndarray, *values: np.ndarray) -> Sequence[np.ndarray]:
            try:
                return render(tf.nest.pack_sequence_as(drawn, values))
            except InputError as error:
                errors[int(number)] = error
                raise

        # As one operation.
        pictures = tf.numpy_function(
            pixels, [number, *tf.nest.flatten(drawn)], [tf.uint8] * len(outputs), stateful=False
        )
        for picture, (frames, channels) in zip(pictures, outputs.values(), strict=True):
            picture.set_shape([frames, None, None, channels])
        return dict(zip(outputs, pictures, strict=True))

    threads = cores() if threads is None else threads
    if threads < 1:
        raise InputError(f"{threads} threads: expected 1 or more")
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = threads
    # Nothing here is for it to tune, and an iterator that is left can wait a minute for the thread that would.
    options.autotune.enabled = False
    dataset = (
        tf.data.Dataset.range(part.start * part.share, tf.int64.max)
        .map(sample, num_parallel_calls=threads, deterministic=True)
        .batch(part.share, drop_remainder=True)
        .prefetch(1)  # samples are made ahead too, and four streams with large batches fill a host's memory
        .with_options(options)
    )
    return Batches(dataset, errors)


def arrays(batches: Batches) -> Iterator[Batch]:
    """The batches as NumPy arrays. For a record that is damaged, raises the `InputError` that names it."""
    try:
        yield from batches.dataset.as_numpy_iterator()
    except tf.errors.OpError as error:
        if not batches.errors:
            raise
        # Samples come in order, so that the first is the one that TensorFlow stopped at. Nothing may keep a traceback
        # with the iterator in it: where one is left when Python ends, it often does not end.
        first = batches.errors[min(batches.errors)]
        batches.errors.clear()
        raise first from error.with_traceback(None)
