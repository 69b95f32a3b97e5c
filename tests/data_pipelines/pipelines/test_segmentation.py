from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from data_pipelines.augment import motion
from data_pipelines.pipelines import segmentation, segmentation_pixels
from data_pipelines.pipelines.batches import Slice
from data_pipelines.sampling import random_draws, windows
from rvm_jax.errors import InputError
from tests.data_pipelines import stamped
from tests.data_pipelines.pipelines.test_matting_draws import assert_uniform


def disc(number):
    """A mask whose place depends on the frame, and which is nowhere near the border."""
    y, x = np.indices((48, 64))
    return ((y - 24) ** 2 + (x - 26 - number) ** 2 < 100).astype(np.uint8) * 255


CLIPS = stamped.clips([5, 9], {"image": lambda n: np.dstack([disc(n)] * 3), "mask": disc})
STILLS = stamped.clips([1] * 7, {"image": lambda n: np.dstack([disc(n)] * 3), "mask": disc})
ALONE = Slice(4)
KINDS = {"video": (CLIPS, segmentation.VIDEO, 4), "stills": (STILLS, segmentation.STILLS, 1)}


def batches(kind, count, part=ALONE, **named):
    clips, augmentation, frames = KINDS[kind]
    named = {"augmentation": augmentation, "frames": frames, "size": 32, "seed": 1, "stream": kind} | named
    return stamped.first(segmentation.batches(clips, part, **named), count)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_the_same_however_they_are_made(kind):
    straight = batches(kind, 6)
    together = {}
    for hosts in (2, 4):
        parts = [batches(kind, 6, Slice(4, host=host, hosts=hosts)) for host in range(hosts)]
        together[hosts] = [
            {name: np.concatenate([part[name] for part in step]) for name in step[0]}
            for step in zip(*parts, strict=True)
        ]
    for ways in (
        batches(kind, 6),
        together[2],
        together[4],
        batches(kind, 2) + batches(kind, 4, Slice(4, 2)),
    ):
        for batch, other in zip(straight, ways, strict=True):
            for name in ("image", "mask"):
                np.testing.assert_array_equal(batch[name], other[name], strict=True)
    for number, batch in enumerate(straight):
        height, width = (int(side) for side in windows.shape(1, kind, number, 32))
        assert batch["image"].shape == (4, KINDS[kind][2], height, width, 3)
        assert batch["mask"].shape == (4, KINDS[kind][2], height, width, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_stay_0_or_1_and_go_with_the_image(kind):
    plain = segmentation.SegmentationAugmentation(20.0, 0.1, 10.0, area=(0.5, 1.0), aspect=(0.7, 1.3), flip=0.5)
    (batch,) = batches(kind, 1, Slice(64), augmentation=plain, shape=(64, 64))
    assert set(np.unique(batch["mask"])) == {0, 1}
    np.testing.assert_array_equal(batch["mask"], batch["image"][..., :1] >= 128)
    assert len({clip.tobytes() for clip in batch["mask"]}) > 40


def test_all_frames_of_a_clip_move_and_color_alike():
    """Jitter and crop are drawn once a clip: a still scene stays still."""
    scene = stamped.clips([6], {"image": lambda n: stamped.photo(48, 64), "mask": lambda n: disc(0)})
    endless = segmentation.batches(
        scene, Slice(8), seed=1, stream="s", frames=6, size=32, augmentation=segmentation.VIDEO
    )
    (batch,) = stamped.first(endless, 1)
    assert (batch["image"] == batch["image"][:, :1]).all()
    assert len({clip.tobytes() for clip in batch["image"]}) == 8


def test_a_still_that_is_seen_as_a_clip_moves_with_its_mask():
    same = stamped.clips([5], {"image": lambda _: np.dstack([disc(0)] * 3), "mask": lambda _: disc(0)})
    moving = {"augmentation": replace(segmentation.NONE, move_stills=1.0), "frames": 5, "shape": (64, 64)}
    clips, stills = (
        stamped.first(segmentation.batches(data, Slice(16), seed=1, stream="s", size=64, **moving), 1)[0]
        for data in (same, STILLS)
    )
    np.testing.assert_array_equal(stills["mask"], stills["image"][..., :1] >= 128)
    assert (stills["mask"][:, 0] != stills["mask"][:, -1]).any((1, 2, 3)).all()
    assert (clips["mask"] == clips["mask"][:, :1]).all()  # only stills are moved
    one, unmoved = (
        stamped.first(segmentation.batches(STILLS, Slice(4), seed=1, stream="s", size=64, **options), 1)[0]["mask"]
        for options in (moving | {"frames": 1}, moving | {"frames": 1, "augmentation": segmentation.NONE})
    )
    np.testing.assert_array_equal(one, unmoved)  # with one frame there is nothing to move along
    assert segmentation.VIDEO.move_stills == 0.95
    assert segmentation.STILLS.move_stills == 0


def test_a_clip_is_moved_first_then_placed_then_mirrored(monkeypatch):
    """A quarter to the right, then a quarter turn clockwise about the centre: the other way round it is elsewhere."""

    def dot(number):
        picture = np.zeros((64, 64), np.uint8)
        picture[26:30, 22:26] = 255  # around x 24, y 28
        return picture

    dots = stamped.clips([2], {"image": lambda n: np.dstack([dot(n)] * 3), "mask": dot})
    at = random_draws.Position(1, "s", tf.constant(0, tf.int64))
    plan = segmentation.plan(at, windows.windows(dots, 1), 2, segmentation.NONE)
    plan |= {"height": 64, "width": 64, "placed": np.array([90.0, 0, 0, 1, 0])}
    shifted = np.array([[0, 0.25, 0, 1, 0]] * 2)
    monkeypatch.setattr(segmentation_pixels.easing, "along", lambda moves, frames: shifted)
    for flip, x in ((False, 36), (True, 28)):
        _, masks = segmentation_pixels.render(tf.nest.map_structure(np.asarray, plan | {"flip": flip}), dots)
        for mask in masks[..., 0]:
            assert (np.argwhere(mask).mean(0) + 0.5).tolist() == [40, x]


def test_any_frame_may_be_the_first_and_the_next_follow():
    numbered = stamped.clips([5, 9], {"image": stamped.flat(16, 16), "mask": stamped.flat(16, 16, None, 100)})
    endless = segmentation.batches(
        numbered, Slice(14), seed=1, stream="s", frames=4, size=16, augmentation=segmentation.NONE, shape=(16, 16)
    )
    seen = stamped.first(endless, 1)[0]["image"][:, :, 8, 8, 0].tolist()
    following = [[n, *((n + i) % 5 if n < 5 else 5 + (n - 5 + i) % 9 for i in (1, 2, 3))] for n in range(14)]
    assert sorted(seen) == following


def test_without_augmentation_a_clip_is_whole():
    photo = stamped.photo(40, 40)
    clips = stamped.clips([1], {"image": lambda n: photo, "mask": stamped.flat(40, 40, None, 255)})
    endless = segmentation.batches(
        clips, Slice(1), seed=1, stream="s", frames=1, size=40, augmentation=segmentation.NONE, shape=(40, 40)
    )
    (batch,) = stamped.first(endless, 1)
    np.testing.assert_array_equal(batch["image"][0, 0], photo)
    assert (batch["mask"] == 1).all()


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        (segmentation.VIDEO, {"pose": (0, 0, 0), "area": (0.8, 1), "aspect": (0.9, 1.1), "gray": 0.05}),
        (segmentation.STILLS, {"pose": (20, 0.1, 10), "area": (0.5, 1), "aspect": (0.7, 1.3), "gray": 0}),
    ],
    ids=["YouTubeVIS", "COCO and SPD"],
)
def test_draws_match_the_recipe(augmentation, expected):
    table = windows.windows(CLIPS, 1)

    def drawn(index):
        return segmentation.plan(random_draws.Position(2, "s", index), table, 4, augmentation)

    count = 10_000
    dataset = tf.data.Dataset.range(count).map(drawn, num_parallel_calls=2, deterministic=True)
    plans = next(dataset.batch(count).as_numpy_iterator())
    for eagerly, mapped in zip(tf.nest.flatten(drawn(tf.constant(7, tf.int64))), tf.nest.flatten(plans), strict=True):
        np.testing.assert_array_equal(eagerly, mapped[7])
    degrees, shift, shear = expected["pose"]
    for part, bound in enumerate((degrees, shift, shift, None, shear)):
        if bound is None or not bound:
            assert (plans["placed"][:, part] == motion.UNMOVED[part]).all()
        else:
            assert_uniform(plans["placed"][:, part], -bound, bound, f"pose {part}")
    assert_uniform(plans["area"], *expected["area"], "area")
    assert_uniform(np.log(plans["aspect"]), *np.log(expected["aspect"]), "aspect")
    jitter = (0.3, 0.3, 0.3, 0.15) if augmentation is segmentation.VIDEO else (0.1, 0.1, 0.1, 0.1)
    for part, amount in enumerate(jitter):
        assert_uniform(plans["jitter"][:, part], -amount, amount, f"jitter {part}")
    for name, probability in (("grayscale", expected["gray"]), ("flip", 0.5)):
        assert abs(plans[name].mean() - probability) <= 4 * np.sqrt(probability * (1 - probability) / count)
    assert_uniform(plans["corner"].ravel(), 0, 1, "corner")


def test_a_record_is_read_once_and_named_if_it_is_damaged():
    reads = []

    def read(number):
        reads.append(number)
        return CLIPS.read(number)

    plan = segmentation.plan(
        random_draws.Position(1, "s", tf.constant(3, tf.int64)), windows.windows(CLIPS, 1), 3, segmentation.NONE
    )
    plan = tf.nest.map_structure(np.asarray, plan | {"height": 16, "width": 16})
    segmentation_pixels.render(plan, replace(CLIPS, read=read))
    assert reads == plan["frames"].tolist()
    with pytest.raises(InputError, match=r"^frame \d of clip[01] is damaged: prepare it again"):
        segmentation_pixels.render(plan, replace(CLIPS, read=lambda number: {"image": b"junk", "mask": b"junk"}))
