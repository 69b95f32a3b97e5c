"""Training with estimated foregrounds against the same training with true ones.

    python benchmarks/training_foregrounds.py [--seeds 2] [--iterations 1000] [--foregrounds true estimated]

SynthHuman and P3M-10k come as pictures with alpha, so their foregrounds are estimated at preparation. Here the truth is
known: synthetic people are put before synthetic scenery, and the tiny network is trained from the same first weights,
on the same draws, with four kinds of foregrounds: the true ones; those that `rvm_jax.foreground` estimates from the
picture and its alpha; the pictures themselves, background and all, which tells whether the measurement would notice;
and those pictures again, with a loss on the foreground only where it is opaque, which would spare the estimate. All are
validated on other people with true foregrounds, before scenery that none has seen.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# This folder has a train.py of its own.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from data_pipelines import synthetic  # noqa: E402
from data_pipelines.archives.decode import encode_jpeg, encode_png  # noqa: E402
from data_pipelines.pipelines.matting import MattingData  # noqa: E402
from data_pipelines.records.clips import Clips  # noqa: E402
from rvm_jax.foreground import estimate_foreground  # noqa: E402
from rvm_jax.model.network import MattingNetwork  # noqa: E402
from train.device import evaluation, losses, parallel, step  # noqa: E402
from train.device.programs import Programs  # noqa: E402
from train.device.step import TrainState, init, joined  # noqa: E402
from train.recipe.published import DEMO  # noqa: E402
from train.recipe.recipe import Recipe, Validation, learning_rates  # noqa: E402
from train.run import input_pipeline  # noqa: E402
from train.run.program_keys import program_key  # noqa: E402

HEIGHT, WIDTH = 192, 240
BATCH = 4
HELD_OUT = 16

Picture = np.ndarray
Foreground = Callable[[Picture, Picture, Picture], Picture]
"""(true foreground, alpha, picture) → what training is given, uint8 [H, W, 3]."""


def true(foreground: Picture, alpha: Picture, picture: Picture) -> Picture:
    return foreground


def estimated(foreground: Picture, alpha: Picture, picture: Picture) -> Picture:
    given = estimate_foreground(picture.astype(np.float32) / 255, alpha.astype(np.float32) / 255)
    return np.rint(255 * given).astype(np.uint8)


def left_in(foreground: Picture, alpha: Picture, picture: Picture) -> Picture:
    return picture


class OpaqueForeground(MattingNetwork):
    """The same network, whose foreground learns nothing where something is seen through it."""


@step.forward.register
def _(
    network: OpaqueForeground, variables: Mapping[str, Any], batch: step.DeviceBatch, downsample_ratio: float
) -> tuple[step.Metrics, Mapping[str, Any]]:
    source, foreground, alpha = step.composite(batch)
    found, updated = network.apply(
        variables, source, downsample_ratio=downsample_ratio, train=True, mutable=["batch_stats"]
    )
    wanted = jnp.where(alpha < 1, found.foreground, foreground)
    return losses.matting_loss(found.foreground, found.alpha, wanted, alpha), updated


CONTENDERS: Mapping[str, tuple[Foreground, type[MattingNetwork]]] = {
    "true": (true, MattingNetwork),
    "estimated": (estimated, MattingNetwork),
    "background left in": (left_in, MattingNetwork),
    "masked": (left_in, OpaqueForeground),
}


def people(first: int, count: int, chosen: Foreground) -> Clips:
    """Stills of people from one number on, with foregrounds of a kind."""
    records = []
    for number in range(first, first + count):
        foreground, alpha = (clip[0] for clip in synthetic.person_clip(0, number, 1, HEIGHT, WIDTH))
        background = synthetic.background_clip(1, number, 1, HEIGHT, WIDTH)[0]
        share = alpha.astype(np.float32) / 255
        picture = np.rint(foreground * share + background * (1 - share)).astype(np.uint8)
        given = encode_jpeg(Image.fromarray(chosen(foreground, alpha, picture)))
        records.append({"foreground": given, "alpha": encode_png(Image.fromarray(alpha[..., 0]))})
    return stills(records)


def scenery(first: int, count: int) -> Clips:
    pictures = [synthetic.background_clip(2, first + number, 1, HEIGHT, WIDTH)[0] for number in range(count)]
    return stills([{"image": encode_jpeg(Image.fromarray(picture))} for picture in pictures])


def stills(records: list[dict[str, bytes]]) -> Clips:
    return Clips([str(number) for number in range(len(records))], np.ones(len(records), np.int64), records.__getitem__)


def recipe_of(seed: int, iterations: int) -> Recipe:
    """Stage 1 of the demo, on stills, of one shape."""
    first = replace(DEMO.stages[0], frames=2, iterations=iterations)
    stages = (first, *(replace(stage, iterations=0) for stage in DEMO.stages[1:]))
    shown = Validation(clips=2 * HELD_OUT, frames=2, height=96, width=128)
    return replace(DEMO, stages=stages, batch=BATCH, buckets=1, seed=seed, schedule="cosine", validation=shown)


def train(recipe: Recipe, kind: type[MattingNetwork], source: input_pipeline.Sources) -> dict[str, float]:
    """Metrics after all low-resolution matting passes of the recipe; of segmentation, which has no foreground, none."""
    sources = [source, *[input_pipeline.UNOPENED] * 3]
    stages = input_pipeline.stage_data(recipe, sources)
    network = kind(recipe.variant, recipe.refiner, axis_name=parallel.AXIS)
    programs = Programs(network)
    state = parallel.replicate(joined(first_state(network, recipe.seed)))
    for number, passes in input_pipeline.feed(recipe, stages, sources, 0):
        for one, batch in passes:
            if one.kind == "matting_low":
                key = program_key(recipe, stages, one)
                rates = learning_rates(recipe, 0, number, stages[0].iterations)
                state, _ = programs.run(key, state, parallel.shard(batch), rates)
    batches = input_pipeline.validation_batches(recipe, recipe.stages[0], source, 8)
    found = evaluation.validate(evaluation.program(network, 1.0), state, batches)
    assert found is not None
    return found[0]


@cache
def first_state(network: MattingNetwork, seed: int) -> TrainState:
    return jax.device_get(init(network, jax.random.key(seed)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--people", type=int, default=96)
    parser.add_argument("--foregrounds", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    validation = MattingData(people(10_000, HELD_OUT, true), scenery(10_000, HELD_OUT))
    backgrounds, segmentation = scenery(0, asked.people), stills([_mask()])
    results: dict[str, list[dict[str, float]]] = {}
    print("| foregrounds | seed | MAD | foreground MAD | s |\n|---|---|---|---|---|", flush=True)
    for name in asked.foregrounds:
        foreground, network = CONTENDERS[name]
        data = MattingData(people(0, asked.people, foreground), backgrounds)
        source = input_pipeline.Sources(data, segmentation, segmentation, validation, {})
        for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
            begin = time.perf_counter()
            found = train(recipe_of(seed, asked.iterations), network, source)
            results.setdefault(name, []).append(found)
            seconds = time.perf_counter() - begin
            print(
                f"| {name} | {seed} | {found['mad']:.1f} | {found['foreground_mad']:.1f} | {seconds:.0f} |", flush=True
            )
    mean = {name: statistics.mean(one["mad"] for one in found) for name, found in results.items()}
    first = mean[asked.foregrounds[0]]
    print(", ".join(f"{name}: MAD {value:.1f}, {value / first - 1:+.1%}" for name, value in mean.items()))
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n")


def _mask() -> dict[str, bytes]:
    """A still for the segmentation that is not trained."""
    return {
        "image": encode_jpeg(Image.new("RGB", (64, 64))),
        "mask": encode_png(Image.new("L", (64, 64))),
    }


if __name__ == "__main__":
    main()
