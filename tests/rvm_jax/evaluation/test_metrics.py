"""The metrics where frames are empty, full, one pixel or constant: a number, as it is documented."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.evaluation import metrics

EMPTY, FULL, HALF = (np.full((1, 1, 12, 16, 1), value, np.float32) for value in (0, 1, 0.5))
PIXEL = EMPTY.copy()
PIXEL[0, 0, 5, 7] = 1
# Of two frames, so that all but the empty one change from frame to frame.
CLIPS = {
    "empty": np.concatenate([EMPTY, EMPTY], 1),
    "full": np.concatenate([EMPTY, FULL], 1),
    "half": np.concatenate([FULL, HALF], 1),
    "pixel": np.concatenate([HALF, PIXEL], 1),
}


@pytest.mark.parametrize("alpha", CLIPS)
@pytest.mark.parametrize("truth", CLIPS)
@pytest.mark.parametrize("metric", ["mad", "mad_in_band", "mse", "gradient", "dtssd", "connectivity"])
def test_every_pair_has_a_finite_figure_and_equal_frames_have_none(metric, truth, alpha):
    value = np.asarray(getattr(metrics, metric)(CLIPS[alpha], CLIPS[truth]))
    assert value.shape == (1, 2)
    assert np.isfinite(value).all()
    if alpha == truth:
        assert (value == 0).all()
    elif metric in ("mad", "mse", "dtssd"):
        assert value[0, 1] > 0


def test_dtssd_is_how_much_the_difference_changes():
    # From 0 to 1/2 everywhere, and from 1 to 1/2: both change by a half, whichever way.
    for alpha, truth in (([EMPTY, HALF], [EMPTY, EMPTY]), ([FULL, FULL], [EMPTY, HALF])):
        value = metrics.dtssd(*(np.concatenate(frames, 1) for frames in (alpha, truth)))
        np.testing.assert_allclose(value, [[0, 50]])
    lasting = metrics.dtssd(*(np.concatenate(frames, 1) for frames in ([HALF, FULL], [EMPTY, HALF])))
    np.testing.assert_array_equal(lasting, [[0, 0]])


def test_the_unknown_band_is_what_is_neither_0_nor_1_and_12_pixels_around():
    truth = np.zeros((1, 2, 60, 70, 1), np.float32)
    truth[:, :, :, 40:] = 1
    truth[0, 0, 30, 20] = 0.5
    alpha = truth.copy()
    alpha[0, 0, 18, 8] = alpha[0, 0, 42, 32] = 1  # two corners of the band, and then what is beyond it
    for y, x in ((17, 8), (43, 8), (30, 7), (30, 33)):
        alpha[0, 0, y, x] = 1
    alpha[0, 1, 5, 5] = 1
    np.testing.assert_allclose(metrics.mad_in_band(alpha, truth), [[3.2, 0]], rtol=1e-5)
    np.testing.assert_allclose(metrics.mad_in_band(alpha[0], truth[0]), [3.2, 0], rtol=1e-5)


def test_the_gradient_of_what_is_constant_is_nothing():
    assert metrics.gradient(FULL, EMPTY)[0, 0] == 0
    assert metrics.gradient(PIXEL, HALF)[0, 0] > 0


def test_the_gradient_stretches_unless_told_otherwise():
    weak = PIXEL * np.float32(0.5)
    assert metrics.gradient(weak, PIXEL)[0, 0] == 0
    whole, half = (float(metrics.gradient(alpha, PIXEL, stretch=False)[0, 0]) for alpha in (EMPTY, weak))
    assert half == pytest.approx(whole / 4, rel=1e-5)


def test_the_filters_are_those_of_the_definition():
    smooth, slope = metrics._gaussian_filters()
    assert len(smooth) == 9  # half-width ⌈1.4 · sqrt(−2 · ln(sqrt(2π) · 1.4 · 0.01))⌉ = 4
    assert np.linalg.norm(np.outer(smooth, slope)) == pytest.approx(1)
    assert slope[5] / slope[6] == pytest.approx(0.5 * np.exp(3 / (2 * 1.4**2)))


def test_connectivity_counts_what_hangs_together_by_sides_only():
    truth = np.ones((1, 1, 4, 4, 1), np.float32)
    alpha = truth.copy()
    alpha[0, 0, 0] = alpha[0, 0, :, 0] = 0
    alpha[0, 0, 0, 0] = 1  # touches the rest by a corner, so it belongs to nothing: φ = 1 − 1 in both
    # Row and column of 6 pixels without alpha: prediction φ = 1, truth (level 0, d = 1) φ = 0.
    assert metrics.connectivity(alpha, truth)[0, 0] == pytest.approx(6e-3)


def test_shapes_with_and_without_a_batch():
    rng = np.random.default_rng(0)
    alpha, truth = rng.random((2, 2, 3, 8, 9, 1)).astype(np.float32)
    for metric in (metrics.mad, metrics.gradient, metrics.connectivity):
        whole = metric(alpha, truth)
        assert whole.shape == (2, 3)
        np.testing.assert_allclose(metric(alpha[1], truth[1]), whole[1], rtol=1e-5)


def test_all_but_connectivity_compile():
    both = jnp.asarray(CLIPS["pixel"]), jnp.asarray(CLIPS["full"])
    for metric in (metrics.mad, metrics.mad_in_band, metrics.mse, metrics.gradient, metrics.dtssd):
        np.testing.assert_allclose(jax.jit(metric)(*both), metric(*both), rtol=1e-5)
