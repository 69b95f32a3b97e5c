import contextlib
import io
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_pipelines.augment import motion
from data_pipelines.pipelines import matting
from data_pipelines.pipelines.batches import Slice
from data_pipelines.records.clips import EMPTY, concatenate
from data_pipelines.sampling import draws, windows
from rvm_jax.errors import InputError
from tests.data_pipelines import stamped

DATA = matting.MattingData(
    stamped.matting_clips([30, 8, 1]), stamped.background_clips([1] * 6), stamped.background_clips([5, 20], offset=100)
)
ALONE = Slice(4)
SHAPES = {"foreground": 3, "alpha": 1, "background": 3}


def batches(count, part=ALONE, data=DATA, frames=5, size=32, seed=1, stream="train", **named):
    dataset = matting.batches(data, part, seed=seed, stream=stream, frames=frames, size=size, **named)
    return list(dataset.take(count).as_numpy_iterator())


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for name in SHAPES:
            np.testing.assert_array_equal(one[name], other[name], strict=True)


@pytest.fixture(scope="module")
def first_batches():
    return batches(8)


def test_batches_have_the_shape_of_their_step(first_batches):
    for number, batch in enumerate(first_batches):
        height, width = (int(side) for side in windows.shape(1, "train", number, 32))
        for name, channels in SHAPES.items():
            assert batch[name].shape == (4, 5, height, width, channels)
            assert batch[name].dtype == np.uint8
    assert len({batch["alpha"].shape for batch in first_batches}) > 3


def test_a_second_run_is_bitwise_the_same_and_another_seed_or_stream_is_not(first_batches):
    assert_equal(batches(8), first_batches)
    for other in (batches(8, seed=2), batches(8, stream="other")):
        assert any(
            one["foreground"].shape != two["foreground"].shape or (one["foreground"] != two["foreground"]).any()
            for one, two in zip(other, first_batches, strict=True)
        )


@pytest.mark.parametrize("start", [1, 5])
def test_a_restart_goes_on_where_it_was(first_batches, start):
    assert_equal(batches(8 - start, Slice(4, start)), first_batches[start:])


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_change_nothing(first_batches, threads):
    assert_equal(batches(8, threads=threads), first_batches)


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_together_make_the_batch_of_one(first_batches, hosts):
    parts = [batches(8, Slice(4, host=host, hosts=hosts)) for host in range(hosts)]
    together = [
        {name: np.concatenate([part[name] for part in step]) for name in SHAPES} for step in zip(*parts, strict=True)
    ]
    assert_equal(together, first_batches)


def test_any_step_is_reached_at_once():
    (there,) = batches(1, Slice(4, 10**9))
    assert_equal([there], batches(1, Slice(4, 10**9)))
    assert there["alpha"].shape[:2] == (4, 5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch": 4, "hosts": 3}, "a batch of 4 cannot be divided among 3 hosts"),
        ({"batch": 4, "host": 4, "hosts": 4}, "host 4 of 4: expected one of 0 to 3"),
        ({"batch": 4, "host": -1, "hosts": 4}, "host -1 of 4"),
        ({"batch": 0}, "batches of 0 from number 0: expected 1 or more"),
        ({"batch": 4, "start": -1}, "batches of 4 from number -1"),
    ],
)
def test_a_slice_that_is_none_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        Slice(**given)


DIGEST = """
import hashlib
from tests.data_pipelines import test_matting, test_segmentation

digest = hashlib.sha256()
batches = test_matting.batches(2) + test_segmentation.batches("video", 2) + test_segmentation.batches("stills", 2)
for batch in batches:
    for name in sorted(batch):
        digest.update(batch[name].tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_another_process_makes_the_same_batches():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", DIGEST]
    there = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(DIGEST, {})
    assert there == here.getvalue()


@pytest.mark.parametrize("augmentation", [matting.VIDEO, matting.IMAGES, matting.NONE])
def test_one_frame_works(augmentation):
    (batch,) = batches(1, Slice(16), frames=1, augmentation=augmentation)
    assert batch["foreground"].shape[:2] == (16, 1)


# What is drawn


def every_plan(augmentation, count, frames=15):
    table = DATA.windows(frames)

    def drawn(index):
        return matting.plan(draws.Position(11, "train", index), DATA, table, frames, augmentation)

    dataset = tf.data.Dataset.range(count).map(drawn, num_parallel_calls=2, deterministic=True).batch(count)
    plans = next(dataset.as_numpy_iterator())
    once = drawn(tf.constant(3, tf.int64))
    for eagerly, mapped in zip(tf.nest.flatten(once), tf.nest.flatten(plans), strict=True):
        np.testing.assert_array_equal(eagerly, mapped[3])  # eager and mapped draws are the same
    return plans


@pytest.fixture(scope="module", params=["VM", "images"])
def table(request):
    """The columns of the recipe's table, and 10,000 plans."""
    column = ["VM", "images"].index(request.param)
    rows = {
        "move foreground": (0.3, 0.95),
        "move background": (0.15, 0.15),
        "move all": (0.15, 0.15),
        "flip foreground": (0.5, 0.5),
        "flip background": (0.5, 0.5),
        "noise": (0.1, 0.05),
        "drift foreground": (0.3, 0.3),
        "drift background": (0.3, 0.3),
        "grayscale": (0.02, 0.03),
        "sharpness": (0.1, 0.05),
        "blur foreground": (0.02 / 3, 0.02 / 3),
        "blur background": (0.02 / 3, 0.02 / 3),
        "blur all": (0.02 / 3, 0.02 / 3),
        "pause": (0.03, 0.03),
    }
    plans = every_plan([matting.VIDEO, matting.IMAGES][column], 10_000)
    return {name: row[column] for name, row in rows.items()}, plans


