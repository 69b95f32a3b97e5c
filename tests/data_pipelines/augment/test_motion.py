import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_pipelines.augment import easing, motion
from data_pipelines.sampling import augmentations, random_draws
from tests.data_pipelines.stamped import everywhere, photo

HEIGHT, WIDTH = 60, 80
PICTURE = photo(HEIGHT, WIDTH)


def moved(picture, pose, height=HEIGHT, width=WIDTH):
    inverse = np.linalg.inv(motion.affine(np.array(pose), WIDTH, HEIGHT))
    return everywhere(motion.warp, picture, inverse, height, width)


def by_pillow(picture, inverse):
    """PIL's own warp, from the same convention: output to source, centre of the first pixel at 0.5."""
    image = Image.fromarray(picture)
    return np.asarray(
        image.transform((WIDTH, HEIGHT), Image.Transform.AFFINE, tuple(inverse), Image.Resampling.BILINEAR)
    )


def assert_same_inside(ours, theirs, pose, whole):
    """Within one level wherever both see whole neighbourhoods; `whole` is what PIL makes of a white picture."""
    inside = (whole == 255) & (moved(np.full((HEIGHT, WIDTH), 255, np.uint8), pose) == 255)
    assert inside.mean() > 0.4
    assert np.abs(ours.astype(int) - theirs)[inside].max() <= 1


def elementary(pose):
    """A pose as a product of elementary matrices: to the centre, scale, shear, turn, shift, and back."""
    degrees, x, y, scale, shear = pose
    a = np.radians(degrees)
    centre = np.array([[1, 0, WIDTH / 2], [0, 1, HEIGHT / 2], [0, 0, 1]])
    shift = np.array([[1, 0, x * WIDTH], [0, 1, y * HEIGHT], [0, 0, 1]])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    slant = np.array([[1, np.tan(np.radians(shear)), 0], [0, 1, 0], [0, 0, 1]])
    return shift @ centre @ turn @ slant @ np.diag([scale, scale, 1]) @ np.linalg.inv(centre)


POSES = {
    "turn": (7.0, 0.0, 0.0, 1.0, 0.0),
    "shift": (0.0, 0.08, -0.05, 1.0, 0.0),
    "zoom in": (0.0, 0.0, 0.0, 1.3, 0.0),
    "zoom out": (0.0, 0.0, 0.0, 0.8, 0.0),
    "shear": (0.0, 0.0, 0.0, 1.0, 5.0),
    "everything": (-9.0, 0.07, 0.1, 0.9, -5.0),
}


@pytest.mark.parametrize("channels", [3, None])
@pytest.mark.parametrize("pose", POSES.values(), ids=POSES)
def test_affine_agrees_with_pillow(pose, channels):
    picture = photo(HEIGHT, WIDTH, channels)
    inverse = np.linalg.inv(elementary(pose))
    theirs = by_pillow(picture, inverse[:2].ravel())
    whole = by_pillow(np.full((HEIGHT, WIDTH), 255, np.uint8), inverse[:2].ravel())
    assert_same_inside(moved(picture, pose), theirs, pose, whole)


def test_a_turn_is_clockwise_and_a_shift_goes_right_and_down():
    theirs = np.asarray(Image.fromarray(PICTURE).rotate(-10, Image.Resampling.BILINEAR))
    whole = np.asarray(Image.new("L", (WIDTH, HEIGHT), 255).rotate(-10, Image.Resampling.BILINEAR))
    pose = (10.0, 0, 0, 1, 0)
    assert_same_inside(moved(PICTURE, pose), theirs, pose, whole)
    shifted = moved(PICTURE, (0, 0.1, 0.1, 1, 0))
    np.testing.assert_array_equal(shifted[6:, 8:], PICTURE[:-6, :-8])
    assert not shifted[:6].any()
    assert not shifted[:, :8].any()


def test_an_identity_changes_nothing():
    np.testing.assert_array_equal(moved(PICTURE, motion.UNMOVED), PICTURE)
    whole = motion.crop((0, 0, 64, 64), False, 64, 64)
    np.testing.assert_array_equal(whole, np.eye(3))
    still = {"ends": np.array([motion.UNMOVED] * 2), "curve": np.int64(5)}
    matrices = motion.affine(easing.along(still, 7), WIDTH, HEIGHT)
    np.testing.assert_allclose(matrices, np.broadcast_to(np.eye(3), (7, 3, 3)), atol=1e-14)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 32), (24, 40)])
def test_crop_is_a_squashed_square_cut_around_its_centre(height, width, flip):
    box = (10, 5, 60, 50)
    side = max(height, width)
    square = Image.fromarray(PICTURE).transform(
        (side, side),
        Image.Transform.AFFINE,
        (60 / side, 0, 10, 0, 50 / side, 5),
        Image.Resampling.BILINEAR,
    )
    left, top = (side - width) / 2, (side - height) / 2
    theirs = np.asarray(square)[int(top) : int(top) + height, int(left) : int(left) + width]
    ours = everywhere(motion.warp, PICTURE, motion.crop(box, flip, height, width), height, width)
    assert np.abs(ours.astype(int) - (theirs[:, ::-1] if flip else theirs)).max() <= 1


