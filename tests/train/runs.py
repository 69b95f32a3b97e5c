"""A run of four stages that takes seconds: what the tests of the loop train."""

import json
from dataclasses import replace
from pathlib import Path

from rvm_jax.host.memory import collect_seldom
from rvm_jax.host.quiet_import import quiet_import
from rvm_jax.model.variants import VARIANTS, InvertedResidual, MobileNetV3, Variant
from train.recipe.options import Options
from train.recipe.recipe import Rates, Recipe, Stage, Validation

ENCODER = MobileNetV3(4, (InvertedResidual(3, 6, 4, False, "relu", stride=2),) * 3, 6, (0, 1, 2, 4))
SMALL = Variant("tiny", ENCODER, aspp=4, decoder=(4, 4, 4, 4))
"""What "tiny" is in most runs of tests: most of their time is tracing and compiling."""

RATES = Rates(encoder=1e-3, aspp=1e-3, decoder=1e-3, project_mat=1e-3, project_seg=1e-3)
LOW = Stage(("synthetic/tiny_matting_clips",), epochs=1, frames=2, rates=RATES, size=64, iterations=3)
HIGH = replace(
    LOW,
    rates=replace(RATES, refiner=1e-3),
    high_frames=2,
    high_size=128,
    downsample_ratio=0.5,
    iterations=2,
)
RECIPE = Recipe(
    variant="tiny",
    stages=(LOW, replace(LOW, iterations=1), HIGH, replace(HIGH, matting=("synthetic/tiny_matting_images",))),
    backgrounds=("synthetic/tiny_background_images", "synthetic/tiny_background_clips"),
    segmentation_clips=("synthetic/tiny_segmentation_clips",),
    segmentation_stills=("synthetic/tiny_segmentation_images",),
    segmentation_size=32,
    batch=8,
    buckets=1,
    validation=Validation(clips=3, frames=2, height=24, width=24),
)
ITERATIONS = 8
LONG = replace(RECIPE, stages=tuple(replace(stage, iterations=2 * (stage.iterations or 0)) for stage in RECIPE.stages))
"""The same with time to be killed in."""

ELASTIC = replace(RECIPE, stages=(LOW, *(replace(stage, iterations=0) for stage in RECIPE.stages[1:])), batch=16)
"""Three iterations, for eight devices that take two parts."""

OF_TIME = {
    *("time", "frames_per_second", "frames_per_second_per_device", "teraflops_per_device", "mfu", "goodput"),
    *("seconds/compute", "seconds/data", "seconds/transfer", "seconds/host", "data_wait"),
    *("compilations", "device_memory_gb"),
}
"""What may differ from run to run."""


def options(out: str | Path, data_dir: str | Path, **others) -> Options:
    return Options(out=out, data_dir=data_dir, wandb="disabled", save_every=2, **others)


def recorded(out: Path) -> list[dict]:
    """What a run has recorded, without what may differ from run to run."""
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in OF_TIME} for line in lines]


def train(recipe: Recipe, options: Options) -> None:
    """Train in a process of its own, which begins as the command does."""
    collect_seldom()
    VARIANTS["tiny"] = SMALL
    quiet_import("data_pipelines.pipelines.batches")
    from train import loop

    loop.train(recipe, options)
