"""The recipes of the networks that RVM is weighed against: MODNet, BackgroundMattingV2 and U²-Net, on stills.

Each has the settings of its released code, as far as that says them. A step has one picture of every sample.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from tyro.conf import arg

from rvm_jax.errors import InputError
from train.recipe.recipe import Recipe, Validation
from train.recipe.training import Training, at_least, one_of


@dataclass(frozen=True)
class ModnetRates:
    """The learning rate of each of MODNet's parts; 0 freezes it.

    Attributes:
        encoder: Learning rate of the backbone; 0 freezes it, as with the others.
        lr_branch: Learning rate of the branch that finds what is a person.
        hr_branch: Learning rate of the branch that finds the edges.
        f_branch: Learning rate of the branch that makes the matte of both.
    """

    encoder: float
    lr_branch: float
    hr_branch: float
    f_branch: float


@dataclass(frozen=True)
class BackgroundMattingRates:
    """The learning rate of each of BackgroundMattingV2's parts; 0 freezes it.

    Attributes:
        encoder: Learning rate of the backbone; 0 freezes it, as with the others.
        aspp: Learning rate of the ASPP.
        decoder: Learning rate of the decoder.
        refiner: Learning rate of the refiner, which stages with a downsample-ratio below 1 train.
    """

    encoder: float
    aspp: float
    decoder: float
    refiner: float = 0.0


@dataclass(frozen=True)
class U2NetRates:
    """The learning rate of each of U²-Net's halves; 0 freezes it.

    Attributes:
        encoder: Learning rate of the stages 1 to 6; 0 freezes them.
        decoder: Learning rate of the stages 5 to 1 upwards, and of all maps.
    """

    encoder: float
    decoder: float


@dataclass(frozen=True)
class StillStage:
    """A stage begins with the weights of the one before it, and with a fresh optimizer.

    Attributes:
        data: Datasets of people with their alpha; for U²-Net, segmentation datasets. Every frame of a clip is a sample.
        epochs: How often every sample is seen; 0 skips the stage.
        rates: The learning rate of each part of the network; 0 freezes it.
        size: Pixels of the square that samples have, or with buckets are cut from.
        samples: Length of the stage in samples, in place of epochs.
        iterations: Length of the stage in iterations, in place of epochs and samples.
    """

    data: tuple[str, ...]
    epochs: int
    rates: Any
    size: int = 512
    samples: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(optional)")] = None
    iterations: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(optional)")] = None

    @property
    def skipped(self) -> bool:
        return next(length for length in (self.iterations, self.samples, self.epochs) if length is not None) == 0

    @property
    def downsample_ratio(self) -> float:
        """By how much the network, but for its refiner, sees pictures smaller."""
        return 1.0

    @property
    def validation_ratio(self) -> float:
        """The same for the clips of validations."""
        return self.downsample_ratio


@dataclass(frozen=True)
class ModnetStage(StillStage):
    """A stage of MODNet's."""

    rates: ModnetRates


@dataclass(frozen=True)
class BackgroundMattingStage(StillStage):
    """A stage of BackgroundMattingV2's.

    Attributes:
        downsample_ratio: At 1, the coarse network is trained alone; up to 0.5, the refiner too, and the coarse network
            sees pictures so much smaller.
    """

    rates: BackgroundMattingRates
    downsample_ratio: float = 1.0


@dataclass(frozen=True)
class U2NetStage(StillStage):
    """A stage of U²-Net's."""

    rates: U2NetRates


@dataclass(frozen=True, kw_only=True)
class StillRecipe(Training):
    """All that decides what training gives.

    Attributes:
        variant: The network: modnet; bgmv2_resnet50, bgmv2_resnet101 or bgmv2_mobilenetv2; u2net or u2netp.
        stages: The stages, one after the other.
        buckets: How many heights, and how many widths, there are for the shape of a step, between half and all of the
            square. Each pair compiles once. 0: a step has the whole square.
        validation: The fixed pictures on which the network is measured, as clips.
    """

    variants: ClassVar[tuple[str, ...]]
    multiple: ClassVar[int] = 1
    """What the sides of all pictures are multiples of."""

    variant: str
    stages: tuple[StillStage, ...]
    buckets: int = 0
    validation: Validation = field(default_factory=Validation)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.variants, variant=self.variant)
        at_least(0, buckets=self.buckets)
        wanted = self.validation
        at_least(1, "validation.", clips=wanted.clips, frames=wanted.frames)
        at_least(self.multiple, "validation.", height=wanted.height, width=wanted.width)
        for name in ("height", "width"):
            _multiple_of(self.multiple, f"validation.{name}", getattr(wanted, name))
        for number, stage in enumerate(self.stages, 1):
            self._check(stage, f"stages.{number}.")
        if all(stage.skipped for stage in self.stages):
            raise InputError("every stage is skipped: give one of them --stages.N.epochs 1 or more")

    def rates(self, stage: int) -> dict[str, float]:
        return dataclasses.asdict(self.stages[stage].rates)

    def _check(self, stage: StillStage, where: str) -> None:
        """Refuse what cannot be trained; `where` is what the stage's options begin with."""
        rates = dataclasses.asdict(stage.rates)
        at_least(0, f"{where}rates.", **rates)
        at_least(0, where, epochs=stage.epochs, samples=stage.samples, iterations=stage.iterations)
        at_least(64, where, size=stage.size)
        _multiple_of(self.multiple * max(1, 4 * self.buckets), f"{where}size", stage.size)
        if not stage.skipped and not any(rates.values()):
            raise InputError(f"--{where}rates are all 0, which trains nothing: skip the stage with --{where}epochs 0")


