"""What the reference of the losses has no case of: pictures without an edge, and sides of SciPy's other centre."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from rvm_jax.baselines.losses import edges, modnet_adaptation_loss, u2net_loss
from rvm_jax.baselines.modnet import MODNetOutput
from rvm_jax.baselines.u2net import U2NetOutput


@pytest.mark.parametrize(("size", "side"), [(64, 3), (80, 4)])
def test_edges_are_scipys(size, side):
    foreground = (np.random.default_rng(size).random((size, size)) > 0.97).astype(np.float32)
    foreground[size // 2 :] = 1 - foreground[size // 2 :]
    dilated, eroded = (f(foreground, (side, side)) for f in (scipy.ndimage.grey_dilation, scipy.ndimage.grey_erosion))
    given = edges(jnp.asarray(foreground)[None, ..., None])[0, ..., 0]
    np.testing.assert_array_equal(given, dilated != eroded)


def test_adaptation_to_an_image_without_edges_is_finite():
    def loss(matte):
        output = MODNetOutput(matte, jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 64, 64, 1)))
        return modnet_adaptation_loss(output, output)["detail"]

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.zeros((1, 64, 64, 1)))
    assert value == 0
    assert not gradient.any()


def test_certainty_that_is_wrong_costs_no_more_than_100():
    def loss(x):
        return u2net_loss(U2NetOutput(x, (x,) * 6), jnp.array([1.0, 0]).reshape(1, 1, 2, 1))["fused"]

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.array([0.0, 1]).reshape(1, 1, 2, 1))
    assert value == 100
    assert not gradient.any()