def test_everything_happens_as_often_as_the_table_says(table):
    probabilities, plans = table
    moved = {who: (path["ends"] != motion.UNMOVED).any((1, 2)) for who, path in plans["moves"].items()}
    happened = {f"move {who}": value for who, value in moved.items()}
    happened |= {f"flip {who}": value for who, value in plans["flip"].items()}
    happened["noise"] = plans["noise"]["foreground"]["deviation"] > 0
    np.testing.assert_array_equal(happened["noise"], plans["noise"]["background"]["deviation"] > 0)
    happened |= {f"drift {who}": drift["ends"].any((1, 2)) for who, drift in plans["drift"].items()}
    happened["grayscale"] = plans["grayscale"]
    happened["sharpness"] = plans["sharpness"] != 1
    happened |= {f"blur {who}": path["ends"].any(1) for who, path in plans["blur"].items()}
    paused = (plans["shown"] != np.arange(15)).any(1)
    # Of all (start, length) drawn, those of length 1 show nothing: the mean of 1 / (15 - start) over all starts.
    unseen = np.mean([1 / (15 - start) for start in range(15)])
    happened["pause"], probabilities["pause"] = paused, probabilities["pause"] * (1 - unseen)
    assert happened.keys() == probabilities.keys()
    for name, probability in probabilities.items():
        assert abs(happened[name].mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / 10_000), name


def assert_uniform(values, low, high, what):
    """Within [low, high], reaching close to both ends, with the mean of a uniform distribution."""
    width, count = high - low, len(values)
    assert low - 1e-5 <= values.min() <= low + 8 * width / count, what
    assert high - 8 * width / count <= values.max() <= high + 1e-5, what
    assert abs(values.mean() - (low + high) / 2) < 4 * width / np.sqrt(12 * count), what
    quarters = np.histogram(values, 4, (low, high))[0] / count
    np.testing.assert_allclose(quarters, 0.25, atol=4.5 * np.sqrt(0.25 * 0.75 / count), err_msg=what)


def test_poses_stay_in_their_ranges(table):
    _, plans = table
    ranges = [(-10, 10), (-0.1, 0.1), (-0.1, 0.1), None, (-5, 5)]
    for who, scale in (("foreground", (0.5, 1.0)), ("background", (1.0, 1.5))):
        for part, bounds in enumerate(ranges):
            assert_uniform(plans["placed"][who][:, part], *(bounds or scale), f"{who} {part}")
    for who, path in plans["moves"].items():
        ends = path["ends"][(path["ends"] != motion.UNMOVED).any((1, 2))]
        for end in (0, 1):
            for part, bounds in enumerate(ranges):
                assert_uniform(ends[:, end, part], *(bounds or (0.9, 1.1)), f"{who} {part}")
        assert np.abs(np.corrcoef(ends.reshape(len(ends), 10).T) - np.eye(10)).max() < 5 / np.sqrt(len(ends))


def test_aspects_stay_in_their_range(table):
    for who, aspect in table[1]["aspect"].items():
        assert_uniform(np.log(aspect), np.log(0.9), np.log(1.1), who)


def test_noise_keeps_to_its_range(table):
    for who, noise in table[1]["noise"].items():
        happened = noise["deviation"] > 0
        grain, deviation = noise["grain"][happened], noise["deviation"][happened]
        share = np.bincount(noise["grain"], minlength=5)[1:] / 10_000
        np.testing.assert_allclose(share, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / 10_000))
        assert_uniform(deviation * grain, 0, 0.2, who)
        assert abs(noise["gray"].mean() - 0.5) < 0.02
    keys = {tuple(key) for noise in table[1]["noise"].values() for key in noise["key"]}
    assert len(keys) == 20_000