@dataclass(frozen=True, kw_only=True)
class ModnetRecipe(StillRecipe):
    """All that decides what training MODNet gives.

    Attributes:
        backgrounds: Datasets of background clips and images, which people are put in front of.
        unknown: How many pixels the unknown band of a trimap reaches to each side of an edge: the least and the most.
    """

    published_batch: ClassVar[int] = 16
    variants: ClassVar[tuple[str, ...]] = ("modnet",)
    multiple: ClassVar[int] = 32

    backgrounds: tuple[str, ...]
    unknown: tuple[int, int] = (3, 20)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.unknown[0] <= self.unknown[1]:
            raise InputError(
                f"--unknown {' '.join(map(str, self.unknown))}: expected the least and the most, from 1 on"
            )


@dataclass(frozen=True, kw_only=True)
class BackgroundMattingRecipe(StillRecipe):
    """All that decides what training BackgroundMattingV2 gives.

    Attributes:
        backgrounds: Datasets of background clips and images, which people are put in front of.
        sample_pixels: How many pixels of each picture the refiner is trained on, where the coarse matte is least sure.
    """

    published_batch: ClassVar[int] = 8
    variants: ClassVar[tuple[str, ...]] = ("bgmv2_resnet50", "bgmv2_resnet101", "bgmv2_mobilenetv2")
    multiple: ClassVar[int] = 4

    backgrounds: tuple[str, ...]
    sample_pixels: int = 80_000

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(16, sample_pixels=self.sample_pixels)

    def _check(self, stage: StillStage, where: str) -> None:
        super()._check(stage, where)
        ratio = stage.downsample_ratio
        if not (0 < ratio <= 0.5 or ratio == 1):
            raise InputError(f"--{where}downsample-ratio {ratio}: expected 1, or more than 0 up to 0.5")
        if stage.rates.refiner and ratio == 1:
            raise InputError(
                f"--{where}rates.refiner {stage.rates.refiner}: at --{where}downsample-ratio 1 the stage trains the "
                "coarse network alone; give 0, or a ratio up to 0.5"
            )


@dataclass(frozen=True, kw_only=True)
class U2NetRecipe(StillRecipe):
    """All that decides what training U²-Net gives."""

    published_batch: ClassVar[int] = 12
    variants: ClassVar[tuple[str, ...]] = ("u2net", "u2netp")

    def rates(self, stage: int) -> dict[str, float]:
        rates = self.stages[stage].rates
        down = [f"stage{number}" for number in range(1, 7)]
        up = [f"stage{number}d" for number in range(1, 6)]
        maps = [*(f"side{number}" for number in range(1, 7)), "outconv"]
        return dict.fromkeys(down, rates.encoder) | dict.fromkeys([*up, *maps], rates.decoder)


AnyRecipe = Recipe | StillRecipe


def recipe_type(variant: str) -> type[StillRecipe] | None:
    """The recipe that trains the variant, if it is one of these."""
    kinds: tuple[type[StillRecipe], ...] = (ModnetRecipe, BackgroundMattingRecipe, U2NetRecipe)
    return next((kind for kind in kinds if variant in kind.variants), None)


def _multiple_of(multiple: int, name: str, value: int) -> None:
    if value % multiple:
        raise InputError(f"--{name} {value}: expected a multiple of {multiple}")


def _modnet_stage(rate: float) -> ModnetStage:
    return ModnetStage(("image_matte",), epochs=10, rates=ModnetRates(rate, rate, rate, rate))


MODNET = ModnetRecipe(
    variant="modnet",
    optimizer="sgd",
    stages=tuple(_modnet_stage(rate) for rate in (1e-2, 1e-3, 1e-4, 1e-5)),
    backgrounds=("background_images",),
    validation=Validation(clips=64, frames=1, height=512, width=512),
)

_REFINED = BackgroundMattingStage(
    ("video_matte_240k/hd",),
    epochs=1,
    rates=BackgroundMattingRates(5e-5, 5e-5, 1e-4, 3e-4),
    size=2048,
    downsample_ratio=0.25,
)

BACKGROUND_MATTING = BackgroundMattingRecipe(
    variant="bgmv2_resnet50",
    stages=(
        BackgroundMattingStage(("video_matte_240k/hd",), epochs=8, rates=BackgroundMattingRates(1e-4, 5e-4, 5e-4)),
        _REFINED,
        dataclasses.replace(_REFINED, data=("image_matte",), epochs=30),
    ),
    backgrounds=("background_images",),
    buckets=4,
    validation=Validation(clips=32, frames=1),
)

U2NET = U2NetRecipe(
    variant="u2net",
    stages=(U2NetStage(("supervisely_person",), epochs=0, rates=U2NetRates(1e-3, 1e-3), size=288, iterations=600_000),),
    validation=Validation(clips=64, frames=1, height=320, width=320),
)

RECIPES: dict[str, StillRecipe] = {"modnet": MODNET, "bgmv2": BACKGROUND_MATTING, "u2net": U2NET}
