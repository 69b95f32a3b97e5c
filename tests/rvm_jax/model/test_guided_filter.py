"""The guided filters against their definition, window by window."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rvm_jax.model import guided_filter
from rvm_jax.model.guided_filter import DeepGuidedFilter
from rvm_jax.model.layers import BatchNorm, Conv


def image(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def test_box_mean_divides_by_nine_everywhere():
    x = image(0, 2, 5, 6, 3)
    expected = F.avg_pool2d(torch.tensor(np.moveaxis(x, -1, 1)), 3, 1, 1, count_include_pad=True)
    np.testing.assert_allclose(guided_filter.box_mean(x), np.moveaxis(expected.numpy(), 1, -1), atol=1e-14)


def test_gradients_never_scatter():
    """A scatter adds in any order, so on GPUs the same step would give other bits each time."""
    frames, low, target = (
        jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, 24, 32, 3), (1, 12, 16, 3), (1, 12, 16, 4))
    )

    def total(*arrays):
        return guided_filter.fast_guided_filter(*arrays).sum()

    program = jax.jit(jax.grad(total, (0, 1, 2))).lower(frames, low, target).as_text()
    assert "scatter" not in program


def test_guide_is_the_frame_and_its_mean():
    frames = image(0, 2, 4, 5, 3)
    np.testing.assert_allclose(guided_filter.as_guide(frames), np.concatenate([frames, frames.mean(-1)[..., None]], -1))


def test_a_constant_target_stays_constant_inside():
    frames, low = image(0, 1, 24, 32, 3), image(1, 1, 12, 16, 3)
    target = np.broadcast_to([0.1, -0.2, 0.3, 0.7], (1, 12, 16, 4))
    result = guided_filter.fast_guided_filter(*map(jnp.asarray, (frames, low, target)))
    # The zeros beyond the edge reach two low-resolution pixels inside, the resize one more.
    np.testing.assert_allclose(result[:, 6:-6, 6:-6], np.full((1, 12, 20, 4), target[0, 0, 0]), atol=1e-9)


def test_a_target_that_is_linear_in_the_guide_follows_the_full_size_guide():
    low = 0.5 + 0.4 * np.sin(np.arange(12 * 16 * 3).reshape(1, 12, 16, 3))
    frames = image(2, 1, 24, 32, 3)
    target = 0.6 * np.asarray(guided_filter.as_guide(low)) + 0.1
    result = guided_filter.fast_guided_filter(*map(jnp.asarray, (frames, low, target)), epsilon=0)
    expected = 0.6 * np.asarray(guided_filter.as_guide(frames)) + 0.1
    np.testing.assert_allclose(result[:, 6:-6, 6:-6], expected[:, 6:-6, 6:-6], atol=1e-9)


def test_deep_filter_with_a_box_window_sees_the_same_moments():
    """Its window starts as the box mean, and is a parameter that training moves."""
    frames, low = jnp.asarray(image(0, 1, 16, 24, 3)), jnp.asarray(image(1, 1, 8, 12, 3))
    target, hidden = jnp.asarray(image(2, 1, 8, 12, 4)), jnp.asarray(image(3, 1, 8, 12, 5))

    module = DeepGuidedFilter(Conv, partial(BatchNorm, use_running_average=True))
    variables = module.init(jax.random.key(0), frames, low, target, hidden)
    np.testing.assert_allclose(variables["params"]["box_kernel"], np.full((3, 3, 1, 4), 1 / 9))

    # With a = 0 the result is the resized local mean of the target.
    silent = jax.tree.map(jnp.zeros_like, variables["params"]["conv3"])
    variables = {**variables, "params": {**variables["params"], "conv3": silent}}
    result = module.apply(variables, frames, low, target, hidden)
    expected = jax.image.resize(guided_filter.box_mean(target), (1, 16, 24, 4), "bilinear")
    np.testing.assert_allclose(result, expected, atol=1e-9)

    def total(params):
        return module.apply({**variables, "params": params}, frames, low, target, hidden).sum()

    assert float(jnp.abs(jax.grad(total)(variables["params"])["box_kernel"]).min()) > 0


@pytest.mark.parametrize("train", [False, True], ids=["forward", "gradient"])
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_deep_filter_asks_accelerators_for_full_precision(platform, train):
    module = DeepGuidedFilter(Conv, partial(BatchNorm, use_running_average=True))
    arrays = [
        jax.ShapeDtypeStruct(shape, jnp.float32)
        for shape in ((1, 16, 24, 3), (1, 8, 12, 3), (1, 8, 12, 4), (1, 8, 12, 5))
    ]
    variables = jax.eval_shape(module.init, jax.random.key(0), *arrays)

    statistics = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), variables["batch_stats"])

    def loss(params, arrays):
        return jnp.square(module.apply({"params": params, "batch_stats": statistics}, *arrays)).sum()

    if train:
        given, function = (variables["params"], arrays), jax.grad(loss, (0, 1))
    else:
        given, function = (variables, *arrays), module.apply
    program = jax.export.export(jax.jit(function), platforms=[platform])(*given).mlir_module()
    products = [
        line for line in program.splitlines() if "stablehlo.convolution" in line or "stablehlo.dot_general" in line
    ]
    assert len(products) == (9 if train else 3)  # the three 1×1 convolutions and the two gradients of each
    assert all("HIGHEST" in line for line in products)
