"""Makes batches with two worker processes until it is killed; prints their process ids first: run by `test_workers.py`.

Arguments: DATA_DIR
"""

import sys

from data_pipelines.pipelines import datasets, matting
from data_pipelines.pipelines.batches import Slice, arrays
from data_pipelines.pipelines.workers import Workers

NAMES = ("synthetic/tiny_matting_clips", "synthetic/tiny_background_clips", "synthetic/tiny_background_images")


def main() -> None:
    data = datasets.matting_only(datasets.open_named(NAMES, "train", sys.argv[1]))
    batches = matting.batches(data, Slice(4), seed=0, stream="endless", frames=4, size=64)
    with Workers(processes=2) as workers:
        for number, _ in enumerate(arrays(batches, workers)):
            print(number, flush=True)


if __name__ == "__main__":
    main()