@pytest.mark.parametrize(
    ("size", "aspect", "box"),
    [
        ((768, 432), 1.0, (168, 0, 432, 432)),
        ((768, 432), 1.1, (146.4, 0, 475.2, 432)),
        ((300, 600), 0.9, (0, 133.33333, 300, 333.33333)),
        ((100, 100), 1.0, (0, 0, 100, 100)),
    ],
)
def test_the_centre_box_is_the_largest_of_its_aspect(size, aspect, box):
    np.testing.assert_allclose(motion.centre_box(*size, aspect), box, rtol=1e-6)


def test_a_random_box_keeps_its_aspect_and_stays_inside():
    rng = np.random.default_rng(0)
    for _ in range(200):
        width, height = rng.integers(50, 900, 2)
        area, aspect, corner = rng.uniform(0.5, 1), rng.uniform(0.7, 1.3), rng.random(2)
        left, top, box_width, box_height = motion.random_box(width, height, area, aspect, corner)
        np.testing.assert_allclose(box_width / box_height, aspect)
        assert left >= -1e-9
        assert top >= -1e-9
        assert left + box_width <= width + 1e-9
        assert top + box_height <= height + 1e-9
        fits = area * aspect * height < width and area * width < height * aspect
        assert box_width * box_height <= area * width * height * (1 + 1e-9)
        if fits:
            np.testing.assert_allclose(box_width * box_height, area * width * height)


@pytest.mark.parametrize("frames", [1, 2, 9])
@pytest.mark.parametrize("curve", ["linear", "cubic in", "elastic out", "step"])
def test_a_path_goes_from_one_pose_to_the_other_along_its_curve(curve, frames):
    ends = np.array([[1.0, 0.0, 0.1, 1.1, -3.0], [-9.0, 0.1, 0.0, 0.9, 2.0]])
    poses = easing.along({"ends": ends, "curve": np.int64(easing.NAMES.index(curve))}, frames)
    assert poses.shape == (frames, 5)
    np.testing.assert_allclose(poses[0], ends[0], atol=0.01)
    if frames > 1:
        np.testing.assert_allclose(poses[-1], ends[1], atol=0.01)
        progress = easing.CURVES[curve](np.linspace(0, 1, frames))
        np.testing.assert_allclose(poses[:, 0], 1 - 10 * progress)


def draw_many(function, count=2000):
    dataset = tf.data.Dataset.range(count).map(
        lambda index: function(random_draws.Position(5, "s", index)), num_parallel_calls=2
    )
    many = next(dataset.batch(count).as_numpy_iterator())
    eagerly = function(random_draws.Position(5, "s", tf.constant(3, tf.int64)))
    for mapped, once in zip(tf.nest.flatten(many), tf.nest.flatten(eagerly), strict=True):
        np.testing.assert_array_equal(mapped[3], once)
    return many


@pytest.mark.parametrize("frames", [1, 2, 12])
def test_a_pause_repeats_the_first_of_a_run_of_frames(frames):
    shown = draw_many(lambda at: augmentations.draw_pause(at, 1.0, frames))
    runs = set()
    for row in shown:
        held = [moment for moment in range(frames) if row[moment] != moment]
        start, length = (held[0] - 1, len(held)) if held else (0, 0)
        assert held == list(range(start + 1, start + 1 + length))
        assert (row[held] == start).all()
        runs.add((start, length))
    if frames > 2:
        assert len([run for run in runs if run[1]]) == frames * (frames - 1) // 2  # every run that there can be
    never = draw_many(lambda at: augmentations.draw_pause(at, 0.0, frames), 20)
    assert (never == np.arange(frames)).all()


def test_curves_are_linear_or_any_other():
    curves = draw_many(lambda at: augmentations.draw_curve(at, "x"), 10_000)
    share = np.bincount(curves, minlength=32) / 10_000
    assert len(share) == 32
    assert abs(share[0] - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 10_000)
    np.testing.assert_allclose(share[1:], 0.8 / 31, atol=4.5 * np.sqrt(0.026 / 10_000))


@pytest.mark.parametrize(("scale", "factor"), [(0.5, 1), (1.0, 1), (1.99, 1), (2.0, 2), (3.9, 2), (4.5, 4), (30.0, 8)])
def test_a_source_is_never_reduced_below_the_result(scale, factor):
    assert motion.reduction(np.diag([scale, scale, 1.0])) == factor
    finest = np.stack([np.diag([9.0, 9.0, 1.0]), np.diag([scale, scale, 1.0])])
    assert motion.reduction(finest) == factor


def test_warping_a_sequence_is_one_interpolation():
    """Two half-pixel shifts composed are one whole pixel, which blurs nothing."""
    half = motion.affine(np.array([0, 0.5 / WIDTH, 0, 1, 0]), WIDTH, HEIGHT)
    twice = motion.warp(PICTURE, np.linalg.inv(half @ half), HEIGHT, WIDTH)
    np.testing.assert_array_equal(twice[:, 1:], PICTURE[:, :-1])