def test_colours_drift_between_normal_ends_and_at_most_a_fifth_of_the_way(table):
    for drift in table[1]["drift"].values():
        begin, end = np.moveaxis(drift["ends"][drift["ends"].any((1, 2))], 1, 0)
        deviations = np.array([0.1, 0.1, 0.1, 0.01])
        np.testing.assert_allclose(begin.std(0), deviations, rtol=5 / np.sqrt(2 * len(begin)))
        assert (np.abs(begin.mean(0)) < 4 * deviations / np.sqrt(len(begin))).all()
        # From one normal end 0 to 20 % of the way to another: the step has variance 2 · 0.2² / 3 of the ends'.
        np.testing.assert_allclose((end - begin).std(0), deviations * np.sqrt(2 * 0.04 / 3), rtol=0.12)
        directions = (end - begin) / deviations
        assert np.linalg.norm(directions, axis=1).max() < 0.2 * np.sqrt(2) * 5.5


def test_sharpness_and_blur_keep_to_their_ranges(table):
    _, plans = table
    assert_uniform(plans["sharpness"][plans["sharpness"] != 1], 0, 8, "sharpness")
    # Some 67 clips of 10,000 are blurred in each of three ways: the ends of all are a sample large enough.
    ends = np.concatenate([path["ends"][path["ends"].any(1)] for path in plans["blur"].values()])
    for end in (0, 1):
        assert_uniform(ends[:, end], 0, 10, f"blur {end}")
    assert abs(np.corrcoef(ends.T)[0, 1]) < 4 / np.sqrt(len(ends))


# What becomes of it


def one(data=DATA, frames=6, size=64, shape=(48, 48), augmentation=matting.NONE, count=16, **named):
    (batch,) = batches(1, Slice(count), data, frames, size, shape=shape, augmentation=augmentation, **named)
    return batch


def test_without_augmentation_a_clip_is_its_centre_square():
    foreground, alpha, image = stamped.photo(48, 64), stamped.photo(48, 64, None, 1), stamped.photo(96, 60, seed=2)
    data = matting.MattingData(
        stamped.clips([1], {"foreground": lambda n: foreground, "alpha": lambda n: alpha}),
        stamped.clips([1], {"image": lambda n: image}),
    )
    batch = one(data, frames=2, count=1)
    for frame in (0, 1):
        np.testing.assert_array_equal(batch["foreground"][0, frame], foreground[:, 8:56])
        np.testing.assert_array_equal(batch["alpha"][0, frame, :, :, 0], alpha[:, 8:56])
        square = Image.fromarray(image[18:78]).resize((48, 48), Image.Resampling.BILINEAR)
        inside = (slice(2, -2), slice(2, -2))
        # Pillow widens its filter when it shrinks (here 1.25 times), so this is close and not equal.
        assert np.abs(batch["background"][0, frame].astype(int) - np.asarray(square))[inside].mean() < 3


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((30, 60), slice(8, 38), slice(0, 60)), ((46, 30), slice(0, 46), slice(15, 45))],
    ids=["wide", "tall"],
)
def test_without_augmentation_as_much_is_seen_as_the_shape_has_room_for(shape, rows, columns):
    foreground = stamped.photo(46, 60)
    data = replace(
        DATA,
        foregrounds=stamped.clips([1], {"foreground": lambda n: foreground, "alpha": lambda n: foreground[..., 0]}),
    )
    seen = one(data, frames=1, count=1, shape=shape)["foreground"][0, 0]
    np.testing.assert_array_equal(seen, foreground[rows, columns])


def test_frames_are_those_that_were_drawn():
    table, backgrounds = DATA.windows(6), concatenate([DATA.background_images, DATA.background_clips])
    still = replace(matting.NONE, varied=True)
    for index in range(12):
        position = draws.Position(4, "train", tf.constant(index, tf.int64))
        plan = tf.nest.map_structure(np.asarray, matting.plan(position, DATA, table, 6, still))
        plan |= {"height": np.int64(20), "width": np.int64(24)}
        foreground, alpha, background = matting.render(plan, DATA.foregrounds, backgrounds, 32)
        np.testing.assert_array_equal(alpha.max((1, 2, 3)), plan["foreground frames"])
        np.testing.assert_array_equal(foreground.max((1, 2, 3)), plan["foreground frames"])
        stamp = plan["background frames"] + np.where(plan["background frames"] < 6, 0, 100 - 6)
        np.testing.assert_array_equal(background[:, 10, 12, 0], stamp)


