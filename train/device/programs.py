"""The compiled programs of a run: one for each kind of pass and each shape of the grid, kept for the next run."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import product
from typing import Any, NamedTuple

import jax

from data_pipelines.sampling import windows
from data_pipelines.sampling.schedule import Pass, PassKind, StageData
from rvm_jax.model.network import MattingNetwork
from train.device import parallel, step
from train.recipe.recipe import Recipe, learning_rates


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
    """What it took to have a program: seconds, and whether it was compiled by an earlier run."""

    seconds: float
    from_cache: bool


_hits = 0


def _count(event: str, **_: Any) -> None:
    global _hits
    _hits += event == "/jax/compilation_cache/cache_hits"


jax.monitoring.register_event_listener(_count)


def program_key(recipe: Recipe, stages: Sequence[StageData], one: Pass) -> Key:
    """The key of a pass."""
    return _key(recipe, stages[one.stage], one.stage, one.kind, one.height, one.width)


def possible(recipe: Recipe, stages: Sequence[StageData]) -> set[Key]:
    """All programs that the run may need: no more than there are kinds of passes and sizes in the grid."""
    kinds: tuple[PassKind, ...] = ("matting_low", "matting_high", "segmentation_video", "segmentation_stills")
    found = set()
    for number, stage in enumerate(stages):
        for kind in kinds if stage.high else (kinds[0], *kinds[2:]):
            sizes = windows.sizes(stage.shape(kind).size, stage.buckets)
            if stage.iterations:
                found |= {_key(recipe, stage, number, kind, height, width) for height, width in product(sizes, sizes)}
    return found


def _key(recipe: Recipe, stage: StageData, number: int, kind: PassKind, height: int, width: int) -> Key:
    segmentation = kind.startswith("segmentation")
    ratio = recipe.stages[number].downsample_ratio if kind == "matting_high" else 1.0
    trained = learning_rates(recipe, number, 0)
    groups = tuple(group for group in step.groups(segmentation, ratio) if group in trained)
    return Key(segmentation, stage.samples(kind), stage.shape(kind).frames, height, width, ratio, groups)


class Programs:
    """Runs passes on all devices, and keeps account of the programs that were needed.

    Attributes:
        seen: The keys of the programs so far, with what it took to have each of them.
    """

    def __init__(self, network: MattingNetwork, parts: int = 1) -> None:
        """`parts`: in how many a device computes its share of a batch, one after the other."""
        self.seen: dict[Key, Compilation] = {}
        self._program = cache(partial(_program, network, parts))

    def run(
        self, key: Key, state: step.TrainState, batch: Mapping[str, jax.Array], rates: Mapping[str, float]
    ) -> tuple[step.TrainState, step.Metrics]:
        """One pass, which uses up `state`. Returns while the devices compute, but waits while they compile."""
        used = {group: rates[group] for group in key.groups}
        program = self._program(key.downsample_ratio)
        if key in self.seen:
            return program(state, batch, used)
        begin, hits = time.perf_counter(), _hits
        results = program(state, batch, used)
        self.seen[key] = Compilation(time.perf_counter() - begin, from_cache=_hits > hits)
        return results


def _program(network: MattingNetwork, parts: int, downsample_ratio: float) -> Callable[..., Any]:
    def one_pass(
        state: step.TrainState, batch: step.DeviceBatch, rates: Mapping[str, jax.Array]
    ) -> tuple[step.TrainState, step.Metrics]:
        return step.train_pass(network, state, batch, rates, downsample_ratio, parts)

    return parallel.pmap(one_pass, (0, 0, None), donated=(0,))
