"""Tiny recipes of the three networks, which take seconds: what the tests here train."""

from dataclasses import replace

from train.recipe import baselines
from train.recipe.baselines import BackgroundMattingRates, BackgroundMattingStage, ModnetRates, ModnetStage, U2NetRates
from train.recipe.recipe import Validation

PEOPLE, BACKGROUNDS = ("synthetic/tiny_matting_clips",), ("synthetic/tiny_background_images",)
SMALL = {"batch": 8, "validation": Validation(clips=3, frames=1, height=64, width=64)}

MODNET = replace(
    baselines.MODNET,
    optimizer="adam",
    stages=tuple(
        ModnetStage(PEOPLE, epochs=1, rates=ModnetRates(*[rate] * 4), size=64, iterations=2) for rate in (1e-3, 1e-4)
    ),
    backgrounds=BACKGROUNDS,
    unknown=(1, 4),
    **SMALL,
)
_COARSE = BackgroundMattingStage(
    PEOPLE, epochs=1, rates=BackgroundMattingRates(1e-3, 1e-3, 1e-3), size=64, iterations=2
)
BACKGROUND_MATTING = replace(
    baselines.BACKGROUND_MATTING,
    variant="bgmv2_mobilenetv2",
    stages=(
        _COARSE,
        replace(_COARSE, rates=BackgroundMattingRates(1e-4, 1e-4, 1e-4, 1e-3), size=128, downsample_ratio=0.25),
    ),
    backgrounds=BACKGROUNDS,
    buckets=1,
    sample_pixels=1600,
    **SMALL,
)
U2NET = replace(
    baselines.U2NET,
    variant="u2netp",
    stages=(
        replace(
            baselines.U2NET.stages[0],
            data=("synthetic/tiny_segmentation_images",),
            rates=U2NetRates(1e-3, 1e-3),
            size=64,
            iterations=3,
        ),
    ),
    **SMALL,
)
RECIPES = {"modnet": MODNET, "bgmv2": BACKGROUND_MATTING, "u2net": U2NET}
