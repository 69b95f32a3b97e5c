"""The losses against the released ones: every term, and the gradient of each total."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import FOLDER
from tests.reference.recipe import video
from train.device.losses import laplacian_loss, matting_loss, segmentation_loss

SHAPE = (2, 3, 66, 98)
NAMES = {
    "alpha_l1": "pha_l1",
    "alpha_laplacian": "pha_laplacian",
    "alpha_coherence": "pha_coherence",
    "foreground_l1": "fgr_l1",
    "foreground_coherence": "fgr_coherence",
    "total": "total",
}


@pytest.fixture(scope="module")
def inputs(float64):
    """Predicted foreground and alpha, true foreground and alpha; logits and mask."""
    foreground, alpha, true_foreground, true_alpha = (video(21 + i, *SHAPE, (3, 1)[i % 2]) for i in range(4))
    true_alpha[true_alpha < 0.3] = 0
    logits, mask = 8 * video(25, *SHAPE, 1) - 4, video(26, *SHAPE, 1) > 0.5
    matting = [jnp.asarray(x, jnp.float64) for x in (foreground, alpha, true_foreground, true_alpha)]
    return matting, [jnp.asarray(x, jnp.float64) for x in (logits, mask)]


def test_terms(inputs):
    expected = json.loads((FOLDER / "losses.json").read_text())
    terms = jax.jit(matting_loss)(*inputs[0])
    assert terms.keys() == NAMES.keys()
    for name, theirs in NAMES.items():
        np.testing.assert_allclose(terms[name], expected[theirs], rtol=1e-12, err_msg=name)
    segmentation = jax.jit(segmentation_loss)(*inputs[1])["total"]
    np.testing.assert_allclose(segmentation, expected["segmentation"], rtol=1e-12)


def test_gradients(inputs):
    expected = np.load(FOLDER / "loss_gradients.npz")
    gradients = jax.jit(jax.grad(lambda *x: matting_loss(*x)["total"], argnums=(0, 1)))(*inputs[0])
    gradients += (jax.jit(jax.grad(lambda *x: segmentation_loss(*x)["total"]))(*inputs[1]),)
    for name, gradient in zip(("pred_fgr", "pred_pha", "pred_seg"), gradients, strict=True):
        # Stored as float32.
        np.testing.assert_allclose(gradient, expected[name], rtol=2e-7, atol=1e-12, err_msg=name)


def test_one_frame_has_no_coherence(inputs):
    first = [x[:, :1] for x in inputs[0]]
    terms = matting_loss(*first)
    assert terms["alpha_coherence"] == terms["foreground_coherence"] == 0
    assert all(np.isfinite(jnp.stack(jax.tree.leaves(terms))))


def test_bfloat16_is_widened(inputs):
    narrow = [x.astype(jnp.bfloat16) for x in inputs[0]]
    terms, exact = matting_loss(*narrow), matting_loss(*inputs[0])
    for name, value in terms.items():
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, exact[name], rtol=0.01)
    widened = segmentation_loss(inputs[1][0].astype(jnp.bfloat16), inputs[1][1].astype(jnp.float32))["total"]
    assert widened.dtype == jnp.float32


def test_a_perfect_prediction_costs_nothing(inputs):
    _, _, foreground, alpha = inputs[0]
    # What the foreground is where nothing is seen does not matter.
    unseen = jnp.where(alpha > 0, foreground, 0.123)
    assert matting_loss(unseen, alpha, foreground, alpha)["total"] == 0
    assert laplacian_loss(alpha - alpha) == 0


def test_large_logits_do_not_overflow():
    logits = jnp.array([[[[[-500.0]], [[500.0]]]]], jnp.float32)
    mask = jnp.array([[[[[0.0]], [[1.0]]]]], jnp.float32)
    assert segmentation_loss(logits, mask)["total"] == 0
    assert segmentation_loss(logits, 1 - mask)["total"] == 500
