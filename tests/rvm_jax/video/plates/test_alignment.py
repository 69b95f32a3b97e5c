"""A plate is brought to where the camera of each frame was; what cannot be aligned is told."""

import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video.plates import alignment
from rvm_jax.video.plates.alignment import aligned, find_homography
from rvm_jax.video.plates.features import features, matched
from tests.rvm_jax.video.plates.hand_held import hand_held

HEIGHT, WIDTH = 180, 320


@pytest.fixture(scope="module")
def clip():
    return hand_held(4, 4, HEIGHT, WIDTH)


def off(plate, background) -> float:
    return float(np.abs(plate.astype(np.float32) - background).mean())


def test_a_plate_comes_to_each_frame_of_a_hand(clip):
    plate = alignment.alignment(clip.plate, "plate")
    for frame, background in zip(clip.frames, clip.background, strict=True):
        assert off(clip.plate, background) > 10
        assert off(aligned(plate, frame), background) < 2.5  # of it 1.2 is what interpolation blurs
    assert (plate.seen, plate.failed) == (4, 0)


def test_the_person_is_left_out(clip):
    """Where the frame before differed from its plate; a printed shirt has more corners than a wall."""
    plate = alignment.alignment(clip.plate, "plate")
    aligned(plate, clip.frames[0])
    person = clip.alpha[0, ..., 0] > 200
    assert plate.person[person].mean() > 0.9
    assert plate.person[clip.alpha[0, ..., 0] == 0].mean() < 0.3
    points = features(alignment._gray(clip.frames[1]), plate.person).points.astype(int)
    assert len(points)
    assert not plate.person[points[:, 1], points[:, 0]].any()


def test_a_camera_that_exposes_otherwise_is_no_person(clip):
    plate = alignment.alignment(clip.plate, "plate")
    assert not alignment._person(plate, plate.gray + 40).any()


def test_what_the_plate_does_not_show_is_no_person(clip):
    plate = alignment.alignment(clip.plate, "plate")
    plate.homography = np.array([[1, 0, 0.25], [0, 1, 0], [0, 0, 1]])
    seen = np.pad(plate.gray[:, WIDTH // 4 :], ((0, 0), (0, WIDTH // 4)), constant_values=250)
    assert not alignment._person(plate, seen).any()


def test_a_person_that_was_none_is_looked_at_again(clip):
    plate = alignment.alignment(clip.plate, "plate")
    plate.person = np.ones((HEIGHT, WIDTH), bool)
    assert off(aligned(plate, clip.frames[0]), clip.background[0]) < 2.5
    assert (plate.failed, plate.person.all()) == (0, False)


def test_where_the_plate_ends_the_frame_comes_in_gradually(clip):
    plate = alignment.alignment(clip.plate, "plate")
    plate.homography = np.array([[1, 0, 0.25], [0, 1, 0], [0, 0, 1]])
    shown = alignment._warped(plate, np.full_like(clip.plate, 250))
    edge = round(WIDTH * 0.75)
    assert (shown[:, edge + 1 :] == 250).all()
    inside = slice(8, -8), slice(8, edge - 8)
    assert np.abs(shown[inside].astype(int) - clip.plate[8:-8, 8 + WIDTH // 4 : -8]).max() <= 1
    row = np.abs(shown[60:120, edge - 6 : edge].astype(int) - 250).mean((0, 2))
    assert (np.diff(row) < 0).all()


def test_frames_of_16_bits_and_a_plate_of_another_shape(clip):
    tall = np.concatenate([clip.plate[20:], clip.plate[::-1]])[:, 10:-10]
    plate = alignment.alignment(tall, "plate")
    shown = aligned(plate, clip.frames[0] * np.uint16(257))
    assert shown.dtype == np.uint16
    assert shown.shape == clip.plate.shape
    seen = slice(40, 150), slice(40, 280)
    assert off(shown[seen] / 257, clip.background[0][seen]) < 2.5


def test_a_frame_of_another_place_keeps_the_homography_and_is_counted(clip):
    plate = alignment.alignment(clip.plate, "plate")
    aligned(plate, clip.frames[0])
    before = plate.homography
    aligned(plate, np.random.default_rng(0).integers(0, 255, clip.plate.shape, np.uint8))
    assert (plate.seen, plate.failed) == (2, 1)
    assert plate.homography is before
    assert off(aligned(plate, clip.frames[1]), clip.background[1]) < 2.5  # and it finds its way again
    assert plate.failed == 1


def test_a_plain_plate_is_refused():
    with pytest.raises(InputError, match=r"wall.png has 0 corners, too few to align it by: film from a tripod"):
        alignment.alignment(np.full((90, 160, 3), 128, np.uint8), "wall.png")


def test_features_are_found_again_when_the_picture_is_turned_and_smaller(clip):
    image = Image.fromarray(clip.plate).convert("L")
    turned = image.rotate(25, Image.Resampling.BICUBIC).resize((WIDTH * 3 // 4, HEIGHT * 3 // 4))
    one, other = (features(np.asarray(picture, np.float32)) for picture in (image, turned))
    here, there = matched(one, other)
    radians, middle = np.deg2rad(25), np.array([WIDTH, HEIGHT]) / 2
    x, y = (one.points[here] - middle).T
    moved = (
        np.stack([np.cos(radians) * x + np.sin(radians) * y, np.cos(radians) * y - np.sin(radians) * x], -1) + middle
    )
    right = np.hypot(*(moved * 0.75 - other.points[there]).T) < 2
    assert right.sum() > 40
    assert right.mean() > 0.6


def test_a_homography_is_found_among_wrong_matches():
    rng = np.random.default_rng(1)
    true = np.array([[1.02, -0.05, 0.03], [0.04, 0.97, -0.02], [0.01, -0.02, 1]])
    here = rng.random((200, 2))
    there = np.concatenate([here, np.ones((200, 1))], 1) @ true.T
    there = there[:, :2] / there[:, 2:]
    there[:120] = rng.random((120, 2))
    found = find_homography(here, there, 0.003)
    assert np.abs(found - true).max() < 2e-3
    assert find_homography(here[:120], there[:120], 0.003) is None
