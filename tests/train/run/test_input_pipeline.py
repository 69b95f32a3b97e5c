import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.pipelines import matting, segmentation
from data_pipelines.pipelines.batches import Slice
from data_pipelines.pipelines.matting import MattingData
from data_pipelines.pipelines.workers import Workers
from data_pipelines.sampling import schedule
from data_pipelines.sampling.schedule import ClipShape, StageData
from rvm_jax.errors import InputError
from tests.data_pipelines import conftest, stamped
from train.recipe.recipe import Rates, Recipe, Stage, Validation
from train.run import input_pipeline

prepared = conftest.prepared
RATES = Rates(encoder=1e-4, aspp=1e-4, decoder=1e-4, project_mat=1e-4, project_seg=1e-4)
LOW = Stage(matting=("synthetic/tiny_matting_clips",), epochs=1, frames=3, rates=RATES, size=64, iterations=3)
HIGH = replace(LOW, matting=("synthetic/tiny_matting_images",), high_frames=2, high_size=128, downsample_ratio=0.5)
RECIPE = Recipe(
    variant="tiny",
    stages=(LOW, replace(LOW, iterations=0), replace(HIGH, iterations=4)),
    backgrounds=("synthetic/tiny_background_images", "synthetic/tiny_background_clips"),
    segmentation_clips=("synthetic/tiny_segmentation_clips",),
    segmentation_stills=("synthetic/tiny_segmentation_images",),
    segmentation_size=32,
    batch=2,
    buckets=3,
    precision="float32",
    seed=5,
    validation=Validation(clips=5, frames=2, height=18, width=32),
)


def masked(lengths):
    return stamped.clips(lengths, {"image": stamped.flat(24, 32), "mask": stamped.flat(24, 32, None)})


def clips_on_backgrounds(lengths):
    return MattingData(stamped.matting_clips(lengths), stamped.background_clips([1] * 9), stamped.background_clips([8]))


def sources(lengths):
    return input_pipeline.Sources(
        clips_on_backgrounds(lengths), masked([5, 9]), masked([1] * 7), clips_on_backgrounds([9, 4]), {}
    )


SOURCES = [sources([20, 7]), input_pipeline.UNOPENED, sources([1, 1, 1])]
STAGES = input_pipeline.stage_data(RECIPE, SOURCES)


def fed(start, count=None, stages=STAGES, **where):
    iterations = itertools.islice(input_pipeline.feed(RECIPE, stages, SOURCES, start, **where), count)
    return [(number, list(passes)) for number, passes in iterations]


def take(feed):
    """The next iteration with all its passes."""
    number, passes = next(feed)
    return number, list(passes)


@pytest.fixture(scope="module")
def whole():
    return fed(0)


def assert_equal(ours, theirs):
    assert [number for number, _ in ours] == [number for number, _ in theirs]
    for (_, one), (_, other) in zip(ours, theirs, strict=True):
        assert [made for made, _ in one] == [made for made, _ in other]
        for (_, batch), (_, expected) in zip(one, other, strict=True):
            assert batch.keys() == expected.keys()
            for name in batch:
                np.testing.assert_array_equal(batch[name], expected[name], strict=True)


def test_every_pass_of_the_schedule_has_its_batch(whole):
    assert [number for number, _ in whole] == list(range(7))
    for number, passes in whole:
        assert [made for made, _ in passes] == schedule.passes(STAGES, 5, number)
        for made, batch in passes:
            names = {"image", "mask"} if made.kind.startswith("segmentation") else {"foreground", "alpha", "background"}
            assert batch.keys() == names
            samples = 2 * 3 if made.kind == "segmentation_stills" else 2
            for array in batch.values():
                assert array.shape[:4] == (samples, made.frames, made.height, made.width)


