"""Estimated foregrounds against known ones."""

import numpy as np
import pytest

from data_pipelines import synthetic
from rvm_jax.foreground import estimate_foreground


def person(number: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A composite, its alpha and its foreground, float32 in 0..1."""
    front, alpha = (clip[0] for clip in synthetic.person_clip(3, number, 1, height, width))
    back = synthetic.background_clip(4, number, 1, height, width)[0]
    front, alpha, back = (np.asarray(part, np.float32) / 255 for part in (front, alpha, back))
    return alpha * front + (1 - alpha) * back, alpha, front


def test_colours_of_hair_and_edges_are_those_of_the_person():
    for number in range(3):
        image, alpha, front = person(number, 90, 121)
        estimated = estimate_foreground(image, alpha)
        seen_through = np.where(alpha < 1, alpha, 0)
        wrong, before = ((seen_through * np.abs(colors - front)).sum() for colors in (estimated, image))
        assert wrong < 0.35 * before
        assert np.abs(estimated - image)[alpha[..., 0] == 1].max() < 0.02  # what is opaque is seen as it is


def test_where_nothing_is_seen_colours_go_on():
    image, alpha = np.zeros((64, 64, 3), np.float32), np.zeros((64, 64, 1), np.float32)
    image[:, :8], alpha[:, :8] = (0.8, 0.2, 0.4), 1
    estimated = estimate_foreground(image, alpha)
    np.testing.assert_allclose(estimated, np.broadcast_to(image[:, :1], image.shape), atol=0.1)


def test_what_is_not_seen_has_the_colour_of_what_is_near():
    """And not the mean of the person, however far that is in steps of a pixel."""
    image, alpha = np.zeros((64, 64, 3), np.float32), np.zeros((64, 64, 1), np.float32)
    for columns, color in ((np.s_[:8], (0.9, 0.1, 0.1)), (np.s_[-8:], (0.1, 0.1, 0.9))):
        image[:, columns], alpha[:, columns] = color, 1
    red, _, blue = np.moveaxis(estimate_foreground(image, alpha), -1, 0)
    assert (red[:, :24] > blue[:, :24] + 0.1).all()
    assert (blue[:, -24:] > red[:, -24:] + 0.1).all()


def test_of_a_picture_without_a_person_it_is_the_mean_colour():
    image = np.random.default_rng(0).random((20, 24, 3), np.float32)
    estimated = estimate_foreground(image, np.zeros((20, 24, 1), np.float32))
    np.testing.assert_allclose(estimated, np.broadcast_to(image.mean((0, 1)), image.shape), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (2, 3), (33, 64)])
def test_any_size_and_opaque_pictures(shape):
    image = np.random.default_rng(0).random((*shape, 3), np.float32)
    estimated = estimate_foreground(image, np.ones((*shape, 1), np.float32))
    assert (estimated.dtype, estimated.shape) == (np.float32, image.shape)
    np.testing.assert_allclose(estimated, image, atol=1e-3)


def test_what_is_given_stays_as_it_was():
    image, alpha, _ = person(5, 20, 24)
    copies = image.copy(), alpha.copy()
    estimate_foreground(image, alpha)
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(alpha, copies[1])
