"""Estimated foregrounds against true ones: their colours and their cost.

    python benchmarks/foreground.py [--json results.json] [--picture foreground.webp]

On 50 synthetic composites of 512×384 whose foreground is known. Errors are those of what shows: of αF, in levels of
255, where alpha is neither 0 nor 1. "nothing" takes the composite for the foreground, as whoever has no other does.
PyMatting's multi-level estimator is measured beside ours where it is installed. Seconds are those of the processor.
"""

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines import synthetic
from rvm_jax import foreground

COMPOSITES, HEIGHT, WIDTH = 50, 512, 384
OTHERS = ((1.0, 2), (1.0, 6), (0.1, 2), (0.1, 6), (0.03, 2), (0.03, 6), (0.01, 6), (0.03, 20))
"""ω and how often the pixels of a level are set."""


def composite(number: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture, its alpha and its foreground: float32 [H, W, 3 or 1] in 0..1. Pictures are rounded to 8 bits."""
    person = (clip[0] for clip in synthetic.person_clip(1, number, 1, height, width))
    front, alpha, back = (
        np.asarray(stored, np.float32) / 255
        for stored in (*person, synthetic.background_clip(2, number, 1, height, width)[0])
    )
    return np.round(255 * (alpha * front + (1 - alpha) * back)).astype(np.float32) / 255, alpha, front


def errors(estimated: np.ndarray, alpha: np.ndarray, front: np.ndarray) -> tuple[float, float]:
    """The mean and the 95th percentile of what is wrong with αF, where something is seen through it."""
    wrong = (255 * alpha * np.abs(estimated - front)).mean(-1)[(alpha[..., 0] > 0) & (alpha[..., 0] < 1)]
    return float(wrong.mean()), float(np.percentile(wrong, 95))


def row(name: str, estimate: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> dict[str, str | float]:
    found, seconds = [], 0.0
    for number in range(COMPOSITES):
        image, alpha, front = composite(number, HEIGHT, WIDTH)
        start = time.process_time()
        estimated = estimate(image, alpha)
        seconds += time.process_time() - start
        found.append(errors(estimated, alpha, front))
    mean, percentile = np.mean(found, 0)
    pixels = COMPOSITES * HEIGHT * WIDTH / 1e6
    return {"foreground": name, "mean": mean, "95 %": percentile, "seconds per megapixel": seconds / pixels}


def rows() -> Iterator[dict[str, str | float]]:
    yield row("nothing: the composite", lambda image, alpha: image)
    chosen = foreground.OMEGA, foreground.STEPS
    for omega, steps in OTHERS:
        foreground.OMEGA, foreground.STEPS = np.float32(omega), steps
        mark = " (chosen)" if chosen == (foreground.OMEGA, foreground.STEPS) else ""
        yield row(f"ω = {omega}, {steps} times{mark}", foreground.estimate_foreground)
    foreground.OMEGA, foreground.STEPS = chosen
    if importlib.util.find_spec("pymatting"):
        yield from pymatting_rows()


def pymatting_rows() -> Iterator[dict[str, str | float]]:
    """PyMatting as it comes, which is ω = 1 and 2 times, and with what is chosen here."""
    os.environ["NUMBA_NUM_THREADS"] = "1"  # threads that wait for each other would count
    from pymatting import estimate_foreground_ml

    settings: dict[str, dict[str, float]] = {
        "PyMatting": {},
        f"PyMatting, ω = {foreground.OMEGA:g}, {foreground.STEPS} times": {
            "gradient_weight": float(foreground.OMEGA),
            "n_big_iterations": foreground.STEPS,
        },
    }
    for name, given in settings.items():

        def estimate(image: np.ndarray, alpha: np.ndarray, given: dict[str, float] = given) -> np.ndarray:
            return estimate_foreground_ml(image, alpha[..., 0], **given)

        estimate(*composite(0, 16, 16)[:2])  # compiles
        yield row(name, estimate)


def draw(path: Path) -> None:
    """Three composites; each with its alpha, what is estimated, the truth, and eight times the error of αF."""
    strips = []
    for number in (1, 7, 12):
        image, alpha, front = composite(number, HEIGHT, WIDTH)
        estimated = foreground.estimate_foreground(image, alpha)
        wrong = 8 * alpha * np.abs(estimated - front)
        panels = [image, alpha.repeat(3, -1), estimated, front, wrong]
        strips.append(np.concatenate(panels, 1))
    shown = Image.fromarray((np.concatenate(strips).clip(0, 1) * 255).round().astype(np.uint8))
    shown.resize((shown.width // 2, shown.height // 2), Image.Resampling.LANCZOS).save(path, quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    if options.picture:
        draw(options.picture)
    found = []
    for one in rows():
        found.append(one)
        figures = " | ".join(f"{value:.2f}" for value in one.values() if isinstance(value, float))
        print(f"| {one['foreground']} | {figures} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
