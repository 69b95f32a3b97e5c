"""How long it takes to score a frame of a test set, and how many cores share in it.

    python benchmarks/scoring.py [--frames 100] [--size 1920x1080] [--json results.json]

All metrics of alphas and colours, on frames that are in memory: soft-edged people-sized shapes that move, and
predictions of them that are a little off. The frames come in parts as `rvm evaluate` makes them. What is printed is
processor time (seconds of one core) a frame, and that by the time on the clock (cores).
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rvm_jax.evaluation import evaluate, scoring
from rvm_jax.evaluation.scoring import Frames

DIFFERENT = 8
"""How many frames there are before they come again."""


def clip(height: int, width: int) -> Frames:
    """Truth and prediction for `DIFFERENT` frames: an ellipse that moves and turns, with an edge as soft as hair."""
    rng = np.random.default_rng(0)
    y, x = (np.mgrid[:height, :width] / height).astype(np.float32)
    y, x = y - 0.5, x - 0.5 * width / height
    noise = rng.normal(0, 0.01, (height, width)).astype(np.float32)
    alphas, true_alphas, colors = [], [], []
    for phase in np.linspace(0, 2 * np.pi, DIFFERENT, endpoint=False, dtype=np.float32):
        turned = np.cos(phase / 8) * x + np.sin(phase / 8) * y - 0.2 * np.sin(phase)
        distance = 1 - np.hypot(turned / 0.25, y / 0.45) + 0.03 * np.sin(60 * x + phase) * np.sin(50 * y)
        true_alphas.append((0.5 + 12 * distance).clip(0, 1))
        alphas.append((0.5 + 9 * (distance + 0.02 * np.sin(9 * y + 3 * phase)) + noise).clip(0, 1))
        waves = np.sin(9 * x + phase), np.cos(7 * y + phase), np.sin(5 * (x + y) - phase)
        colors.append(0.5 + 0.3 * np.stack(waves, -1))
    pha, true_pha, true_fgr = np.stack(alphas)[..., None], np.stack(true_alphas)[..., None], np.stack(colors)
    return Frames(pha, true_pha, 0.97 * true_fgr, true_fgr)


def parts(whole: Frames, frames: int) -> Iterator[Frames]:
    """So many frames, over and over again, in parts as evaluation reads them; the last of a round may be shorter."""
    _, height, width, _ = whole.alpha.shape
    length = evaluate.part_length((height, width))
    left = frames
    while left > 0:
        for first in range(0, min(left, DIFFERENT), length):
            chosen = slice(first, min(first + length, left, DIFFERENT))
            yield Frames(*(layer[chosen] for layer in whole))
        left -= DIFFERENT


def measure(whole: Frames, frames: int, threads: int) -> dict[str, float]:
    with ThreadPoolExecutor(threads) as pool:
        scoring.score(parts(whole, 2 * DIFFERENT), pool)  # compiles
        start, spent = time.perf_counter(), time.process_time()
        scores = scoring.score(parts(whole, frames), pool)
        wall, processor = time.perf_counter() - start, time.process_time() - spent
    assert list(scores) == list(scoring.METRICS)
    return {"core_seconds": processor / frames, "wall_seconds": wall / frames, "cores": processor / wall}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--size", default="1920x1080", metavar="WIDTHxHEIGHT")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()

    width, height = map(int, options.size.split("x"))
    threads = os.cpu_count() or 1
    found = measure(clip(height, width), options.frames, threads)
    print(f"{options.frames} frames of {options.size}, all metrics, {threads} threads on {os.cpu_count()} cores\n")
    print("| seconds of one core a frame | seconds on the clock a frame | cores in use |\n|---|---|---|")
    print(f"| {found['core_seconds']:.3f} | {found['wall_seconds']:.3f} | {found['cores']:.2f} |")
    if options.json:
        options.json.write_text(json.dumps({"frames": options.frames, "size": options.size, **found}, indent=1))


if __name__ == "__main__":
    main()
