"""Which compiled program a pass needs, and which programs a stage does: the grid of sizes bounds how many."""

from collections.abc import Sequence
from itertools import product

from data_pipelines.sampling import schedule, windows
from data_pipelines.sampling.schedule import Pass, PassKind, StageData
from train.device import step
from train.device.programs import Key
from train.recipe.baselines import AnyRecipe
from train.recipe.recipe import trained_rates


def program_key(recipe: AnyRecipe, stages: Sequence[StageData], one: Pass) -> Key:
    """The key of the program of a pass."""
    return _key(recipe, stages[one.stage], one.stage, one.kind, one.height, one.width)


def stage_keys(recipe: AnyRecipe, stages: Sequence[StageData], number: int) -> set[Key]:
    """The keys of all programs that a stage may need: no more than kinds of passes times sizes in the grid."""
    stage = stages[number]
    found = set()
    for kind in {*schedule.kinds(stage, 0), *schedule.kinds(stage, 1)}:
        sizes = windows.sizes(stage.shape(kind).size, stage.buckets)
        found |= {_key(recipe, stage, number, kind, height, width) for height, width in product(sizes, sizes)}
    return found if stage.iterations else set()


def needed_keys(recipe: AnyRecipe, stages: Sequence[StageData], number: int, done: int) -> list[Key]:
    """The keys of those that its iterations from `done` on do need, the largest first."""
    begin = sum(stage.iterations for stage in stages[:number])
    possible = stage_keys(recipe, stages, number)
    found: set[Key] = set()
    for iteration in range(max(done, begin), begin + stages[number].iterations):
        found |= {program_key(recipe, stages, one) for one in schedule.passes(stages, recipe.seed, iteration)}
        if len(found) == len(possible):
            break
    return sorted(found, key=lambda key: (-key.pixels, key))


def _key(recipe: AnyRecipe, stage: StageData, number: int, kind: PassKind, height: int, width: int) -> Key:
    segmentation = kind.startswith("segmentation")
    ratio = recipe.stages[number].downsample_ratio if kind in ("matting_high", "stills") else 1.0
    trained = trained_rates(recipe, number)
    possible = trained if kind == "stills" else step.groups(segmentation, ratio)
    groups = tuple(group for group in possible if group in trained)
    return Key(segmentation, stage.samples(kind), stage.shape(kind).frames, height, width, ratio, groups)
