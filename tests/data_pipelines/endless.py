"""Makes batches with two worker processes, and prints their numbers: run by `test_workers.py`.

Arguments: DATA_DIR, and perhaps after how many batches the rest is left; without, it goes on until it is killed.
"""

import itertools
import sys

from data_pipelines.pipelines import datasets, matting
from data_pipelines.pipelines.batches import Slice, arrays
from data_pipelines.pipelines.workers import Workers

NAMES = ("synthetic/tiny_matting_clips", "synthetic/tiny_background_clips", "synthetic/tiny_background_images")
kept: list[object] = []
"""Until Python ends."""


def main() -> None:
    data = datasets.matting_only(datasets.open_named(NAMES, "train", sys.argv[1]))
    batches = matting.batches(data, Slice(4), seed=0, stream="endless", frames=4, size=64)
    stream = arrays(batches, Workers(processes=2))
    kept.append(stream)
    for number in range(int(sys.argv[2])) if sys.argv[2:] else itertools.count():
        next(stream)
        print(number, flush=True)


if __name__ == "__main__":
    main()
