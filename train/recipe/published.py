"""The recipes by name: the published one for both variants, the clean one, and a small demonstration."""

import dataclasses

from train.recipe.clean import CLEAN
from train.recipe.recipe import Rates, Recipe, Stage, Validation


def _rates(encoder: float, aspp: float, rest: float, refiner: float = 0.0) -> Rates:
    return Rates(encoder, aspp, decoder=rest, project_mat=rest, project_seg=rest, refiner=refiner)


MOBILENETV3 = Recipe(
    variant="mobilenetv3",
    stages=(
        Stage(("video_matte_240k/sd",), epochs=20, frames=15, rates=_rates(1e-4, 2e-4, 2e-4)),  # the paper: 15 epochs
        Stage(("video_matte_240k/sd",), epochs=2, frames=50, rates=_rates(5e-5, 1e-4, 1e-4)),
        Stage(("video_matte_240k/hd",), epochs=1, frames=40, rates=_rates(1e-5, 1e-5, 1e-5, 2e-4), high_frames=6),
        Stage(("image_matte",), epochs=5, frames=40, rates=_rates(1e-5, 1e-5, 5e-5, 2e-4), high_frames=6),
    ),
    backgrounds=("dvm_backgrounds", "background_images"),
    segmentation_clips=("youtube_vis_2021",),
    segmentation_stills=("coco_person", "supervisely_person"),
    precision="bfloat16",
)

RESNET50 = dataclasses.replace(MOBILENETV3, variant="resnet50")

_FIRST = Stage(("synthetic/matting_clips",), epochs=3, frames=4, rates=_rates(6e-3, 6e-3, 6e-3), size=128)
_HIGH = dataclasses.replace(
    _FIRST, epochs=1, rates=_rates(1e-3, 1e-3, 1e-3, 5e-3), high_frames=2, high_size=256, downsample_ratio=0.5
)

DEMO = Recipe(
    variant="tiny",
    stages=(
        _FIRST,
        dataclasses.replace(_FIRST, epochs=1, rates=_rates(2e-3, 2e-3, 2e-3)),
        _HIGH,
        dataclasses.replace(_HIGH, matting=("synthetic/matting_images",), epochs=2),
    ),
    backgrounds=("synthetic/background_clips", "synthetic/background_images"),
    segmentation_clips=("synthetic/segmentation_clips",),
    segmentation_stills=("synthetic/segmentation_images",),
    segmentation_size=128,
    buckets=1,
    validation=Validation(clips=8, frames=8, height=96, width=128),
)

RECIPES = {"mobilenetv3": MOBILENETV3, "resnet50": RESNET50, "clean": CLEAN, "demo": DEMO}
