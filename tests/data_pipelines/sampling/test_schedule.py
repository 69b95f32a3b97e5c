from dataclasses import replace

import pytest

from data_pipelines.sampling import schedule, windows
from data_pipelines.sampling.schedule import ClipShape, StageData
from rvm_jax.errors import InputError

# The published recipe on four clips a batch, with epochs of a hundred windows.
STAGES = [
    StageData(schedule.iterations(20, 100, 4), 4, ClipShape(15, 512)),
    StageData(schedule.iterations(2, 30, 4), 4, ClipShape(50, 512)),
    StageData(schedule.iterations(1, 37, 4), 4, ClipShape(40, 512), ClipShape(6, 2048)),
    StageData(schedule.iterations(5, 50, 4), 4, ClipShape(40, 512), ClipShape(6, 2048)),
]


def test_a_stage_has_as_many_iterations_as_its_epochs_need():
    assert [stage.iterations for stage in STAGES] == [500, 15, 10, 63]
    assert schedule.iterations(1, 3, 8) == 1


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [(0, (0, 0)), (499, (0, 499)), (500, (1, 0)), (514, (1, 14)), (515, (2, 0)), (525, (3, 0)), (587, (3, 62))],
)
def test_stages_follow_one_another(iteration, expected):
    assert schedule.stage_of(STAGES, iteration) == expected


def test_there_is_nothing_after_the_end():
    with pytest.raises(ValueError, match="ends 1 iterations earlier"):
        schedule.stage_of(STAGES, 588)


def test_segmentation_takes_turns_and_high_resolution_comes_in_between():
    def kinds(iteration):
        return [made.kind for made in schedule.passes(STAGES, 1, iteration)]

    assert kinds(0) == ["matting_low", "segmentation_video"]
    assert kinds(1) == ["matting_low", "segmentation_stills"]
    assert kinds(515) == ["matting_low", "matting_high", "segmentation_video"]
    assert kinds(516) == ["matting_low", "matting_high", "segmentation_stills"]
    assert kinds(525) == ["matting_low", "matting_high", "segmentation_video"]


def test_every_stream_counts_its_batches_without_gaps():
    seen = {}
    for iteration in range(500, 588):
        for made in schedule.passes(STAGES, 1, iteration):
            seen.setdefault((made.stage, made.stream), []).append(made.batch)
    assert len(seen) == 3 + 4 + 4
    for batches in seen.values():
        assert batches == list(range(len(batches)))


def test_passes_have_the_shape_that_the_pipelines_give_their_batches():
    for made in schedule.passes(STAGES, 9, 520):
        size = 2048 if made.kind == "matting_high" else 512
        assert (made.height, made.width) == windows.shape(9, made.stream, made.batch, size)
        assert made.frames == {"matting_low": 40, "matting_high": 6, "segmentation_stills": 1}[made.kind]


def test_a_batch_of_stills_has_as_many_pictures_as_one_of_clips():
    assert STAGES[0].samples("segmentation_video") == 4
    assert STAGES[0].samples("segmentation_stills") == 4 * 15
    assert STAGES[0].shape("segmentation_video") == ClipShape(15, 512)
    with pytest.raises(ValueError, match="no high-resolution pass"):
        STAGES[0].shape("matting_high")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClipShape(0, 512), "clips of 0 frames: expected 1 or more"),
        (lambda: ClipShape(1, 8), "a square of 8 pixels: expected 16 or more"),
        (lambda: StageData(-1, 4, ClipShape(1, 512)), "-1 iterations with batches of 4"),
        (lambda: StageData(1, 4, ClipShape(1, 512), buckets=-1), "-1 buckets of sizes: expected 0 or more"),
        (lambda: StageData(1, 0, ClipShape(1, 512)), "1 iterations with batches of 0"),
    ],
)
def test_an_impossible_stage_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_stage_without_iterations_is_skipped():
    stages = [replace(stage, iterations=count) for stage, count in zip(STAGES, (0, 3, 0, 2), strict=True)]
    assert [schedule.stage_of(stages, iteration) for iteration in range(5)] == [(1, 0), (1, 1), (1, 2), (3, 0), (3, 1)]
    assert schedule.iterations(0, 100, 4) == 0


def test_there_is_nothing_before_the_beginning():
    with pytest.raises(ValueError, match="there is no iteration -1"):
        schedule.passes(STAGES, 1, -1)


def test_shapes_come_from_a_bounded_grid():
    shapes = {(made.height, made.width) for i in range(400) for made in schedule.passes(STAGES, 3, i)[:1]}
    assert len(shapes) == 16
    assert {side for shape in shapes for side in shape} == {288, 352, 416, 480}


def test_there_may_be_as_few_shapes_as_one():
    stage = StageData(50, 4, ClipShape(15, 512), ClipShape(6, 2048), buckets=1)
    made = [one for iteration in range(50) for one in schedule.passes([stage], 3, iteration)]
    assert {(one.kind.split("_")[-1], one.height, one.width) for one in made} == {
        ("low", 384, 384),
        ("high", 1536, 1536),
        ("video", 384, 384),
        ("stills", 384, 384),
    }
    two = replace(stage, buckets=2)
    sides = {
        side
        for iteration in range(50)
        for one in schedule.passes([two], 3, iteration)[:1]
        for side in (one.height, one.width)
    }
    assert sides == {320, 448}
