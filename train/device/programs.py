"""Compiled programs: one for each kind of pass and each shape of its batch, compiled when it is first needed.

Which ones a run may need is for `train.run.program_keys` to say; here shapes are numbers.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax

from rvm_jax.model.network import MattingNetwork
from train.device import parallel, step

CACHE_HIT = "/jax/compilation_cache/cache_hits"
"""What JAX's monitoring calls a program that an earlier run has compiled."""


class Key(NamedTuple):
    """What tells programs apart: passes with equal keys share one."""

    segmentation: bool
    samples: int
    frames: int
    height: int
    width: int
    downsample_ratio: float
    groups: tuple[str, ...]


class Compilation(NamedTuple):
    """What it took to have a program: seconds, and whether it came from the compilation cache."""

    seconds: float
    from_cache: bool


class Programs:
    """Runs passes on all devices, and keeps account of the programs that were needed.

    Attributes:
        compilations: What it took to have each of the programs so far.
    """

    def __init__(self, network: MattingNetwork, parts: int = 1) -> None:
        """`parts`: in how many a device computes its share of a batch, one after the other."""
        self.compilations: dict[Key, Compilation] = {}
        self._network = network
        self._parts = parts

    def run(
        self, key: Key, state: step.TrainState, batch: Mapping[str, jax.Array], rates: Mapping[str, float]
    ) -> tuple[step.TrainState, step.Metrics]:
        """One pass, which uses up `state`. Returns while the devices compute, but waits while they compile."""
        used = {group: rates[group] for group in key.groups}
        program = _program(self._network, self._parts, key.downsample_ratio)
        if key in self.compilations:
            return program(state, batch, used)
        begin = time.perf_counter()
        with _cache_hits() as hits:
            results = program(state, batch, used)
        self.compilations[key] = Compilation(time.perf_counter() - begin, from_cache=bool(hits))
        return results


@cache
def _program(network: MattingNetwork, parts: int, downsample_ratio: float) -> Callable[..., Any]:
    """A pass as a function of all devices. All runs of a process share it; JAX compiles it for each shape."""

    def train_pass(
        state: step.TrainState, batch: step.DeviceBatch, rates: Mapping[str, jax.Array]
    ) -> tuple[step.TrainState, step.Metrics]:
        return step.train_pass(network, state, batch, rates, downsample_ratio, parts)

    return parallel.pmap(train_pass, (0, 0, None), donated=(0,))


@contextlib.contextmanager
def _cache_hits() -> Iterator[list[str]]:
    """A list that grows by one for each program that JAX loads from the compilation cache in the block.

    `pmap(...).lower().compile()` would tell as much, but in JAX 0.10 it knows the devices of one host alone.
    """
    hits: list[str] = []

    def listen(event: str, **_: Any) -> None:
        if event == CACHE_HIT:
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(listen)