def test_the_batches_are_those_of_the_pipelines(whole):
    """Stage 3 is of images, and begins anew with both kinds of segmentation."""
    low = matting.batches(
        SOURCES[2].matting,
        Slice(2),
        seed=5,
        stream="stage 3 matting_low",
        frames=3,
        size=64,
        buckets=3,
        augmentation=matting.IMAGES,
    )
    stills = segmentation.batches(
        SOURCES[2].segmentation_stills,
        Slice(6),
        seed=5,
        stream="stage 3 segmentation_stills",
        frames=1,
        size=32,
        buckets=3,
        augmentation=segmentation.STILLS,
    )
    for endless, iteration, one in ((low, 3, 0), (stills, 4, 2)):
        (expected,) = stamped.first(endless, 1)
        _, batch = whole[iteration][1][one]
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name], strict=True)


@pytest.mark.parametrize("motion", [0.0, 1.0])
def test_stills_among_the_segmentation_clips_move_as_often_as_the_recipe_says(motion):
    stills = stamped.clips([1] * 3, {"image": lambda n: stamped.photo(24, 32), "mask": stamped.flat(24, 32, None)})
    source = SOURCES[0]._replace(segmentation_clips=stills)
    drawn = {"seed": 5, "stream": "s", "frames": 3, "size": 32, "shape": (32, 32)}
    made = source.batches(replace(RECIPE, still_motion=motion), "segmentation_video", Slice(2), drawn)
    (batch,) = stamped.first(made, 1)
    assert (batch["image"][:, 0] != batch["image"][:, -1]).any((1, 2, 3)).tolist() == [motion == 1] * 2


@pytest.mark.parametrize("start", [1, 2, 3, 6])
def test_a_restart_goes_on_where_it_was(whole, start):
    assert_equal(fed(start, 3), whole[start : start + 3])


def test_there_is_nothing_after_the_end():
    assert fed(7) == []


def test_hosts_together_have_the_batches_of_one(whole):
    for here, there, (number, expected) in zip(
        fed(2, host=0, hosts=2), fed(2, host=1, hosts=2), whole[2:], strict=True
    ):
        together = [
            (made, {name: np.concatenate([batch[name], other[name]]) for name in batch})
            for (made, batch), (_, other) in zip(here[1], there[1], strict=True)
        ]
        assert_equal([(here[0], together)], [(number, expected)])


def test_any_iteration_is_reached_at_once():
    stages = [replace(STAGES[0], iterations=10**12), *STAGES[1:]]
    ((number, passes),) = fed(10**12 - 1, 1, stages)
    assert number == 10**12 - 1
    assert [made.batch for made, _ in passes] == [10**12 - 1, 5 * 10**11 - 1]


@pytest.mark.slow
def test_worker_processes_make_the_batches_of_threads(prepared):
    """From any iteration, for any of several hosts, and for validation."""
    first, _, last = input_pipeline.open_sources(RECIPE, prepared)
    opened = [first, input_pipeline.UNOPENED, last]

    def fed(start, workers, **where):
        feed = input_pipeline.feed(RECIPE, STAGES, opened, start, workers=workers, **where)
        return [(number, list(passes)) for number, passes in feed]

    def validated(workers):
        return [
            (None, [(None, batch)])
            for batch, _ in input_pipeline.validation_batches(RECIPE, HIGH, first, 2, workers=workers)
        ]

    def everything(workers):
        return [fed(0, workers), fed(5, workers, host=1, hosts=2), validated(workers)]

    expected = everything(None)
    for given in ({"processes": 1, "threads": 2}, {"processes": 3}):
        with Workers(**given) as workers:
            for ours, theirs in zip(everything(workers), expected, strict=True):
                assert_equal(ours, theirs)


@pytest.fixture
def streams(monkeypatch):
    """Which streams have been opened, and which of them closed again."""
    opened, closed = [], set()

    def arrays(batches, workers):
        opened.append(batches)
        try:
            while True:
                yield {}
        finally:
            closed.add(batches)

    monkeypatch.setattr(input_pipeline, "arrays", arrays)
    return opened, closed


