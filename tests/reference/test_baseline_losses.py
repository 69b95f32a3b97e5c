"""The baselines' losses against those of their released PyTorch code, values and gradients."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.baselines import losses
from rvm_jax.baselines.background_matting import MattingBaseOutput, MattingRefineOutput
from rvm_jax.baselines.modnet import MODNetOutput
from rvm_jax.baselines.u2net import U2NetOutput
from tests.reference.baseline_recipe import image, matte, trimap
from tests.reference.test_baselines import BASELINES

EXPECTED = json.loads((BASELINES / "baseline_losses.json").read_text())
ARRAYS = np.load(BASELINES / "baseline_losses.npz")


def made(seed, *shape):
    return image(seed, *shape).astype(np.float64)


def modnet_supervised(semantic, detail, matte_):
    alpha = matte(502, 2, 64, 96)
    images = 2 * made(501, 2, 64, 96, 3) - 1
    return losses.modnet_loss(MODNetOutput(matte_, semantic, detail), images, alpha, trimap(alpha))


def modnet_soc(semantic, detail, matte_):
    frozen = MODNetOutput(made(517, 2, 128, 160, 1), semantic, made(516, 2, 128, 160, 1))
    return losses.modnet_adaptation_loss(MODNetOutput(matte_, semantic, detail), frozen)


def mattingbase(alpha, foreground, error):
    output = MattingBaseOutput(alpha, foreground, error, jnp.zeros(()))
    return losses.matting_base_loss(output, made(523, 2, 66, 98, 3), matte(522, 2, 66, 98))


def mattingrefine(*predictions):
    output = MattingRefineOutput(*predictions, jnp.zeros(()))
    return losses.matting_refine_loss(output, made(533, 2, 64, 96, 3), matte(532, 2, 64, 96))


def u2net(fused, *sides):
    mask = (made(542, 2, 32, 48, 1) > 0.5).astype(np.float64)
    return losses.u2net_loss(U2NetOutput(fused, sides), mask)


SOC = [ARRAYS[f"modnet_soc.{name}"].astype(np.float64) for name in ("semantic", "detail", "matte")]
FULL, LOW = (2, 64, 96), (2, 16, 24)
# Loss, what it is of, the gradients that the reference has, and how near the values are: SOC's are stored in float32.
CASES = {
    "modnet_supervised": (
        modnet_supervised,
        [made(503, 2, 4, 6, 1), made(504, *FULL, 1), made(505, *FULL, 1)],
        ["semantic", "detail", "matte"],
        1e-12,
    ),
    "modnet_soc": (modnet_soc, SOC, ["semantic", "detail", "matte"], 1e-6),
    "mattingbase": (
        mattingbase,
        [made(524, 2, 66, 98, 1), made(525, 2, 66, 98, 3), made(526, 2, 66, 98, 1)],
        ["pha", "fgr", "err"],
        1e-12,
    ),
    "mattingrefine": (
        mattingrefine,
        [made(534, *FULL, 1), made(535, *FULL, 3), made(536, *LOW, 1), made(537, *LOW, 3), made(538, *LOW, 1)],
        ["pha", "fgr", "pha_sm", "fgr_sm", "err_sm"],
        1e-12,
    ),
    "u2net": (u2net, [0.98 * made(543 + i, 2, 32, 48, 1) + 0.01 for i in range(7)], ["d0"], 1e-12),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    loss, predictions, names, tolerance = CASES[name]

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradient_and_terms(predictions):
        terms = loss(*predictions)
        return terms["total"], terms

    gradients, terms = gradient_and_terms([jnp.asarray(x) for x in predictions])
    renamed = {"target": "fused"}  # what the released code calls the first term of U²-Net's
    for term, value in EXPECTED[name].items():
        if term != "float32_noise":
            np.testing.assert_allclose(terms[renamed.get(term, term)], value, rtol=tolerance, err_msg=term)
    for part, gradient in zip(names, gradients, strict=False):
        expected = ARRAYS[f"{name}.d_{part}"]
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-6 * np.abs(expected).max(), err_msg=part)


@pytest.mark.usefixtures("float64")
def test_filters():
    given = made(551, 1, 12, 15, 1)
    np.testing.assert_allclose(losses.sobel(given), ARRAYS["sobel.in_551"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(losses.blur(given), ARRAYS["blur3.in_551"], rtol=0, atol=1e-7)
