"""Endless batches: with tf.data a sample's number becomes a plan, of which workers make the pixels with NumPy.

The plans are all that passes through tf.data, and through the interpreter of this process. The pixels lie from the
first in the memory of their batch, so nothing copies them before they go to the devices.
"""

import collections
import contextlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from data_pipelines.pipelines import samples
from data_pipelines.pipelines.samples import Plan, Render
from data_pipelines.pipelines.workers import PendingBatch, Workers
from rvm_jax.errors import InputError

# The accelerator is JAX's: TensorFlow would take all of its memory.
tf.config.set_visible_devices([], "GPU")

Batch = dict[str, np.ndarray]
DRAWING = 2
"""Threads that draw the plans of a stream."""


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
    """Endless batches of one host; `arrays` makes them.

    Attributes:
        plans: What is drawn for their samples, that of a batch at a time.
        render: Makes the pixels of a sample.
        outputs: The names of its layers, uint8 [T, h, w, C], with (T, C) of each.
    """

    plans: tf.data.Dataset
    render: Render
    outputs: Mapping[str, tuple[int, int]]


def batched(
    plan: Callable[[tf.Tensor], Plan], render: Render, outputs: Mapping[str, tuple[int, int]], part: Slice
) -> Batches:
    """Batches of what `render` makes of `plan(number)`, in order of number.

    `plan` gives tensors, `height` and `width` of the batch among them; `render` takes NumPy arrays.
    """

    @tf.autograph.experimental.do_not_convert  # our functions are plain calls of TensorFlow; nothing is to be rewritten
    def drawn(place: tf.Tensor) -> Plan:
        """The plan of the sample at this place among those of this host."""
        return plan(part.number(place))

    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = DRAWING
    # Nothing here is for it to tune, and an iterator that is left can wait a minute for the thread that would.
    options.autotune.enabled = False
    plans = (
        tf.data.Dataset.range(part.start * part.share, tf.int64.max)
        .map(drawn, num_parallel_calls=DRAWING, deterministic=True)
        .batch(part.share, drop_remainder=True)
        .prefetch(1)
        .with_options(options)
    )
    return Batches(plans, render, outputs)


def arrays(batches: Batches, workers: Workers | None = None) -> Generator[Batch]:
    """The batches as NumPy arrays, made by `workers`; by default, by threads of this process, one a core.

    Some are made ahead. For a record that is damaged, raises the `InputError` that names it.
    """
    with contextlib.ExitStack() as stack:
        makers = workers or stack.enter_context(Workers(processes=0))
        pending: collections.deque[PendingBatch] = collections.deque()
        stack.callback(makers.abandon, pending)
        stream = makers.stream(batches.render)
        plans = iter(batches.plans.as_numpy_iterator())
        drawn = next(plans, None)
        while drawn or pending:
            while drawn and (not pending or makers.has_room(len(pending), _shapes(batches, drawn))):
                pending.append(makers.begin(stream, drawn, _shapes(batches, drawn)))
                drawn = next(plans, None)
            # No name here keeps the batch, so that its memory is free as soon as it is used.
            yield dict(zip(batches.outputs, makers.finish(pending), strict=True))


def _shapes(batches: Batches, plans: Plan) -> samples.Shapes:
    """The shapes of a batch's layers."""
    count, height, width = len(plans["height"]), int(plans["height"][0]), int(plans["width"][0])
    return [(count, frames, height, width, channels) for frames, channels in batches.outputs.values()]
