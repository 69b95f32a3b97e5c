"""What the stages of a run cost: the time of an iteration of each, on these devices and with these data."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import accumulate, islice

import jax
import numpy as np

from data_pipelines.pipelines.workers import Workers
from data_pipelines.sampling import schedule, windows
from data_pipelines.sampling.schedule import Pass, StageData
from train.check import overfit
from train.check.findings import Finding
from train.device import parallel, step
from train.device.programs import Key, Programs
from train.device.step import TrainState
from train.recipe.recipe import Recipe
from train.run import input_pipeline
from train.run.program_keys import program_key

TIMED = 2
"""Passes of each kind, after one that is not."""
FED = 4
"""Iterations whose batches are made, after those that were made ahead."""
LONG = 600.0
"""Seconds from which on a CPU says how many it will take."""
MOST_WAITING = 1.1
"""Of the time of the devices, that data may take."""


def forecast(recipe: Recipe, stages: Sequence[StageData], seconds_a_pixel: float) -> Iterator[Finding]:
    """A note if learning and timing take long, where a pixel that the network sees takes so many seconds."""
    keys = [
        program_key(recipe, stages, one)
        for begin in _begins(stages)
        for iteration in _looked_at(stages, begin)
        for one in schedule.passes(stages, recipe.seed, iteration)
    ]
    seen = [key.pixels * key.downsample_ratio**2 for key in keys]
    seconds = seconds_a_pixel * ((1 + TIMED) * sum(seen) + overfit.STEPS * seen[0])
    if seconds > LONG:
        yield Finding(
            "note",
            f"on this CPU, what follows takes {_duration(seconds / 3600)} or more: a GPU takes minutes; for a quick "
            "look give --batch 1, and smaller --stages.N.frames, --stages.N.size and --stages.N.high-size",
        )


def measure(
    recipe: Recipe,
    stages: Sequence[StageData],
    sources: Sequence[input_pipeline.AnySources],
    programs: Programs,
    state: TrainState,
    workers: Workers,
) -> Iterator[Finding]:
    """A finding for each stage, and one for all. `state` is on the devices, and used up."""
    total = 0.0
    for begin in _begins(stages):
        number, _ = schedule.stage_of(stages, begin)
        iterations = stages[number].iterations
        state, devices = _devices(recipe, stages, begin, programs, state)
        data = _data(recipe, stages, sources, begin, workers)
        hours = iterations * max(devices, data) / 3600
        total += hours
        text = (
            f"stage {number + 1}: {iterations} iterations of {devices:.3g} s on the devices, whose data take "
            f"{data:.3g} s: {_duration(hours)}"
        )
        waits = data > MOST_WAITING * devices
        yield Finding("note" if waits else "fine", text + ("; the devices will wait for data" if waits else ""))
    yield Finding("fine", f"all stages: {_duration(total)}, without validation, checkpoints and compiling")


def _devices(
    recipe: Recipe, stages: Sequence[StageData], begin: int, programs: Programs, state: TrainState
) -> tuple[TrainState, float]:
    """Seconds of the devices for an iteration of the stage that begins there, on the average of its shapes."""
    seconds, looked = 0.0, _looked_at(stages, begin)
    for one in (one for iteration in looked for one in schedule.passes(stages, recipe.seed, iteration)):
        key = program_key(recipe, stages, one)
        shards, times = _nothing(key, programs), []
        for _ in range(1 + TIMED):
            start = time.perf_counter()
            state, metrics = programs.run(key, state, shards, dict.fromkeys(key.groups, 0.0))
            parallel.read_back(metrics)
            times.append(time.perf_counter() - start)
        seconds += min(times[1:]) * _average_pixels(stages, one) / (one.height * one.width)
    return state, seconds / len(looked)


def _begins(stages: Sequence[StageData]) -> list[int]:
    """The iterations with which stages begin, but for those that are skipped."""
    lengths = [stage.iterations for stage in stages]
    return [end - length for end, length in zip(accumulate(lengths), lengths, strict=True) if length]


def _looked_at(stages: Sequence[StageData], begin: int) -> range:
    """An even and an odd iteration of the stage that begins there, if it has two."""
    return range(begin, begin + min(2, stages[schedule.stage_of(stages, begin)[0]].iterations))


def _data(
    recipe: Recipe,
    stages: Sequence[StageData],
    sources: Sequence[input_pipeline.AnySources],
    begin: int,
    workers: Workers,
) -> float:
    """Seconds that the host takes for the batches of an iteration."""
    with closing(input_pipeline.feed(recipe, stages, sources, begin, workers=workers)) as feed:
        times = []
        for _, passes in islice(feed, 2 * FED):
            for _ in passes:
                pass
            times.append(time.perf_counter())
    late = times[len(times) // 2 :]
    return (late[-1] - late[0]) / max(len(late) - 1, 1)


def _nothing(key: Key, programs: Programs) -> dict[str, jax.Array]:
    """A batch of black pictures, on the devices."""
    clips = (key.samples, key.frames, key.height, key.width)
    layers = step.layers(programs.network, key.segmentation)
    return parallel.shard({name: np.zeros((*clips, count), np.uint8) for name, count in layers.items()}, programs.parts)


def _average_pixels(stages: Sequence[StageData], one: Pass) -> float:
    stage = stages[one.stage]
    return float(np.mean(windows.sizes(stage.shape(one.kind).size, stage.buckets))) ** 2


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
