"""What a training run is: a recipe of four stages. The published ones are in `train.recipe.published`.

On the command line every field is an option, `--stages.1.rates.encoder 1e-4`, so errors call it by that name. People
count stages from 1; in code, `stages[0]` is the first.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from tyro.conf import arg

from rvm_jax.errors import InputError
from rvm_jax.model.variants import REFINERS, VARIANTS, Refiner

Scaling = Literal["none", "linear", "sqrt"]
Precision = Literal["float32", "bfloat16"]

PUBLISHED_BATCH = 4
"""Clips of a step in the published recipe, for which the learning rates are written down."""
SMALLEST = 16
"""Pixels of the shortest side that the network takes."""
SMALLEST_SQUARE = 64
"""The sides of a matting clip are half of its square's or more, and the five levels of the loss need 32 pixels."""


@dataclass(frozen=True)
class Rates:
    """The learning rate of each group of modules; 0 freezes it.

    Attributes:
        encoder: Of the encoder.
        aspp: Of LR-ASPP.
        decoder: Of the recurrent decoder.
        project_mat: Of the matting head.
        project_seg: Of the segmentation head.
        refiner: Of the deep guided filter, which only high-resolution passes train.
    """

    encoder: float
    aspp: float
    decoder: float
    project_mat: float
    project_seg: float
    refiner: float = 0.0


@dataclass(frozen=True)
class Stage:
    """A stage begins with the weights of the one before it, and with a fresh optimizer.

    Attributes:
        matting: Matting datasets.
        epochs: How often every sample is seen; 0 skips the stage.
        frames: Of the low-resolution matting clips, and of the segmentation clips.
        rates: The learning rate of each group of modules; 0 freezes it.
        size: Side of the squares from which low-resolution clips are cut, each step at half to all of it.
        high_frames: Of the high-resolution matting clips; 0 leaves that pass out.
        high_size: Side of the squares for high-resolution clips.
        downsample_ratio: The size at which the network sees high-resolution clips, before the refiner.
        iterations: How many the stage has, in place of epochs.
    """

    matting: tuple[str, ...]
    epochs: int
    frames: int
    rates: Rates
    size: int = 512
    high_frames: int = 0
    high_size: int = 2048
    downsample_ratio: float = 0.25
    iterations: int | None = None

    @property
    def skipped(self) -> bool:
        return (self.epochs if self.iterations is None else self.iterations) == 0


@dataclass(frozen=True)
class Validation:
    """The fixed clips on which the network is measured.

    Attributes:
        clips: How many.
        frames: Of each clip.
        height: As the network sees the frames. In stages with a high-resolution pass they are 1/downsample_ratio
            as large, and the result goes through the refiner.
        width: Likewise.
    """

    clips: int = 16
    frames: int = 15
    height: int = 288
    width: int = 512


@dataclass(frozen=True)
class Recipe:
    """All that decides what training gives.

    Attributes:
        variant: The network: mobilenetv3, resnet50, or tiny.
        stages: One after the other.
        backgrounds: Datasets of background clips and images.
        segmentation_clips: Segmentation datasets for even iterations.
        segmentation_stills: Segmentation datasets for odd iterations: each frame of theirs is a clip by itself.
        refiner: What lifts the matte to high resolution.
        segmentation_size: Side of the squares for segmentation.
        batch: Clips of a step, over all devices.
        accumulation: In how many parts each device computes its clips, one after the other.
        scaling: How learning rates grow with the batch, which is 4 in the published recipe.
        warmup: Over how many iterations at the beginning of each stage learning rates rise from 0.
        precision: What encoder, decoder and heads compute in.
        remat: Compute intermediate results twice instead of keeping them: slower, in much less memory.
        buckets: From how many heights, and as many widths, the shape of a step is drawn. Each pair compiles once.
        seed: Of the first weights, the order of the data, and augmentation.
        init: Weights to start from: an encoder or a whole network.
        validation: The fixed clips on which the network is measured.
    """

    variant: str
    stages: tuple[
        Annotated[Stage, arg(name="1")],
        Annotated[Stage, arg(name="2")],
        Annotated[Stage, arg(name="3")],
        Annotated[Stage, arg(name="4")],
    ]
    backgrounds: tuple[str, ...]
    segmentation_clips: tuple[str, ...]
    segmentation_stills: tuple[str, ...]
    refiner: Refiner = "deep_guided_filter"
    segmentation_size: int = 512
    batch: int = PUBLISHED_BATCH
    accumulation: int = 1
    scaling: Scaling = "none"
    warmup: int = 0
    precision: Precision = "float32"
    remat: bool = False
    buckets: int = 4
    seed: int = 0
    init: Annotated[Path | None, arg(metavar="FILE|DIR")] = None
    validation: Validation = Validation()

    def __post_init__(self) -> None:
        _one_of(VARIANTS, variant=self.variant)
        _one_of(REFINERS, refiner=self.refiner)
        _one_of(get_args(Scaling), scaling=self.scaling)
        _one_of(get_args(Precision), precision=self.precision)
        _at_least(0, warmup=self.warmup, seed=self.seed)
        _at_least(1, batch=self.batch, accumulation=self.accumulation, buckets=self.buckets)
        _at_least(2 * SMALLEST, segmentation_size=self.segmentation_size)
        _at_least(1, "validation.", clips=self.validation.clips, frames=self.validation.frames)
        _at_least(SMALLEST, "validation.", height=self.validation.height, width=self.validation.width)
        if self.seed >= 2**32:
            raise InputError(f"--seed {self.seed}: expected less than {2**32}")
        for number, stage in enumerate(self.stages, 1):
            _check(stage, f"stages.{number}.")
        if all(stage.skipped for stage in self.stages):
            raise InputError("every stage is skipped: give one of them --stages.N.epochs 1 or more")


