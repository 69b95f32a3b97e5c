import numpy as np
import pytest
from PIL import Image, ImageEnhance

from data_pipelines.augment import color
from tests.data_pipelines.stamped import everywhere, photo

PICTURE = photo(60, 80)
LUMA = PICTURE @ np.array([0.299, 0.587, 0.114])


def assert_close(ours, formula, levels=1):
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(float) - np.clip(formula, 0, 255)).max() <= levels


def adjusted(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, grayscale=False, picture=PICTURE):
    values = np.array([brightness, contrast, saturation, hue])
    return everywhere(color.adjust, picture, values, grayscale=grayscale)


@pytest.mark.parametrize("by", [-0.3, 0.1, 0.8, -1.5])
def test_brightness_scales(by):
    assert_close(adjusted(brightness=by), PICTURE * max(0, 1 + by))


@pytest.mark.parametrize("by", [-0.3, 0.2, 0.8])
def test_contrast_moves_away_from_the_mean_luma(by):
    assert_close(adjusted(contrast=by), LUMA.mean() + (1 + by) * (PICTURE - LUMA.mean()))


@pytest.mark.parametrize("by", [-1.0, -0.3, 0.4])
def test_saturation_moves_away_from_gray(by):
    assert_close(adjusted(saturation=by), LUMA[..., None] + (1 + by) * (PICTURE - LUMA[..., None]))


def test_hue_turns_colors_about_gray():
    assert_close(adjusted(hue=0.5), 2 * LUMA[..., None] - PICTURE)  # half a turn: the complement of equal luma
    assert_close(adjusted(hue=1.0), PICTURE)
    quarter = adjusted(hue=0.25)
    assert np.abs(quarter @ np.array([0.299, 0.587, 0.114]) - LUMA)[_unclipped(quarter)].max() <= 1
    gray = np.repeat(PICTURE[..., :1], 3, -1)
    assert_close(adjusted(hue=0.13, picture=gray), gray)


def _unclipped(picture):
    return ((picture > 0) & (picture < 255)).all(-1)


def test_a_small_turn_of_hue_goes_the_way_hue_goes():
    """Red goes towards yellow, as in HSV."""
    red, green, blue = adjusted(hue=0.03, picture=np.full((4, 4, 3), [200, 60, 60], np.uint8))[0, 0]
    assert green > 65
    assert green - blue > 15
    assert red > 180


def test_adjustments_follow_one_another():
    """Brightness, contrast about the brighter mean, saturation, hue, without clipping in between."""
    bright = PICTURE * 0.9
    mean = LUMA.mean() * 0.9
    contrasted = mean + 1.1 * (bright - mean)
    luma = (contrasted @ np.array([0.299, 0.587, 0.114]))[..., None]
    saturated = luma + 0.8 * (contrasted - luma)
    assert_close(adjusted(-0.1, 0.1, -0.2, 0.5), 2 * luma - saturated)


def test_grayscale_agrees_with_pillow():
    gray = np.asarray(Image.fromarray(PICTURE).convert("L"))
    assert_close(adjusted(grayscale=True), np.repeat(gray[..., None], 3, -1))
    assert_close(adjusted(brightness=0.1, grayscale=True), np.repeat(1.1 * LUMA[..., None], 3, -1))


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0, 8.0])
@pytest.mark.parametrize("channels", [3, None])
def test_sharpness_agrees_with_pillow(factor, channels):
    picture = photo(60, 80, channels)
    theirs = np.asarray(ImageEnhance.Sharpness(Image.fromarray(picture)).enhance(factor))
    ours = everywhere(color.sharpen, picture, factor)
    levels = max(1, np.ceil(abs(1 - factor) / 2))  # PIL rounds the smoothed picture before it is amplified
    assert np.abs(ours.astype(int) - theirs)[1:-1, 1:-1].max() <= levels + (factor not in (0, 1))


@pytest.mark.parametrize("deviation", [0.8, 2.5, 10.0])
@pytest.mark.parametrize("channels", [3, None])
def test_blur_is_a_gaussian(deviation, channels):
    picture = photo(60, 80, channels)
    assert_close(everywhere(color.blur, picture, deviation), gaussian(picture.astype(float), deviation))


def gaussian(picture, deviation):
    """By summing shifted copies of the picture with its border repeated."""
    reach = int(np.ceil(4 * deviation))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-(offsets**2) / (2 * deviation**2))
    weights /= weights.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if i == axis else (0, 0) for i in range(picture.ndim)]
        wide = np.pad(picture, pad, mode="edge")
        size = picture.shape[axis]
        picture = sum(w * np.take(wide, range(i, i + size), axis) for i, w in enumerate(weights))
    return picture


def grain(size=1, deviation=0.1, gray=False, key=(3, 4)):
    return {"grain": size, "deviation": np.float32(deviation), "gray": gray, "key": np.array(key, np.int64)}


GRAY = np.full((120, 160, 3), 128, np.uint8)


@pytest.mark.parametrize("deviation", [0.02, 0.1])
def test_noise_has_its_deviation_and_no_mean(deviation):
    noise = everywhere(color.add_noise, GRAY, grain(1, deviation), 0) - 128.0
    assert abs(noise.mean()) < 4 * 255 * deviation / np.sqrt(noise.size) + 0.1
    np.testing.assert_allclose(noise.std(), 255 * deviation, rtol=0.02)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03


def test_gray_noise_is_gray():
    noisy = everywhere(color.add_noise, GRAY, grain(gray=True), 0)
    np.testing.assert_array_equal(noisy[..., 0], noisy[..., 1])
    np.testing.assert_array_equal(noisy[..., 0], noisy[..., 2])
    assert noisy.std() > 20


@pytest.mark.parametrize("size", [2, 3, 4])
def test_coarse_grain_spreads_over_its_pixels(size):
    fine, coarse = (everywhere(color.add_noise, GRAY, grain(s), 0)[..., 0] - 128.0 for s in (1, size))
    assert abs(neighbours(fine)) < 0.05
    assert neighbours(coarse) > 0.5
    assert coarse.std() < fine.std()


def neighbours(noise):
    """How much a pixel resembles the next."""
    return np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]


def test_noise_is_that_of_every_other_machine():
    """Pinned, as the draws are: NumPy promises its bits, but not what it makes of them."""
    noisy = color.add_noise(GRAY, grain(), 5)
    assert noisy[0, :4].tolist() == [[134, 145, 160], [149, 108, 109], [105, 132, 135], [161, 152, 158]]


def test_noise_is_new_every_frame_and_repeatable():
    first, again, second = (color.add_noise(GRAY, grain(), number) for number in (0, 0, 1))
    other = color.add_noise(GRAY, grain(key=(3, -5)), 0)
    np.testing.assert_array_equal(first, again)
    for different in (second, other):
        assert abs(np.corrcoef(first.ravel(), different.ravel())[0, 1]) < 0.03


def test_what_changes_nothing_changes_nothing():
    for unchanged in (
        adjusted(),
        everywhere(color.sharpen, PICTURE, 1.0),
        everywhere(color.blur, PICTURE, 0.0),
        everywhere(color.blur, PICTURE, -0.3),  # an easing curve that overshoots below 0
        everywhere(color.add_noise, PICTURE, grain(deviation=0.0), 0),
    ):
        np.testing.assert_array_equal(unchanged, PICTURE)
