"""The convolution that up-samples on its way against up-sampling and convolving."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.model import upscaled_convolution
from rvm_jax.model.convolution import conv2d
from rvm_jax.model.platforms import tracing_for


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("size", [(8, 10), (7, 10), (8, 9), (2, 2), (1, 2), (1, 1), (3, 1)])
@pytest.mark.parametrize("channels", [(2, 1), (4, 1)])
def test_cells_are_what_the_joined_arrays_give_with_their_gradients(size, channels):
    height, width = size
    x = normal(0, 2, -(-height // 2), -(-width // 2), 3)
    others = tuple(normal(1, 2, *size, count) for count in channels)
    kernel = normal(3, 3, 3, 3 + sum(channels), 4)
    expected, expected_pullback = jax.vjp(upscaled_convolution._joined, x, others, kernel)
    given, pullback = jax.vjp(jax.jit(upscaled_convolution._in_cells), x, others, kernel)
    np.testing.assert_allclose(given, expected, atol=1e-12)
    cotangent = jnp.asarray(normal(4, *given.shape))
    for one, other in zip(
        jax.tree.leaves(pullback(cotangent)), jax.tree.leaves(expected_pullback(cotangent)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.parametrize("size", [(8, 10), (7, 10)])
def test_a_convolution_in_cells_is_that_of_pixels_with_its_gradients(side, size):
    x, kernel = normal(0, 2, *size, 3), normal(1, side, side, 3, 4)
    expected, expected_pullback = jax.vjp(conv2d, x, kernel)
    with tracing_for("tpu"):
        given, pullback = jax.vjp(upscaled_convolution.conv2d_in_cells, x, kernel)
    np.testing.assert_allclose(given, expected, atol=1e-12)
    cotangent = jnp.asarray(normal(2, *given.shape))
    for one, other in zip(pullback(cotangent), expected_pullback(cotangent), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
