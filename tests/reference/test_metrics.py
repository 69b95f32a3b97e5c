"""The metrics against the released evaluation, frame by frame."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.evaluation import metrics
from tests.reference import FOLDER

METRICS = {
    "pha_mad": lambda m: metrics.mad(m["pred_pha"], m["true_pha"]),
    "pha_mse": lambda m: metrics.mse(m["pred_pha"], m["true_pha"]),
    "pha_grad": lambda m: metrics.gradient(m["pred_pha"], m["true_pha"]),
    "pha_dtssd": lambda m: metrics.dtssd(m["pred_pha"], m["true_pha"]),
    "fgr_mad": lambda m: metrics.foreground_mad(m["pred_fgr"], m["true_fgr"], m["true_pha"]),
    "fgr_mse": lambda m: metrics.foreground_mse(m["pred_fgr"], m["true_fgr"], m["true_pha"]),
}


@pytest.fixture(scope="module")
def mattes():
    """[T, H, W, C] in 0..1."""
    stored = np.load(FOLDER / "metrics.npz")
    return {name: jnp.asarray(stored[name].reshape(*stored[name].shape[:3], -1) / 255) for name in stored}


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("name", METRICS)
def test_every_frame(name, dtype, mattes):
    expected = json.loads((FOLDER / "metrics.json").read_text())[name]
    found = jax.jit(METRICS[name])({kind: pixels.astype(dtype) for kind, pixels in mattes.items()})
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_connectivity_of_every_frame(mattes):
    expected = json.loads((FOLDER / "metrics.json").read_text())["pha_conn"]
    for dtype in (np.float64, np.float32):
        alpha, true_alpha = (np.asarray(mattes[name], dtype) for name in ("pred_pha", "true_pha"))
        np.testing.assert_allclose(metrics.connectivity(alpha, true_alpha), expected, rtol=1e-5)


def test_a_frame_without_foreground_has_no_error_of_colour(mattes):
    nobody = jnp.zeros_like(mattes["true_pha"])
    for metric in (metrics.foreground_mad, metrics.foreground_mse):
        np.testing.assert_array_equal(metric(mattes["pred_fgr"], mattes["true_fgr"], nobody), np.zeros(4))
