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

from data_pipelines.pipelines import matting, matting_pixels
from data_pipelines.pipelines.batches import Slice, arrays, batched
from data_pipelines.pipelines.workers import Workers
from data_pipelines.records.clips import EMPTY, concatenate
from data_pipelines.sampling import random_draws, windows
from rvm_jax.errors import InputError
from tests.data_pipelines import stamped

DATA = matting.MattingData(
    stamped.matting_clips([30, 8, 1]), stamped.background_clips([1] * 6), stamped.background_clips([5, 20], offset=100)
)
ALONE = Slice(4)
SHAPES = {"foreground": 3, "alpha": 1, "background": 3}


def batches(count, part=ALONE, data=DATA, frames=5, size=32, seed=1, stream="train", workers=None, **named):
    endless = matting.batches(data, part, seed=seed, stream=stream, frames=frames, size=size, **named)
    return stamped.first(endless, count, workers)


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


def test_a_second_run_is_bitwise_the_same(first_batches):
    assert_equal(batches(8), first_batches)


@pytest.mark.parametrize("other", [{"seed": 2}, {"stream": "other"}], ids=str)
def test_another_seed_or_stream_has_other_clips(other):
    """At one shape, which would be another too and hide that the pixels are the same."""
    for one, two in zip(batches(3, shape=(24, 24)), batches(3, shape=(24, 24), **other), strict=True):
        for name in SHAPES:
            assert (one[name] != two[name]).any((1, 2, 3, 4)).mean() > 0.5


@pytest.mark.parametrize("start", [1, 5])
def test_a_restart_goes_on_where_it_was(first_batches, start):
    assert_equal(batches(8 - start, Slice(4, start)), first_batches[start:])


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_change_nothing(first_batches, threads):
    with Workers(processes=0, threads=threads) as workers:
        assert_equal(batches(8, workers=workers), first_batches)


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_together_make_the_batch_of_one(first_batches, hosts):
    parts = [batches(8, Slice(4, host=host, hosts=hosts)) for host in range(hosts)]
    together = [
        {name: np.concatenate([part[name] for part in step]) for name in SHAPES} for step in zip(*parts, strict=True)
    ]
    assert_equal(together, first_batches)


def test_a_batch_in_parts_has_the_same_samples_in_the_same_order(first_batches):
    """Of two hosts, each has half of every part: 0 and 2 of four clips in two parts, and 1 and 3."""
    assert_equal(batches(3, Slice(4, parts=2)), first_batches[:3])
    for host in range(2):
        expected = [{name: x[host::2] for name, x in batch.items()} for batch in first_batches[5:]]
        assert_equal(batches(3, Slice(4, 5, host=host, hosts=2, parts=2)), expected)


def noted(clips, reads):
    """The clips; the number of every frame that is read is added to `reads`."""

    def read(number):
        reads.append(number)
        return clips.read(number)

    return replace(clips, read=read)


def test_any_step_is_reached_at_once():
    """What stands there is what the plans of its numbers say, and no frame is read for what comes before."""
    far, read, expected = 10**9, [], []
    data = replace(DATA, foregrounds=noted(DATA.foregrounds, read))
    with Workers(processes=0, threads=1) as workers:
        (there,) = batches(1, Slice(4, far), data, workers=workers)
    backgrounds = concatenate([DATA.background_images, DATA.background_clips])
    height, width = windows.shape(1, "train", far, 32)
    for slot in range(4):
        position = random_draws.Position(1, "train", tf.constant(4 * far + slot, tf.int64))
        plan = matting.plan(position, DATA, DATA.windows(5), 5, matting.VIDEO) | {"height": height, "width": width}
        plan = tf.nest.map_structure(np.asarray, plan)
        made = matting_pixels.render(plan, noted(DATA.foregrounds, expected), backgrounds, 32)
        for name, pixels in zip(SHAPES, made, strict=True):
            np.testing.assert_array_equal(there[name][slot], pixels, strict=True)
    assert read[: len(expected)] == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch": 4, "hosts": 3}, "a batch of 4 cannot be divided among 3 hosts"),
        ({"batch": 4, "hosts": 2, "parts": 4}, "a batch of 4 cannot be divided among 2 hosts, in 4 parts each"),
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
from tests.data_pipelines.pipelines import test_matting, test_segmentation

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
        position = random_draws.Position(4, "train", tf.constant(index, tf.int64))
        plan = tf.nest.map_structure(np.asarray, matting.plan(position, DATA, table, 6, still))
        plan |= {"height": np.int64(20), "width": np.int64(24)}
        foreground, alpha, background = matting_pixels.render(plan, DATA.foregrounds, backgrounds, 32)
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
        position = random_draws.Position(4, "train", tf.constant(index, tf.int64))
        plan = tf.nest.map_structure(np.asarray, matting.plan(position, data, data.windows(6), 6, always))
        plan |= {"height": np.int64(32), "width": np.int64(32)}
        for layer in matting_pixels.render(plan, data.foregrounds, data.background_images, 32):
            for moment, displayed in enumerate(plan["pause"]):
                np.testing.assert_array_equal(layer[moment], layer[displayed])


def test_noise_is_new_in_every_frame_and_alpha_has_none():
    data = matting.MattingData(stamped.matting_clips([1]), stamped.background_clips([1], offset=128))
    batch = one(data, augmentation=replace(matting.NONE, noise=1.0), count=4)
    assert (batch["alpha"] == 0).all()
    background = batch["background"].astype(int)
    assert (background.std((2, 3, 4)) > 1).all()
    assert (np.abs(np.diff(background, axis=1)).mean((2, 3, 4)) > 1).all()


def test_gray_is_gray_in_both():
    colors = stamped.clips(
        [1], {"foreground": lambda n: stamped.photo(48, 64), "alpha": stamped.flat(48, 64, None, 255)}
    )
    images = stamped.clips([1], {"image": lambda n: stamped.photo(48, 64, seed=1)})
    batch = one(matting.MattingData(colors, images), augmentation=replace(matting.NONE, grayscale=1.0), count=1)
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
    with pytest.raises(InputError, match=rf"^frame {faulty[0]} of clip0 is damaged: prepare it again"):
        batches(1, Slice(8), broken, frames=30, augmentation=matting.NONE)


def test_an_error_that_is_no_fault_of_the_data_stays_what_it_is():
    endless = batched(
        lambda number: {"height": number, "width": number}, lambda plan, out: 1 // 0, {"image": (1, 1)}, Slice(1)
    )
    with pytest.raises(ZeroDivisionError):
        next(arrays(endless))


def test_an_epoch_counts_windows_or_backgrounds():
    assert DATA.epoch(5, images=False) == 6 + 2 + 1
    many = replace(DATA, background_images=stamped.background_clips([1] * 50))
    assert many.epoch(5, images=False) == 9
    assert many.epoch(5, images=True) == 50 + 2
    assert replace(DATA, background_images=EMPTY).epoch(5, images=True) == 9
