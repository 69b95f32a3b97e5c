"""Benchmark of the matting pipeline: how fast it is here, and where its time goes."""

import contextlib
import functools
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from data_pipelines.pipelines import matting, matting_pixels
from data_pipelines.pipelines.batches import Slice, arrays
from data_pipelines.pipelines.matting_pixels import OPERATIONS, Operations
from data_pipelines.pipelines.samples import Plan
from data_pipelines.pipelines.workers import ONE_PROCESS, Workers
from data_pipelines.records.clips import concatenate
from data_pipelines.sampling import random_draws, windows

NAMES = ("decode colour", "decode alpha", "warp", "noise", "adjust colours", "sharpen", "blur")
"""What `Operations` are called in the table."""


@dataclass(frozen=True)
class Rate:
    """What a run of the pipeline took.

    Attributes:
        frames: Matting frames made: each is a foreground, an alpha and a background.
        seconds: By the clock.
        core_seconds: Of all threads of this process, and of the workers on samples.
        megabytes: Of uint8 that came out.
    """

    frames: int
    seconds: float
    core_seconds: float
    megabytes: float

    @property
    def per_second(self) -> float:
        return self.frames / self.seconds

    @property
    def per_core(self) -> float:
        """Frames a second of one core, whatever else this machine was doing."""
        return self.frames / self.core_seconds

    @property
    def cores(self) -> float:
        return self.core_seconds / self.seconds


@dataclass(frozen=True)
class Cost:
    """What a stage of the pipeline costs, in milliseconds of one core for every frame that came out."""

    milliseconds: float
    calls: float
    megabytes_per_second: float


def whole(data: matting.MattingData, *, frames: int, size: int, batch: int, batches: int, workers: Workers) -> Rate:
    """The rate of the whole pipeline, after as many batches as are made ahead."""
    pipeline = matting.batches(
        data,
        Slice(batch),
        seed=0,
        stream="bench",
        frames=frames,
        size=size,
        augmentation=data.augmentation,
    )
    with contextlib.closing(arrays(pipeline, workers)) as stream:
        for _ in range(1 + workers.batches_ahead(batch)):
            next(stream)
        clock, core = time.perf_counter(), time.process_time() + workers.core_seconds
        made = [sum(array.size for array in next(stream).values()) for _ in range(batches)]
        clock, core = time.perf_counter() - clock, time.process_time() + workers.core_seconds - core
    return Rate(batches * batch * frames, clock, core, sum(made) / 1e6)


def costs(data: matting.MattingData, *, frames: int, size: int, clips: int) -> dict[str, Cost]:
    """Where one thread's time goes, over the pixels of this many clips; `rest` is all that has no name of its own."""
    seconds: defaultdict[str, float] = defaultdict(float)
    calls: defaultdict[str, float] = defaultdict(float)
    megabytes: defaultdict[str, float] = defaultdict(float)

    def timed(stage: str, function: Any) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            result = function(*arguments, **named)
            seconds[stage] += time.perf_counter() - begin
            calls[stage] += 1
            parts = result.values() if isinstance(result, Mapping) else [result]
            megabytes[stage] += sum(memoryview(part).nbytes for part in parts) / 1e6
            return result

        return run

    foregrounds = replace(data.foregrounds, read=timed("read", data.foregrounds.read))
    backgrounds = concatenate([data.background_images, data.background_clips])
    backgrounds = replace(backgrounds, read=timed("read", backgrounds.read))
    drawn = _plans(data, frames, size)
    next(drawn)  # builds the graph
    begin = time.perf_counter()
    plans = list(itertools.islice(drawn, clips))
    seconds["draw"] = time.perf_counter() - begin
    calls["draw"] = clips
    operations = Operations(*(timed(name, operation) for name, operation in zip(NAMES, OPERATIONS, strict=True)))
    begin = time.perf_counter()
    for plan in plans:
        matting_pixels.render(plan, foregrounds, backgrounds, size, operations)
    seconds["rest"] = time.perf_counter() - begin + seconds["draw"] - sum(seconds.values())
    made = clips * frames
    return {
        stage: Cost(1e3 * spent / made, calls[stage] / made, megabytes[stage] / spent if spent else 0.0)
        for stage, spent in seconds.items()
    }


def _plans(data: matting.MattingData, frames: int, size: int) -> Iterator[Plan]:
    table = data.windows(frames)

    @tf.autograph.experimental.do_not_convert
    def plan(number: tf.Tensor) -> dict[str, Any]:
        drawn = matting.plan(random_draws.Position(0, "bench", number), data, table, frames, data.augmentation)
        height, width = windows.shape(0, "bench", number, size)
        return drawn | {"height": height, "width": width}

    yield from tf.data.Dataset.range(tf.int64.max).map(plan).as_numpy_iterator()


def table(parts: Mapping[str, Cost]) -> str:
    """The stages as lines of text."""
    lines = [f"{'stage':16}{'ms a frame':>12}{'calls a frame':>15}{'MB/s':>9}"]
    lines += [
        f"{name:16}{part.milliseconds:12.2f}{part.calls:15.2f}{part.megabytes_per_second:9.0f}"
        for name, part in sorted(parts.items(), key=lambda item: -item[1].milliseconds)
    ]
    total = sum(part.milliseconds for part in parts.values())
    return "\n".join([*lines, f"{'all':16}{total:12.2f}"])


def describe(rate: Rate, workers: Workers, accelerators: int, frames_per_second: float) -> str:
    """A rate in words, and what accelerators need that take so many frames a second each."""
    each = f" with {workers.threads} threads each" if workers.threads > 1 else ""
    made_by = f"{workers.processes} worker processes{each}" if workers.processes else f"{workers.threads} threads"
    cores = math.ceil(accelerators * frames_per_second / rate.per_core)
    processes = f"--data-processes {cores}" if cores > ONE_PROCESS else "no worker processes"
    return (
        f"{made_by}: {rate.per_second:.0f} frames/s on {rate.cores:.1f} cores, "
        f"{rate.megabytes / rate.seconds:.0f} MB/s, {rate.per_core:.0f} frames/s a core\n"
        f"{accelerators} × {frames_per_second:.0f} frames/s need {cores} such cores ({processes})"
    )
