"""How many programs a run may need: the grid of sizes bounds it, whatever the passes of its iterations are."""

from dataclasses import replace

import pytest

from data_pipelines.sampling import schedule
from data_pipelines.sampling.schedule import ClipShape, StageData
from train.recipe.published import DEMO, MOBILENETV3
from train.run import program_keys

PUBLISHED = [
    StageData(2000, 4, ClipShape(15, 512)),
    StageData(500, 4, ClipShape(50, 512)),
    StageData(500, 4, ClipShape(40, 512), ClipShape(6, 2048)),
    StageData(500, 4, ClipShape(40, 512), ClipShape(6, 2048)),
]


def all_keys(recipe, stages):
    """The programs that any stage may need."""
    return set().union(*(program_keys.stage_keys(recipe, stages, number) for number in range(len(stages))))


def used(recipe, stages):
    """The programs that the passes of all iterations are run by."""
    return {
        program_keys.program_key(recipe, stages, one)
        for iteration in range(sum(stage.iterations for stage in stages))
        for one in schedule.passes(stages, recipe.seed, iteration)
    }


def test_the_published_recipe_needs_no_more_than_its_grid_has():
    # Matting, clips and stills of two lengths (stages 3 and 4 have the third), and the high-resolution pass.
    assert len(all_keys(MOBILENETV3, PUBLISHED)) == (3 + 3 + 3 + 1) * 16
    found = used(MOBILENETV3, PUBLISHED)
    assert found <= all_keys(MOBILENETV3, PUBLISHED)
    assert len(found) > 100


@pytest.mark.parametrize("buckets", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_fewer_buckets_need_fewer(buckets):
    stages = [replace(stage, buckets=buckets) for stage in PUBLISHED]
    assert used(MOBILENETV3, stages) == all_keys(MOBILENETV3, stages)
    assert len(all_keys(MOBILENETV3, stages)) == 10 * buckets**2


def test_a_group_that_is_frozen_needs_a_program_of_its_own():
    rates = replace(DEMO.stages[0].rates, encoder=0.0)
    recipe = replace(DEMO, stages=(DEMO.stages[0], replace(DEMO.stages[1], rates=rates)))
    stages = [StageData(4, 4, ClipShape(4, 128), buckets=1)] * 2
    assert len(all_keys(DEMO, stages)) == 3
    assert used(recipe, stages) == all_keys(recipe, stages)
    assert len(all_keys(recipe, stages)) == 6


def test_a_stage_that_is_skipped_needs_none():
    stages = [PUBLISHED[0], *(replace(stage, iterations=0) for stage in PUBLISHED[1:])]
    assert len(all_keys(MOBILENETV3, stages)) == 3 * 16


def test_what_a_stage_still_needs_comes_largest_first():
    """Of two iterations: a matting pass each, and a segmentation pass of either kind."""
    keys = program_keys.needed_keys(MOBILENETV3, PUBLISHED, 0, 1998)
    expected = {
        program_keys.program_key(MOBILENETV3, PUBLISHED, one)
        for iteration in (1998, 1999)
        for one in schedule.passes(PUBLISHED, MOBILENETV3.seed, iteration)
    }
    assert set(keys) == expected
    assert [key.pixels for key in keys] == sorted((key.pixels for key in keys), reverse=True)
    assert program_keys.needed_keys(MOBILENETV3, PUBLISHED, 0, 2000) == []
    assert set(program_keys.needed_keys(MOBILENETV3, PUBLISHED, 1, 0)) <= program_keys.stage_keys(
        MOBILENETV3, PUBLISHED, 1
    )
