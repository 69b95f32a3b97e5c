"""How many frames a second one Python process can make at most, and hand on: what the interpreter's lock leaves.

    python benchmarks/data_lock.py [--json results.json] [--threads 1 4 16 64] [--seconds 5]

Threads of one process share a lock, which OpenCV, copies and random bits let go of. Here those operations are replaced
by sleeps as long as they take, so that two cores do for any number of threads: what is left is what the lock allows on
a machine with cores enough. Then worker processes are given samples that they need not make: what is left is the work
of the process that feeds the devices. The data are those of `data.py`.
"""

import argparse
import itertools
import json
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from data import FRAMES, SIZE, make_data

from data_pipelines.pipelines import matting_pixels
from data_pipelines.pipelines.batches import Slice, arrays
from data_pipelines.pipelines.matting import MattingData, batches
from data_pipelines.pipelines.matting_pixels import OPERATIONS, Operations
from data_pipelines.pipelines.samples import Plan
from data_pipelines.pipelines.workers import Workers
from data_pipelines.records.clips import concatenate
from data_pipelines.tools import bench

UNCHANGED: dict[str, Callable[..., bool]] = {
    "noise": lambda frame, noise, moment: noise["deviation"] == 0,
    "adjust colours": lambda frame, values, gray: not gray and not np.any(values),
    "sharpen": lambda frame, factor: factor == 1,
    "blur": lambda frame, deviation: deviation <= 0,
}
"""When an operation gives back its frame as it is."""


def record(data: MattingData, plans: Sequence[Plan]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The mean seconds of each operation where it does something, and what it gave last."""
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    given: dict[str, np.ndarray] = {}

    def timed(name: str, operation: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def run(*arguments: Any) -> np.ndarray:
            begin = time.thread_time()
            given[name] = operation(*arguments)
            if name not in UNCHANGED or not UNCHANGED[name](*arguments):
                seconds[name].append(time.thread_time() - begin)
            return given[name]

        return run

    render(data, plans, Operations(*map(timed, bench.NAMES, OPERATIONS)))
    return {name: sum(spent) / len(spent) for name, spent in seconds.items()}, given


def asleep(seconds: dict[str, float], given: dict[str, np.ndarray]) -> Operations:
    """Operations that sleep as long as the real ones take, and give pictures of the right sizes."""

    def instead(name: str) -> Callable[..., np.ndarray]:
        def run(*arguments: Any) -> np.ndarray:
            if name in UNCHANGED and UNCHANGED[name](*arguments):
                return arguments[0]
            time.sleep(seconds.get(name, 0))
            if name == "warp":
                picture, _, height, width = arguments
                return np.empty((height, width, *picture.shape[2:]), np.uint8)
            return given[name] if name.startswith("decode") else arguments[0]

        return run

    return Operations(*map(instead, bench.NAMES))


def render(data: MattingData, plans: Sequence[Plan], operations: Operations) -> None:
    backgrounds = concatenate([data.background_images, data.background_clips])
    for plan in plans:
        matting_pixels.render(plan, data.foregrounds, backgrounds, SIZE, operations)


def most_of_a_process(
    data: MattingData, plans: Sequence[Plan], operations: Operations, threads: int, seconds: float
) -> float:
    """Frames a second of so many threads."""
    made: list[int] = []
    end = time.perf_counter() + seconds

    def run(first: int) -> None:
        for number in itertools.count(first):
            if time.perf_counter() > end:
                return
            render(data, [plans[number % len(plans)]], operations)
            made.append(FRAMES)

    begin = time.perf_counter()
    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(made) / (time.perf_counter() - begin)


def handing_on(data: MattingData, samples: int) -> tuple[float, float]:
    """Milliseconds of a core that a sample of worker processes costs this one, and of those, what drawing takes."""
    part = Slice(16)
    drawn = batches(data, part, seed=0, stream="bench", frames=FRAMES, size=SIZE)
    spent = []
    with Workers(processes=2) as workers:
        # `dict(plan, out=layers)` is quick, and nothing but a call.
        unmade = type(drawn)(drawn.plans, dict, drawn.outputs)
        for made in (arrays(unmade, workers), drawn.plans.as_numpy_iterator()):
            next(made)
            begin = time.process_time()
            for _ in range(samples // part.batch):
                next(made)
            spent.append(1e3 * (time.process_time() - begin) / samples)
            del made
    return spent[0], spent[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=5, help="for each number of threads")
    parser.add_argument("--clips", type=int, default=8, help="of each kind, in the data")
    parser.add_argument("--background-size", type=int, default=432, metavar="HEIGHT")
    parser.add_argument("--samples", type=int, default=640, help="that worker processes hand on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder), options.clips, options.background_size)
        plans = list(itertools.islice(bench._plans(data, FRAMES, SIZE), 24))
        operations = asleep(*record(data, plans))
        rates = {
            threads: most_of_a_process(data, plans, operations, threads, options.seconds) for threads in options.threads
        }
        sample, drawing = handing_on(data, options.samples)
    for threads, rate in rates.items():
        print(f"{threads:3} threads of a process: {rate:6.0f} frames/s, with as many cores")
    print(f"a sample of a worker process costs this one {sample:.2f} ms, {drawing:.2f} of them drawing its plan")
    if options.json:
        options.json.write_text(json.dumps({"rates": rates, "sample": sample, "drawing": drawing}, indent=1))


if __name__ == "__main__":
    main()
