"""The recipe: all that decides what a run trains, in four stages. The published ones are in `train.recipe.published`.

On the command line every field is an option, `--stages.1.rates.encoder 1e-4`, so errors call it by that name. People
count stages from 1; in code, `stages[0]` is the first.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from tyro.conf import arg

from rvm_jax.errors import InputError
from rvm_jax.model.variants import REFINERS, VARIANTS, Refiner
from train.recipe.training import Training, at_least, one_of

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
        encoder: Learning rate of the encoder; 0 freezes it, as with the others.
        aspp: Learning rate of LR-ASPP.
        decoder: Learning rate of the recurrent decoder.
        project_mat: Learning rate of the matting head.
        project_seg: Learning rate of the segmentation head.
        refiner: Learning rate of the deep guided filter, which only high-resolution passes train.
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
        matting: Datasets of people with their alpha.
        epochs: How often every sample is seen; 0 skips the stage.
        frames: Frames of a low-resolution matting clip, and of a segmentation clip.
        rates: The learning rate of each group of modules; 0 freezes it.
        size: Pixels of the square that low-resolution clips are cut from; a step takes half to all of each side.
        high_frames: Frames of a high-resolution matting clip; 0 leaves that pass out.
        high_size: Pixels of the square that high-resolution clips are cut from.
        downsample_ratio: By how much the network sees high-resolution clips smaller, before the refiner.
        samples: Length of the stage in matting clips, in place of epochs.
        iterations: Length of the stage in iterations, in place of epochs and samples.
        backgrounds: Datasets of backgrounds, in place of those of the recipe.
    """

    matting: tuple[str, ...]
    epochs: int
    frames: int
    rates: Rates
    size: int = 512
    high_frames: int = 0
    high_size: int = 2048
    downsample_ratio: float = 0.25
    samples: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(optional)")] = None
    iterations: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(optional)")] = None
    backgrounds: Annotated[tuple[str, ...], arg(metavar="[STR [STR ...]]", help_behavior_hint="(optional)")] = ()

    @property
    def skipped(self) -> bool:
        return next(length for length in (self.iterations, self.samples, self.epochs) if length is not None) == 0

    @property
    def validation_ratio(self) -> float:
        """By how much the network sees the clips of validations smaller."""
        return self.downsample_ratio if self.high_frames else 1.0


@dataclass(frozen=True)
class Validation:
    """The fixed clips on which the network is measured.

    Attributes:
        clips: How many clips.
        frames: Frames of each clip.
        height: Pixels of the frames as the network sees them. Stages with a high-resolution pass take larger ones, by
            their downsample_ratio, and the result goes through the refiner.
        width: Pixels of the same frames.
    """

    clips: int = 16
    frames: int = 15
    height: int = 288
    width: int = 512


@dataclass(frozen=True, kw_only=True)
class Recipe(Training):
    """All that decides what training gives.

    Attributes:
        variant: The network: mobilenetv3, resnet50, or tiny.
        stages: The four stages, one after the other.
        backgrounds: Datasets of background clips and images, which people are put in front of.
        segmentation_clips: Segmentation datasets for even iterations: clips, or stills, which may be moved.
        segmentation_stills: Segmentation datasets of stills, for odd iterations: each of their frames is a clip by
            itself.
        background_motion: Probability that a background is moved; clips among them move by themselves.
        still_motion: Probability that a still among the segmentation clips is moved.
        refiner: What lifts the matte to high resolution: a filter that is trained, or one without weights.
        segmentation_size: Pixels of the square that segmentation clips are cut from.
        buckets: How many heights, and how many widths, there are for the shape of a step. Each pair compiles once.
        validation: The fixed clips on which the network is measured.
    """

    published_batch: ClassVar[int] = PUBLISHED_BATCH

    variant: str
    stages: tuple[Stage, Stage, Stage, Stage]
    backgrounds: tuple[str, ...]
    segmentation_clips: tuple[str, ...]
    segmentation_stills: tuple[str, ...]
    background_motion: float = 0.15
    still_motion: float = 0.0
    refiner: Refiner = "deep_guided_filter"
    segmentation_size: int = 512
    buckets: int = 4
    validation: Validation = Validation()

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(VARIANTS, variant=self.variant)
        one_of(REFINERS, refiner=self.refiner)
        at_least(1, buckets=self.buckets)
        at_least(2 * SMALLEST, segmentation_size=self.segmentation_size)
        at_least(1, "validation.", clips=self.validation.clips, frames=self.validation.frames)
        at_least(SMALLEST, "validation.", height=self.validation.height, width=self.validation.width)
        for name in ("background_motion", "still_motion"):
            if not 0 <= getattr(self, name) <= 1:
                option = name.replace("_", "-")
                raise InputError(f"--{option} {getattr(self, name)}: expected a probability, 0 to 1")
        for number, stage in enumerate(self.stages, 1):
            _check(stage, f"stages.{number}.")
        if all(stage.skipped for stage in self.stages):
            raise InputError("every stage is skipped: give one of them --stages.N.epochs 1 or more")

    def rates(self, stage: int) -> dict[str, float]:
        rates = dataclasses.asdict(self.stages[stage].rates)
        if self.refiner == "fast_guided_filter":  # it has no weights
            del rates["refiner"]
        return rates


def _check(stage: Stage, where: str) -> None:
    """Refuse what cannot be trained; `where` is what the stage's options begin with."""
    rates = dataclasses.asdict(stage.rates)
    at_least(0, f"{where}rates.", **rates)
    lengths = {"epochs": stage.epochs, "samples": stage.samples, "iterations": stage.iterations}
    at_least(0, where, **lengths, high_frames=stage.high_frames)
    at_least(1, where, frames=stage.frames)
    at_least(SMALLEST_SQUARE, where, size=stage.size, high_size=stage.high_size if stage.high_frames else None)
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


def check_warmup(warmup: int, iterations: Mapping[str, int]) -> None:
    """Refuse a warm-up that is more than half of a stage; `iterations` are those of the stages by their numbers."""
    trained = {number: count for number, count in iterations.items() if count}
    shortest = min(trained, key=trained.__getitem__, default=None)
    if shortest is not None and warmup > trained[shortest] // 2:
        raise InputError(
            f"--warmup {warmup}: stage {shortest} has {trained[shortest]} iterations, and a warm-up takes half of a "
            f"stage at most: give {trained[shortest] // 2} or less"
        )


def trained_rates(recipe: Training, stage: int) -> dict[str, float]:
    """The learning rates that a stage has between its warm-up and its decay. A frozen group has none."""
    return {group: rate * learning_rate_scale(recipe) for group, rate in recipe.rates(stage).items() if rate}


def learning_rates(recipe: Training, stage: int, iteration: int, iterations: int) -> dict[str, float]:
    """The learning rates of an iteration of a stage that has so many, both counted from 0."""
    share = min(1.0, (iteration + 1) / recipe.warmup) if recipe.warmup else 1.0
    if recipe.schedule == "cosine":
        decayed = max(0, iteration - recipe.warmup) / max(1, iterations - recipe.warmup)
        share *= (1 + math.cos(math.pi * decayed)) / 2
    return {group: rate * share for group, rate in trained_rates(recipe, stage).items()}


def learning_rate_scale(recipe: Training) -> float:
    """What the recipe multiplies its learning rates by on account of its batch."""
    match recipe.scaling:
        case "linear":
            return recipe.clips / recipe.published_batch
        case "sqrt":
            return math.sqrt(recipe.clips / recipe.published_batch)
        case _:
            return 1.0