def _check(stage: Stage, where: str) -> None:
    """Refuse what cannot be trained; `where` is what the stage's options begin with."""
    rates = dataclasses.asdict(stage.rates)
    _at_least(0, f"{where}rates.", **rates)
    _at_least(0, where, epochs=stage.epochs, iterations=stage.iterations, high_frames=stage.high_frames)
    _at_least(1, where, frames=stage.frames)
    _at_least(SMALLEST_SQUARE, where, size=stage.size, high_size=stage.high_size if stage.high_frames else None)
    if not 0 < stage.downsample_ratio <= 1:
        raise InputError(f"--{where}downsample-ratio {stage.downsample_ratio}: expected more than 0, up to 1")
    if stage.high_frames and stage.high_size * stage.downsample_ratio < 2 * SMALLEST:
        raise InputError(
            f"--{where}high-size {stage.high_size} times --{where}downsample-ratio {stage.downsample_ratio} is what "
            f"the network sees, or half of that: expected {2 * SMALLEST} pixels or more"
        )
    if stage.rates.refiner and not (stage.high_frames and stage.downsample_ratio < 1):
        raise InputError(
            f"--{where}rates.refiner {stage.rates.refiner}: the stage has no pass that trains the refiner; give 0, or "
            f"--{where}high-frames 1 or more with a --{where}downsample-ratio below 1"
        )
    if not stage.skipped and not any(rates.values()):
        raise InputError(f"--{where}rates are all 0, which trains nothing: skip the stage with --{where}epochs 0")


def _one_of(allowed: Iterable[str], **given: str) -> None:
    for name, value in given.items():
        if value not in allowed:
            raise InputError(f"--{name} {value}: expected one of {', '.join(allowed)}")


def _at_least(least: int, where: str = "", **given: float | None) -> None:
    for name, value in given.items():
        if value is not None and not least <= value < math.inf:
            raise InputError(f"--{where}{name.replace('_', '-')} {value}: expected {least} or more")


def for_devices(recipe: Recipe, clips_per_device: int | None, devices: int) -> Recipe:
    """The recipe with a batch that gives each device so many clips at a time; with its own batch if that is None."""
    parts = devices * recipe.accumulation
    if clips_per_device is not None:
        return dataclasses.replace(recipe, batch=clips_per_device * parts)
    if recipe.batch % parts:
        each = f", each of which takes {recipe.accumulation} parts" if recipe.accumulation > 1 else ""
        raise InputError(
            f"--batch {recipe.batch} cannot be divided among {devices} devices{each}: give a multiple of {parts}, or "
            "--clips-per-device"
        )
    return recipe


def learning_rates(recipe: Recipe, stage: int, iteration: int) -> dict[str, float]:
    """The learning rates of an iteration of a stage, both counted from 0. A frozen group has none."""
    ramp = min(1.0, (iteration + 1) / recipe.warmup) if recipe.warmup else 1.0
    rates = dataclasses.asdict(recipe.stages[stage].rates)
    if recipe.refiner == "fast_guided_filter":  # it has no weights
        del rates["refiner"]
    return {group: rate * _scale(recipe) * ramp for group, rate in rates.items() if rate}


def _scale(recipe: Recipe) -> float:
    """What the learning rates of the recipe are multiplied by on account of its batch."""
    match recipe.scaling:
        case "none":
            return 1.0
        case "linear":
            return recipe.batch / PUBLISHED_BATCH
        case "sqrt":
            return math.sqrt(recipe.batch / PUBLISHED_BATCH)


def to_json(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON has it; stages are named "1", "2" …"""
    plain = dataclasses.asdict(recipe)
    plain["stages"] = {str(number): stage for number, stage in enumerate(plain["stages"], 1)}
    return json.loads(json.dumps(plain, default=str))


def describe(recipe: Recipe) -> str:
    """A table with a column for each stage, learning rates as its batch has them, and a line for each other field."""
    columns = [_column(stage, _scale(recipe)) for stage in recipe.stages]
    lines = [["", *(f"stage {number}" for number, _ in enumerate(columns, 1))]]
    lines += [[name, *(column[name] for column in columns)] for name in columns[0]]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    table = ["   ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    others = {name.replace("_", " "): _shown(value) for name, value in to_json(recipe).items() if name != "stages"}
    return "\n".join([*table, "", *(f"{name:{widths[0]}}   {shown}" for name, shown in others.items())])


def _column(stage: Stage, scale: float) -> dict[str, str]:
    length = f"{stage.epochs}" if stage.iterations is None else f"{stage.iterations} iterations"
    high = f"{stage.high_frames} × {stage.high_size}², seen at {stage.downsample_ratio:g}"
    return {
        "matting data": _shown(stage.matting),
        "epochs": "skipped" if stage.skipped else length,
        "low resolution": f"{stage.frames} × {stage.size}²",
        "high resolution": high if stage.high_frames else "–",
        **{f"rate of {group}": f"{rate * scale:g}" for group, rate in dataclasses.asdict(stage.rates).items()},
    }


def _shown(value: object) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(value)
        case dict():
            return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
        case _:
            return str(value)
