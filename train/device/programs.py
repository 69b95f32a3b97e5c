"""Programs compiled ahead: one for each kind of pass and each shape of its batch, several at a time.

Which ones a run needs is for `train.run.program_keys` to say; here shapes are numbers.
"""

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from rvm_jax.host.cores import cores
from rvm_jax.model.platforms import tracing_for
from train.device import optimizer, parallel, step

CACHE_HIT = "/jax/compilation_cache/cache_hits"
"""What JAX's monitoring calls a program that an earlier run has compiled."""
AT_ONCE = min(8, cores())
"""Programs that are compiled at a time: XLA keeps a core or two busy with each, and some GB of memory."""


class Key(NamedTuple):
    """What tells programs apart: passes with equal keys share one."""

    segmentation: bool
    samples: int
    frames: int
    height: int
    width: int
    downsample_ratio: float
    groups: tuple[str, ...]

    @property
    def pixels(self) -> int:
        """Of a batch, by which programs are ordered."""
        return self.samples * self.frames * self.height * self.width

    def describe(self) -> str:
        """The program in a few words for a person."""
        kind = "segmentation" if self.segmentation else "matting"
        seen = "" if self.downsample_ratio == 1 else f" at {self.downsample_ratio:g}"
        return f"{kind} of {self.samples} × {self.frames} × {self.width}x{self.height}{seen}"


class Compilation(NamedTuple):
    """A program, and what it took to have it: seconds, and whether it came from the compilation cache."""

    program: parallel.Program
    seconds: float
    from_cache: bool


class Programs:
    """The programs of a run's passes.

    Attributes:
        network: What is trained.
        parts: In how many a device computes its share of a batch, one after the other.
        how: What becomes of gradients and weights.
        compiled: Those that there are so far.
    """

    def __init__(self, network: Any, parts: int = 1, how: optimizer.Update = optimizer.ADAM) -> None:
        self.network = network
        self.parts = parts
        self.how = how
        self.compiled: dict[Key, Compilation] = {}

    def compile(self, keys: Sequence[Key], state: step.TrainState) -> Generator[Key]:
        """Compile what there is not yet, several at a time; gives each, in this order, once it is there.

        `state` is that on the devices, or its shapes. What is left when the iterator is closed is not begun any more.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            begun = {key: pool.submit(self._compile, key, state) for key in keys if key not in self.compiled}
            try:
                for key, compilation in begun.items():
                    self.compiled[key] = compilation.result()
                    yield key
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def run(
        self, key: Key, state: step.TrainState, batch: Mapping[str, jax.Array], rates: Mapping[str, float]
    ) -> tuple[step.TrainState, step.Metrics]:
        """One pass, which uses up `state`. Returns while the devices compute; compiles what was not compiled ahead."""
        if key not in self.compiled:
            self.compiled[key] = self._compile(key, state, batch)
        return self.compiled[key].program(state, batch, {group: rates[group] for group in key.groups})

    def _compile(
        self, key: Key, state: step.TrainState, batch: Mapping[str, jax.Array | jax.ShapeDtypeStruct] | None = None
    ) -> Compilation:
        name = (self.network, self.parts, self.how, key, jax.local_device_count())
        if batch is None and name in _COMPILED:
            return _COMPILED[name]._replace(seconds=0.0, from_cache=True)
        begin = time.perf_counter()
        rates = dict.fromkeys(key.groups, 0.0)
        with _CacheHits() as hits, tracing_for(jax.local_devices()[0].platform):
            function = _pass(self.network, self.parts, self.how, key.downsample_ratio)
            program = parallel.Program(function, state, batch or _batch_shapes(self.network, key), rates)
        compilation = Compilation(program, time.perf_counter() - begin, bool(hits.count))
        if batch is None:
            _COMPILED[name] = compilation
        return compilation


_COMPILED: dict[tuple[Any, int, optimizer.Update, Key, int], Compilation] = {}
"""What all runs of a process share."""


@cache
def _pass(network: Any, parts: int, how: optimizer.Update, downsample_ratio: float) -> Callable[..., Any]:
    """A pass as a function of all devices."""

    def train_pass(
        state: step.TrainState, batch: step.DeviceBatch, rates: Mapping[str, jax.Array]
    ) -> tuple[step.TrainState, step.Metrics]:
        return step.train_pass(network, state, batch, rates, downsample_ratio, parts, how)

    return parallel.pmap(train_pass, (0, 0, None), donated=(0,))


def _batch_shapes(network: Any, key: Key) -> dict[str, jax.ShapeDtypeStruct]:
    """Of a batch as the input pipeline makes it."""
    clips = (key.samples, key.frames, key.height, key.width)
    layers = step.layers(network, key.segmentation)
    return parallel.shapes_of_shards({name: (*clips, count) for name, count in layers.items()}, np.uint8)


class _CacheHits:
    """How many programs JAX loads from the compilation cache in the block, in this thread."""

    def __enter__(self) -> Self:
        self.count = 0
        self._thread = threading.get_ident()
        jax.monitoring.register_event_listener(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_listener(self._listen)

    def _listen(self, event: str, **_: Any) -> None:
        self.count += event == CACHE_HIT and threading.get_ident() == self._thread