def test_only_the_streams_of_one_stage_are_open(streams):
    opened, closed = streams
    feed = input_pipeline.feed(RECIPE, STAGES, SOURCES, 1)
    take(feed), take(feed)
    assert (len(opened), len(closed)) == (3, 0)
    take(feed), take(feed)
    assert closed == set(opened[:3])
    feed.close()
    assert closed == set(opened)


def test_a_pass_waits_for_no_other_passs_batch(monkeypatch):
    """The devices are given it while the next one's batch is still being made."""
    made = []

    def arrays(batches, workers):
        for number in itertools.count():
            made.append(number)
            yield {}

    monkeypatch.setattr(input_pipeline, "arrays", arrays)
    feed = input_pipeline.feed(RECIPE, STAGES, SOURCES, 0)
    _, passes = next(feed)
    assert made == []
    next(passes)
    assert made == [0]
    next(passes)
    assert made == [0, 0]
    feed.close()


def test_streams_are_closed_even_while_an_error_is_held(streams, monkeypatch):
    opened, closed = streams
    feed = input_pipeline.feed(RECIPE, STAGES, SOURCES, 1)
    take(feed)
    monkeypatch.setattr(schedule, "passes", None)
    with pytest.raises(TypeError) as caught:
        next(feed)
    assert caught.tb
    assert closed == set(opened) != set()


def test_a_damaged_record_is_the_users_error():
    def damaged(number):
        return {"foreground": b"junk", "alpha": b"junk"}

    data = SOURCES[0].matting
    broken = replace(data, foregrounds=replace(data.foregrounds, read=damaged))
    feed = input_pipeline.feed(RECIPE, STAGES, [SOURCES[0]._replace(matting=broken), *SOURCES[1:]], 0)
    with pytest.raises(InputError, match=r"^frame \d+ of clip[01] is damaged: prepare it again \(.*\)$"):
        take(feed)


def test_an_epoch_is_the_windows_of_clips_or_as_many_images_as_backgrounds():
    by_epochs = replace(RECIPE, stages=tuple(replace(stage, epochs=4, iterations=None) for stage in (LOW, LOW, HIGH)))
    plan = input_pipeline.stage_data(by_epochs, [SOURCES[0], SOURCES[0], SOURCES[2]])
    windows, backgrounds = 7 + 3, 9 + 1
    assert [stage.iterations for stage in plan] == [4 * windows // 2, 4 * windows // 2, 4 * backgrounds // 2]
    assert plan[0] == StageData(20, 2, ClipShape(3, 64), segmentation_size=32, buckets=3)
    assert plan[2] == StageData(20, 2, ClipShape(3, 64), ClipShape(2, 128), segmentation_size=32, buckets=3)


def test_a_skipped_stage_has_no_iterations_and_its_data_need_not_be_there(prepared):
    absent = replace(LOW, matting=("image_matte",), epochs=0, iterations=None)
    recipe = replace(RECIPE, stages=(LOW, absent, replace(absent, epochs=2, iterations=0), HIGH))
    opened = input_pipeline.open_sources(recipe, prepared)
    assert opened[1] == opened[2] == input_pipeline.UNOPENED
    assert [stage.iterations for stage in input_pipeline.stage_data(recipe, opened)] == [3, 0, 0, 3]


def test_all_that_the_recipe_names_is_opened(prepared):
    first, _, last = input_pipeline.open_sources(RECIPE, prepared)
    assert first.matting.foregrounds.names[0].startswith("synthetic/tiny_matting_clips/")
    assert (len(first.matting.foregrounds), len(first.validation.foregrounds)) == (3, 1)
    assert (len(first.matting.background_images), len(first.matting.background_clips)) == (3, 2)
    assert (len(first.validation.background_images), len(first.validation.background_clips)) == (1, 1)
    assert (len(first.segmentation_clips), len(first.segmentation_stills)) == (2, 4)
    assert last.matting.of_images
    assert not first.matting.of_images
    number, passes = take(input_pipeline.feed(RECIPE, STAGES, [first, input_pipeline.UNOPENED, last], 6))
    assert (number, len(passes)) == (6, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"segmentation_stills": ("coco_person",)},
            "coco_person is not prepared in .*: run `rvm data prepare coco_person`",
        ),
        (
            {"backgrounds": ("synthetic/tiny_matting_clips",)},
            "synthetic/tiny_matting_clips is a matting dataset: the recipe needs a background dataset there",
        ),
        (
            {"stages": (replace(LOW, matting=("synthetic/tiny_segmentation_clips",)),)},
            "synthetic/tiny_segmentation_clips is a segmentation dataset: the recipe needs a matting dataset there",
        ),
        ({"backgrounds": ()}, "the recipe names no backgrounds: expected one dataset or more"),
        ({"segmentation_clips": ()}, "the recipe names no segmentation clips"),
    ],
)
def test_what_is_missing_is_told_before_anything_starts(changed, message, prepared):
    with pytest.raises(InputError, match=message):
        input_pipeline.open_sources(replace(RECIPE, **changed), prepared)


