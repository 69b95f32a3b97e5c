"""Which compiled program a pass needs: the grid of sizes bounds how many a run may compile."""

from collections.abc import Sequence
from itertools import product

from data_pipelines.sampling import windows
from data_pipelines.sampling.schedule import Pass, PassKind, StageData
from train.device import step
from train.device.programs import Key
from train.recipe.recipe import Recipe, learning_rates


def program_key(recipe: Recipe, stages: Sequence[StageData], one: Pass) -> Key:
    """The key of the program of a pass."""
    return _key(recipe, stages[one.stage], one.stage, one.kind, one.height, one.width)


def all_keys(recipe: Recipe, stages: Sequence[StageData]) -> set[Key]:
    """The keys of all programs that the run may need: no more than kinds of passes times sizes in the grid."""
    kinds: tuple[PassKind, ...] = ("matting_low", "matting_high", "segmentation_video", "segmentation_stills")
    found = set()
    for number, stage in enumerate(stages):
        for kind in kinds if stage.high else (kinds[0], *kinds[2:]):
            sizes = windows.sizes(stage.shape(kind).size, stage.buckets)
            if stage.iterations:
                found |= {_key(recipe, stage, number, kind, height, width) for height, width in product(sizes, sizes)}
    return found


def _key(recipe: Recipe, stage: StageData, number: int, kind: PassKind, height: int, width: int) -> Key:
    segmentation = kind.startswith("segmentation")
    ratio = recipe.stages[number].downsample_ratio if kind == "matting_high" else 1.0
    trained = learning_rates(recipe, number, 0)
    groups = tuple(group for group in step.groups(segmentation, ratio) if group in trained)
    return Key(segmentation, stage.samples(kind), stage.shape(kind).frames, height, width, ratio, groups)
