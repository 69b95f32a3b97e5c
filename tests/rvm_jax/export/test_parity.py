"""The Flax network and its PyTorch twin, side by side in float64: outputs, statistics and every gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from rvm_jax.export import torch_network
from rvm_jax.model.network import MattingNetwork, variant_table
from rvm_jax.model.variants import REFINERS, Variant
from rvm_jax.weights.names import entries, to_state_dict
from tests.rvm_jax.conftest import TINY_RESNET, random_frames, random_variables

SMALL = ["tiny", pytest.param(TINY_RESNET, id="tiny_resnet")]
RELEASED = [pytest.param(variant, marks=pytest.mark.slow) for variant in ("mobilenetv3", "resnet50")]


def make_pair(variant: str | Variant, refiner: str):
    """A Flax network, its variables, and a twin that loaded the same weights."""
    network = MattingNetwork(variant, refiner)
    variables = random_variables(network)
    twin = torch_network.MattingNetwork(variant, refiner).double()
    table = entries(variant_table(variant), refiner)
    state_dict = to_state_dict(variables, table)
    twin.load_state_dict({name: torch.tensor(array) for name, array in state_dict.items()}, strict=True)
    return network, variables, twin, table


def channels_first(frames) -> torch.Tensor:
    return torch.tensor(np.moveaxis(np.asarray(frames), -1, -3))


def assert_agree(given, expected: torch.Tensor, name: str) -> None:
    expected = np.moveaxis(expected.detach().numpy(), -3, -1) if expected.ndim >= 4 else expected.detach().numpy()
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("refiner", REFINERS)
@pytest.mark.parametrize("variant", SMALL + RELEASED)
def test_eval_mode(variant, refiner):
    network, variables, twin, _ = make_pair(variant, refiner)
    twin.eval()
    frames = random_frames(2, 3, 73, 90, 3)
    state, rec = None, [None] * 4
    for start, end in ((0, 2), (2, 3)):
        chunk = frames[:, start:end]
        foreground, alpha, state = jax.jit(lambda v, x, s: network.apply(v, x, s, 0.4))(variables, chunk, state)
        with torch.no_grad():
            fgr, pha, *rec = twin(channels_first(chunk), *rec, downsample_ratio=0.4)
        assert_agree(foreground, fgr, "foreground")
        assert_agree(alpha, pha, "alpha")
        for name, r, r_twin in zip(state._fields, state, rec, strict=True):
            assert_agree(r, r_twin, name)
    assert float(alpha.std()) > 0.03  # neither clipped away nor constant


# Of the released variants, `tests/reference` knows what the released network makes of them in training.
@pytest.mark.parametrize("kind", ["matting", "segmentation"])
@pytest.mark.parametrize("variant", SMALL)
def test_train_mode_and_gradients(variant, kind):
    check_train_mode_and_gradients(variant, kind, "deep_guided_filter")


def test_train_mode_and_gradients_with_the_fast_guided_filter():
    check_train_mode_and_gradients("tiny", "matting", "fast_guided_filter")


def check_train_mode_and_gradients(variant, kind, refiner):
    network, variables, twin, table = make_pair(variant, refiner)
    segmentation = kind == "segmentation"
    ratio = 1.0 if segmentation else 0.5
    frames = random_frames(2, 2, 64, 80, 3)

    @jax.jit
    def train_pass(params):
        result, updated = network.apply(
            {**variables, "params": params},
            frames,
            None,
            ratio,
            train=True,
            segmentation=segmentation,
            mutable=["batch_stats"],
        )
        if segmentation:
            return jnp.square(result.logits - 0.5).mean(), updated
        # Differences of frames make the gradient through time matter.
        motion = jnp.square(result.alpha[:, 1:] - result.alpha[:, :-1]).mean()
        return jnp.square(result.foreground - 0.3).mean() + jnp.square(result.alpha - 0.2).mean() + motion, updated

    (loss, updated), gradients = jax.value_and_grad(train_pass, has_aux=True)(variables["params"])

    twin.train()
    outputs = twin(channels_first(frames), downsample_ratio=ratio, segmentation_pass=segmentation)
    if segmentation:
        loss_twin = (outputs[0] - 0.5).square().mean()
    else:
        fgr, pha = outputs[:2]
        motion = (pha[:, 1:] - pha[:, :-1]).square().mean()
        loss_twin = (fgr - 0.3).square().mean() + (pha - 0.2).square().mean() + motion
    loss_twin.backward()

    np.testing.assert_allclose(loss, loss_twin.item(), rtol=1e-9)
    given = to_state_dict({**variables, **updated}, table)
    for name, tensor in twin.state_dict().items():
        np.testing.assert_allclose(given[name], tensor, atol=1e-9, err_msg=name)
    # A state_dict's shape for gradients too, zero where a pass does not use a weight (PyTorch has none there).
    given = to_state_dict({"params": gradients, "batch_stats": variables["batch_stats"]}, table)
    scale = max(float(parameter.grad.abs().max()) for parameter in twin.parameters() if parameter.grad is not None)
    for name, parameter in twin.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        np.testing.assert_allclose(given[name], expected, rtol=1e-6, atol=1e-6 * scale, err_msg=name)
