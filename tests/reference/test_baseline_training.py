"""One pass of each baseline in train mode against its released PyTorch code: losses, outputs, statistics, gradients."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from rvm_jax.baselines import losses
from rvm_jax.baselines.names import entries
from rvm_jax.weights.names import to_state_dict
from tests.reference import cast
from tests.reference.baseline_recipe import image, matte, trimap
from tests.reference.test_baselines import BASELINES, MEAN, STD, named_outputs, network_of, variables_of

PASSES = sorted(path for path in BASELINES.glob("trainmode_*.json"))
RENAMED = {"target": "fused"}  # what the released code calls the first term of U²-Net's


def made(seed, *shape):
    return image(seed, *shape).astype(np.float64)


def modnet(network):
    images, alpha = 2 * made(601, 2, 64, 96, 3) - 1, matte(602, 2, 64, 96)
    return [images], {"side_outputs": True}, lambda out: losses.modnet_loss(out, images, alpha, trimap(alpha))


def u2netp(network):
    images, mask = made(604, 2, 64, 96, 3), (made(605, 2, 64, 96, 1) > 0.5).astype(np.float64)
    images = (images / images.max((1, 2, 3), keepdims=True) - np.array(MEAN)) / np.array(STD)
    return [images], {}, lambda out: losses.u2net_loss(out, mask)


def composite(seed, *shape):
    foreground, background, alpha = made(seed, *shape, 3), made(seed + 1, *shape, 3), matte(seed + 2, *shape)
    return foreground * alpha + background * (1 - alpha), background, foreground, alpha


def mattingbase_mobilenetv2(network):
    source, background, foreground, alpha = composite(611, 3, 64, 80)
    return [source, background], {}, lambda out: losses.matting_base_loss(out, foreground, alpha)


def mattingrefine_mobilenetv2(network):
    source, background, foreground, alpha = composite(621, 3, 112, 128)
    return [source, background], {}, lambda out: losses.matting_refine_loss(out, foreground, alpha)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("path", PASSES, ids=lambda path: path.stem)
def test_train_mode(path: Path):
    variant = path.stem.removeprefix("trainmode_")
    network = network_of(variant, sample_pixels=2000)
    if variant.startswith("matting"):
        network = network.clone(dropout=0.0)
    inputs, options, loss = globals()[variant](network)
    variables = cast(variables_of(variant, network), "float64")

    @jax.jit
    def train_pass(variables):
        def total(params):
            given = {**variables, "params": params}
            output, updated = network.apply(given, *inputs, train=True, mutable=["batch_stats"], **options)
            terms = loss(output)
            return terms["total"], (terms, output, updated)

        gradients, rest = jax.grad(total, has_aux=True)(variables["params"])
        return gradients, *rest

    gradients, terms, output, updated = train_pass(variables)
    told, arrays = json.loads(path.read_text()), np.load(path.with_suffix(".npz"))
    for name, value in told["loss"].items():
        if name != "selection_margin":
            np.testing.assert_allclose(terms[RENAMED.get(name, name)], value, rtol=1e-9, err_msg=name)
    state_dict = to_state_dict({**variables, **updated}, entries(network))
    given: dict[str, Any] = {**state_dict, **named_outputs(network, output)}
    for name in arrays.files:
        array = given[name][:, ::2, ::2, ::4] if name == "hid" else given[name]
        np.testing.assert_allclose(array, arrays[name], rtol=1e-6, atol=1e-6, err_msg=name)
    by_name = to_state_dict({"params": gradients}, [entry for entry in entries(network) if entry.path[0] == "params"])
    largest = max(norm for norm, _ in told["gradients"].values())
    for name, (norm, total) in told["gradients"].items():
        gradient = by_name[name]
        np.testing.assert_allclose(np.linalg.norm(gradient), norm, rtol=1e-6, atol=1e-8 * largest, err_msg=name)
        np.testing.assert_allclose(gradient.sum(), total, rtol=0, atol=1e-6 * norm + 1e-8 * largest, err_msg=name)