def test_other_data_have_another_fingerprint(prepared, tmp_path):
    fingerprints = input_pipeline.fingerprints(input_pipeline.open_sources(RECIPE, prepared))
    assert fingerprints.keys() == {
        *LOW.matting,
        *HIGH.matting,
        *RECIPE.backgrounds,
        *RECIPE.segmentation_clips,
        *RECIPE.segmentation_stills,
    }
    copy = shutil.copytree(prepared, tmp_path / "copy")
    assert input_pipeline.fingerprints(input_pipeline.open_sources(RECIPE, copy)) == fingerprints
    (metadata,) = copy.glob("synthetic/tiny_matting_clips/*/metadata.json")
    content = json.loads(metadata.read_text())
    table = content["clips"]["train"]
    for column, other in (("name", "x"), ("sha256", "0" * 64)):
        before, table[column][0] = table[column][0], other
        metadata.write_text(json.dumps(content))
        changed = input_pipeline.fingerprints(input_pipeline.open_sources(RECIPE, copy))
        assert {name for name in fingerprints if changed[name] != fingerprints[name]} == set(LOW.matting), column
        halves = [(changed[name][:16], fingerprints[name][:16]) for name in LOW.matting]
        assert all((one == other) == (column == "sha256") for one, other in halves)  # what older versions compare
        table[column][0] = before


def validation(stage, batch, recipe=RECIPE, **where):
    return list(input_pipeline.validation_batches(recipe, stage, SOURCES[0], batch, **where))


def test_the_validation_set_is_the_same_however_it_is_divided():
    batches = validation(LOW, 2)
    assert [real.tolist() for _, real in batches] == [[1, 1], [1, 1], [1, 0]]
    assert {array.shape[:4] for batch, _ in batches for array in batch.values()} == {(2, 2, 18, 32)}

    def real_clips(batches):
        return {
            name: np.concatenate([batch[name][real == 1] for batch, real in batches])
            for name in ("foreground", "alpha", "background")
        }

    expected = real_clips(batches)
    assert len({clip.tobytes() for clip in expected["background"]}) > 1
    hosts = [validation(LOW, 4, replace(RECIPE, seed=6), host=host, hosts=2) for host in range(2)]
    assert [[real.tolist() for _, real in host] for host in hosts] == [[[1, 1], [1, 0]], [[1, 1], [0, 0]]]
    together = [
        ({name: np.concatenate([one[name], other[name]]) for name in one}, np.concatenate([real, more]))
        for (one, real), (other, more) in zip(*hosts, strict=True)
    ]
    for other in (validation(LOW, 5), together):
        for name, clips in real_clips(other).items():
            np.testing.assert_array_equal(clips, expected[name], strict=True)


def test_where_the_refiner_is_trained_validation_is_larger():
    ((batch, _),) = validation(HIGH, 5)
    assert batch["alpha"].shape == (5, 2, 36, 64, 1)
