"""What may change when a run goes on: whatever has not acted on an iteration that is done."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from rvm_jax.errors import InputError
from tests.train import runs
from train.recipe.text import to_json
from train.run.identity import begin, resume

LENGTHS = {"1": 10, "2": 10, "3": 10, "4": 10}  # so stage 3 is iterations 20 to 29
CLIPS, IMAGES = "synthetic/tiny_matting_clips", "synthetic/tiny_matting_images"
BACKGROUNDS = runs.RECIPE.backgrounds
OLD = "0123456789abcdef"
DATA = dict.fromkeys([CLIPS, IMAGES, *BACKGROUNDS, *runs.RECIPE.segmentation_clips], OLD * 2)


def identity(lengths=None, data=None, **fields):
    """That of a run of four stages, with other fields: `seed=1`, `stage3={"frames": 3}`."""
    stages = list(runs.RECIPE.stages)
    for number in range(1, 5):
        stages[number - 1] = replace(stages[number - 1], **fields.pop(f"stage{number}", {}))
    recipe = to_json(replace(runs.RECIPE, stages=tuple(stages), **fields))
    return {"recipe": recipe, "iterations": LENGTHS | (lengths or {}), "data": DATA | (data or {})}


RUN = identity()


@pytest.mark.parametrize("done", [None, 0, 25])
def test_the_same_run_is_as_it_was(done):
    assert resume(RUN, identity(), done) == (RUN, [], [])


@pytest.mark.parametrize(
    ("done", "asked"),
    [
        (0, identity(seed=1)),
        (0, identity(init=Path("x"))),
        (0, identity(stage1={"frames": 3})),
        (25, identity(seed=1)),
        (25, identity(batch=16)),
        (25, identity(warmup=1)),
        (25, identity(schedule="cosine")),
        (25, identity(ema=0.9)),
        (25, identity(clip_norm=1.0)),
        (25, identity(backgrounds=("mine",))),
        (25, identity(still_motion=0.95)),
        (25, identity(validation=replace(runs.RECIPE.validation, clips=4))),
        (25, identity(stage1={"frames": 3})),
        (25, identity(stage3={"frames": 3})),
        (25, identity(stage3={"rates": replace(runs.RATES, refiner=2e-3)})),
        (25, identity({"2": 9})),  # which is over
        (25, identity({"2": 11})),
        (25, identity({"3": 4})),  # of which 5 are done
        (25, identity(data={CLIPS: OLD + OLD[::-1]})),  # other pixels
        (25, identity(data={BACKGROUNDS[0]: OLD + OLD[::-1]})),
        (31, identity(stage4={"size": 72})),
        (31, identity(data={IMAGES: OLD[::-1] + OLD})),
    ],
)
def test_what_has_acted_may_not_change(done, asked):
    assert len(resume(RUN, asked, done).refused) == 1


@pytest.mark.parametrize(
    ("done", "asked"),
    [
        (None, identity({"1": 9}, {CLIPS: "x", IMAGES: "y"}, seed=1, batch=16, stage1={"frames": 3})),
        (0, identity({"1": 11}, stage2={"frames": 3})),
        (25, identity({"3": 5})),
        (25, identity({"3": 11})),
        (25, identity({"4": 0}, stage4={"epochs": 0, "size": 72, "matting": ("mine",)})),
        (25, identity(data={IMAGES: "other", "mine": "new"})),
        (30, identity({"3": 11}, stage4={"rates": runs.RATES})),  # stage 4 has not begun
        (40, identity({"4": 12}, stage4={"epochs": 6})),  # the end of the run is not the end of all
    ],
)
def test_what_has_not_acted_may_change(done, asked):
    found = resume(RUN, asked, done)
    assert found.refused == []
    changes = found.identity["changes"]
    assert {**found.identity, "changes": None} == {**asked, "changes": None}
    assert [change["iteration"] for change in changes] == [done or 0]
    assert resume(found.identity, asked, done) == (found.identity, [], [])


def test_a_stage_that_was_skipped_is_over_once_a_later_one_begins():
    run = identity({"2": 0}, stage2={"epochs": 0, "iterations": None})
    assert resume(run, RUN, 10).refused == []
    assert resume(run, RUN, 11).refused == [
        "stages.2.epochs: 0 in the run, 1 now",
        "stages.2.iterations: None in the run, 1 now",
        "iterations.2: 0 in the run, 10 now",
    ]
    other = identity({"2": 0}, stage2={"epochs": 0, "iterations": None, "frames": 9})
    assert resume(run, other, 11).refused == []


def test_the_length_of_a_stage_has_acted_where_rates_fall_to_its_end():
    run = identity(schedule="cosine")
    assert resume(run, identity({"3": 11}, schedule="cosine"), 25).refused == ["iterations.3: 10 in the run, 11 now"]
    longer = identity({"3": 11}, schedule="cosine", stage3={"samples": 88})
    assert len(resume(run, longer, 25).refused) == 2
    assert resume(run, identity({"4": 11}, schedule="cosine"), 25).refused == []
    assert resume(run, longer, 20).refused == []
    assert resume(RUN, identity({"3": 11}, stage3={"samples": 88}), 25).refused == []


def test_the_same_length_said_otherwise_is_no_other_run():
    found = resume(RUN, identity(stage1={"epochs": 7, "iterations": None}), 25)
    assert found.refused == []
    assert found.changed == [
        "stage 1: epochs 1 in the run so far, 7 from now on",
        "stage 1: iterations 3 in the run so far, None from now on",
    ]


def test_what_changes_is_told_and_what_it_was_is_kept():
    first = resume(RUN, identity({"4": 12}, stage4={"epochs": 6}), 25)
    assert first.changed == ["stage 4: epochs 1 in the run so far, 6 from now on"]
    second = resume(first.identity, identity({"4": 14}, {IMAGES: "new"}, stage4={"epochs": 7}), 30)
    assert second.changed == [
        "stage 4: epochs 6 in the run so far, 7 from now on",
        f"data.{IMAGES} {OLD * 2} in the run so far, new from now on",
    ]
    assert second.identity["changes"] == [
        {"iteration": 25, "before": {"stages.4.epochs": 1, "iterations.4": 10}},
        {"iteration": 30, "before": {"stages.4.epochs": 6, "iterations.4": 12, f"data.{IMAGES}": OLD * 2}},
    ]


def test_what_a_run_began_with_no_longer_matters_when_it_has_begun():
    run = identity(init=Path("a"))
    found = resume(run, identity(init=Path("/abs/a")), 1)
    assert (found.identity, found.refused) == (run, [])
    assert found.changed == ["init /abs/a is not read: the run began with a, and has gone on from there"]


def test_a_run_of_an_older_version_goes_on():
    """It has fields that are gone, lacks fields that are new, and knows nothing of the pixels of its data."""
    old = copy.deepcopy(RUN)
    old["recipe"] |= {"remat": False, "accumulation": 2}
    del old["recipe"]["buckets"], old["recipe"]["stages"]["1"]["high_frames"]
    del old["recipe"]["validation"]["width"]
    for name in ("schedule", "optimizer", "weight_decay", "clip_norm", "ema", "background_motion", "still_motion"):
        del old["recipe"][name]
    del old["recipe"]["stages"]["1"]["samples"]
    old["data"] = dict.fromkeys(DATA, OLD)
    asked = identity(buckets=4, validation=replace(runs.RECIPE.validation, width=512))
    found = resume(old, asked, 25)
    assert found.refused == []
    assert found.changed == [
        "remat False in the run so far, which this version of rvm-jax does not know",
        "accumulation 2 in the run so far, which this version of rvm-jax does not know",
    ]
    assert (found.identity["recipe"], found.identity["data"]) == (asked["recipe"], DATA)
    assert found.identity["changes"] == [{"iteration": 25, "before": {"remat": False, "accumulation": 2}}]
    assert resume(old, identity(buckets=1), 25).refused == [
        "buckets: 4 in the run, 1 now",
        "validation.width: 512 in the run, 24 now",
    ]
    moved = identity(buckets=4, validation=replace(runs.RECIPE.validation, width=512), still_motion=0.95)
    assert resume(old, moved, 25).refused == ["still_motion: 0.0 in the run, 0.95 now"]
    other = identity(data={CLIPS: OLD[::-1] + OLD}, buckets=4, validation=replace(runs.RECIPE.validation, width=512))
    assert resume(old, other, 25).refused == [f"data.{CLIPS}: {OLD} in the run, {OLD[::-1] + OLD} now"]


def test_a_warmup_is_looked_at_where_a_stage_gets_its_length():
    with pytest.raises(InputError, match=r"--warmup 6: stage 1 has 10 iterations, .* give 5 or less"):
        begin(identity(warmup=6))
    with pytest.raises(InputError, match="--warmup 6"):
        resume(RUN, identity(warmup=6), None)
    run = identity(warmup=6)  # by an older version, which took any
    assert resume(run, identity({"4": 12}, warmup=6), 25).refused == []
    with pytest.raises(InputError, match=r"--warmup 6: stage 4 has 8 iterations, .* give 4 or less"):
        resume(run, identity({"4": 8}, warmup=6), 25)