def test_without_augmentation_frames_come_in_order():
    batch = one(frames=6, count=40)
    foreground, background = (batch[name][:, :, 24, 24, 0].astype(int) for name in ("foreground", "background"))
    for numbers, clips in ((foreground, [(0, 30), (30, 38), (38, 39)]), (background, [(100, 105), (105, 125)])):
        for clip in numbers:
            if numbers is background and clip[0] < 100:  # an image
                assert (clip == clip[0]).all()
                continue
            first, end = next((first, end) for first, end in clips if first <= clip[0] < end)
            assert clip.tolist() == [first + (clip[0] - first + moment) % (end - first) for moment in range(6)]


def test_foreground_and_alpha_move_together():
    """The red of the foreground is its alpha, so it is after every warp, pause, sharpening and blur of both."""
    shape = np.zeros((60, 80), np.uint8)
    shape[15:45, 20:50] = 255
    shape[25:35, 50:70] = 128
    data = matting.MattingData(
        stamped.clips(
            [9],
            {"foreground": lambda n: np.dstack([np.roll(shape, n, 1)] * 3), "alpha": lambda n: np.roll(shape, n, 1)},
        ),
        DATA.background_images,
    )
    everything = matting.MattingAugmentation(True, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0, 1.0, 0.7, 0.5)
    batch = one(data, augmentation=everything)
    assert np.abs(batch["foreground"].astype(int) - batch["alpha"]).max() <= 1
    moving = (np.abs(np.diff(batch["alpha"].astype(int), axis=1)).max((2, 3, 4)) > 30).mean()
    assert 0.5 < moving < 1


def test_a_pause_shows_the_very_same_frame_again():
    data = replace(DATA, background_clips=EMPTY)
    always = replace(matting.VIDEO, pause=1.0, noise=1.0, drift=1.0, move_foreground=1.0, move_background=1.0)
    for index in range(6):
        position = draws.Position(4, "train", tf.constant(index, tf.int64))
        plan = tf.nest.map_structure(np.asarray, matting.plan(position, data, data.windows(6), 6, always))
        plan |= {"height": np.int64(32), "width": np.int64(32)}
        for layer in matting.render(plan, data.foregrounds, data.background_images, 32):
            for moment, shown in enumerate(plan["shown"]):
                np.testing.assert_array_equal(layer[moment], layer[shown])


def test_noise_is_new_in_every_frame_and_alpha_has_none():
    data = matting.MattingData(stamped.matting_clips([1]), stamped.background_clips([1], offset=128))
    batch = one(data, augmentation=replace(matting.NONE, noise=1.0), count=4)
    assert (batch["alpha"] == 0).all()
    background = batch["background"].astype(int)
    assert (background.std((2, 3, 4)) > 1).all()
    assert (np.abs(np.diff(background, axis=1)).mean((2, 3, 4)) > 1).all()


def test_gray_is_gray_in_both():
    colours = stamped.clips(
        [1], {"foreground": lambda n: stamped.photo(48, 64), "alpha": stamped.flat(48, 64, None, 255)}
    )
    images = stamped.clips([1], {"image": lambda n: stamped.photo(48, 64, seed=1)})
    batch = one(matting.MattingData(colours, images), augmentation=replace(matting.NONE, grayscale=1.0), count=1)
    for name in ("foreground", "background"):
        assert (batch[name] == batch[name][..., :1]).all()
        assert batch[name].std() > 5
    assert (batch["alpha"] == 255).all()


def test_large_sources_are_decoded_small():
    """A checkerboard of single pixels becomes gray, not a random half of its pixels."""
    board = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    data = matting.MattingData(
        stamped.clips([1], {"foreground": stamped.flat(512, 512), "alpha": lambda n: board}),
        stamped.background_clips([1]),
    )
    alpha = one(data, shape=(60, 60), count=1, frames=1)["alpha"]
    assert np.abs(alpha.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("faulty", [range(9, 10), range(38)], ids=["in between", "all"])
def test_a_damaged_record_is_named(faulty):
    def damaged(number):
        return {"foreground": b"junk", "alpha": b"junk"} if number in faulty else DATA.foregrounds.read(number)

    broken = replace(DATA, foregrounds=replace(DATA.foregrounds, read=damaged))
    with pytest.raises(tf.errors.OpError, match=f"frame {faulty[0]} of clip0 is damaged: prepare it again"):
        batches(1, Slice(8), broken, frames=30, augmentation=matting.NONE)


def test_an_epoch_counts_windows_or_backgrounds():
    assert DATA.epoch(5, images=False) == 6 + 2 + 1
    many = replace(DATA, background_images=stamped.background_clips([1] * 50))
    assert many.epoch(5, images=False) == 9
    assert many.epoch(5, images=True) == 50 + 2
    assert replace(DATA, background_images=EMPTY).epoch(5, images=True) == 9
