"""What the check sees in mattes: synthetic people, and what is done to them by mistake."""

import functools

import numpy as np
import pytest

from data_pipelines import synthetic
from rvm_jax.foreground import estimate_foreground
from train.check import mattes

PEOPLE = 6


@functools.cache
def people():
    """Foregrounds, alphas and backgrounds: uint8, [H, W, 3], [H, W] and [H, W, 3] each."""
    made = []
    for number in range(PEOPLE):
        foreground, alpha = (clip[0] for clip in synthetic.person_clip(0, 1000 + number, 1, 192, 240))
        made.append((foreground, alpha[..., 0], synthetic.background_clip(0, 5000 + number, 1, 192, 240)[0]))
    return made


def picture(foreground, alpha, background):
    share = alpha[..., None] / 255
    return np.rint(foreground * share + background * (1 - share)).astype(np.uint8)


def estimated(foreground, alpha, background):
    seen = picture(foreground, alpha, background).astype(np.float32) / 255
    return np.rint(255 * estimate_foreground(seen, alpha[..., None].astype(np.float32) / 255)).astype(np.uint8)


FOREGROUNDS = {
    "true": (lambda foreground, alpha, background: foreground, (-0.1, 0.4)),
    "estimated": (estimated, (-0.1, 0.4)),
    "of pictures": (picture, (0.8, 1.1)),
    "on black": (lambda foreground, alpha, background: picture(foreground, alpha, 0 * background), (0.8, 1.1)),
}


@pytest.mark.parametrize(("made", "between"), FOREGROUNDS.values(), ids=FOREGROUNDS)
def test_how_much_of_the_background_is_left(made, between):
    found = mattes.join([mattes.edges(made(*person), person[1]) for person in people()])
    assert len(found.alpha) > 5000
    assert between[0] < found.left < between[1]


def test_an_edge_is_seen_in_all_directions():
    alpha = np.zeros((20, 20), np.uint8)
    alpha[5:15, 5:15] = 255
    alpha[4, 5:15] = alpha[15, 5:15] = alpha[5:15, 4] = alpha[5:15, 15] = 100
    color = np.where(alpha[..., None] > 0, np.uint8([200, 10, 10]), np.uint8([10, 10, 200]))
    found = mattes.edges(color, alpha)
    assert (found.soft, found.hard, len(found.alpha)) == (40, 0, 40)
    np.testing.assert_allclose(found.alpha, 100 / 255)
    np.testing.assert_allclose(found.person, 1)
    hard = mattes.edges(color, np.where(alpha > 127, 255, 0).astype(np.uint8))
    assert (hard.soft, hard.hard) == (0, 40)


def levels(curve):
    counts = [
        np.bincount(np.rint(255 * curve(alpha / 255)).astype(int).ravel(), minlength=256) for _, alpha, _ in people()
    ]
    return np.sum(counts, 0)


def test_a_gamma_leaves_out_levels_where_it_is_steep():
    plain, steep_above, steep_below = (mattes.missing_levels(levels(curve)) for curve in CURVES)
    assert max(plain) < 0.05
    assert steep_above[0] < 0.1 < 0.4 < steep_above[1]
    assert steep_below[1] < 0.1 < 0.4 < steep_below[0]


CURVES = (lambda a: a, lambda a: a**2.2, lambda a: a ** (1 / 2.2))


def test_alphas_of_videos_are_told():
    assert mattes.in_video_range(levels(lambda a: (16 + 219 * a) / 255))
    assert not mattes.in_video_range(levels(CURVES[0]))
    assert not mattes.in_video_range(levels(lambda a: 0.5 * a))


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({16: 45, 128: 10, 235: 45}, True),
        ({0: 2, 16: 48, 235: 48, 255: 2}, False),  # one in 25 is beyond
        ({16: 20, 128: 60, 235: 20}, False),  # most are neither black nor white
    ],
)
def test_the_range_of_videos_holds_nearly_all_and_ends_with_most(counts, told):
    assert mattes.in_video_range(np.array([counts.get(level, 0) for level in range(256)])) == told
