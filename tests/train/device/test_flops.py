"""Floating point operations as they are counted: XLA's number, but with loops as often as they run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from train.device import flops, parallel

LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolve(x, kernel, stride=1, groups=1):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "VALID", dimension_numbers=LAYOUT, feature_group_count=groups
    )


def test_a_convolution_and_a_product():
    x, kernel = jnp.ones((2, 10, 9, 8)), jnp.ones((3, 3, 8, 5))
    assert flops.count(convolve, x, kernel) == 2 * (2 * 8 * 7 * 5) * 3 * 3 * 8
    assert flops.count(lambda x, k: convolve(x, k, groups=8), x, jnp.ones((3, 3, 1, 8))) == 2 * (2 * 8 * 7 * 8) * 9
    assert flops.count(jnp.matmul, jnp.ones((2, 3, 4)), jnp.ones((2, 4, 5))) == 2 * 2 * 3 * 4 * 5


def test_gradients_of_a_strided_convolution_are_twice_the_convolution():
    x, kernel = jnp.ones((2, 65, 65, 8)), jnp.ones((3, 3, 8, 4))
    forward = flops.count(lambda x, k: convolve(x, k, 2), x, kernel)
    found = flops.count(jax.value_and_grad(lambda x, k: convolve(x, k, 2).sum(), (0, 1)), x, kernel)
    assert found == pytest.approx(3 * forward, rel=0.03)  # the border counts as if it were inside


def test_without_loops_it_is_what_xla_counts():
    x, kernel = jnp.ones((2, 33, 33, 8)), jnp.ones((3, 3, 8, 16))

    def function(x, kernel):
        return convolve(x, kernel, 2).reshape(2, -1) @ jnp.ones((16 * 16 * 16, 5))

    found = jax.jit(function).lower(x, kernel).compile().cost_analysis()["flops"]
    assert flops.count(function, x, kernel) == pytest.approx(found, rel=0.02)


def test_loops_count_as_often_as_they_run():
    weights = jnp.ones((16, 16))

    def loop(x):
        x, _ = lax.scan(lambda x, _: (x @ weights, None), x, None, length=7)
        return lax.fori_loop(0, 5, lambda _, x: jax.checkpoint(lambda y: y @ weights)(x), x)

    assert flops.count(jax.jit(loop), weights) == 12 * 2 * 16**3


def test_of_forms_for_platforms_the_product_with_the_fewest_operations_counts():
    def twice(x):
        return jnp.concatenate([x, x], 1) @ jnp.concatenate([x, x]) / 2

    def sums(x):
        return (x[:, :, None] * x[None]).sum(1)

    def either(x):
        return lax.platform_dependent(x, cpu=sums, tpu=twice, default=lambda x: x @ x)

    assert flops.count(either, jnp.ones((8, 8))) == 2 * 8**3


def test_a_program_of_all_devices_has_those_of_each():
    devices = jax.local_device_count()
    x = parallel.replicate(np.ones((4, 4), np.float32))
    program = parallel.Program(parallel.pmap(lambda x: x @ x, (0,)), x)
    assert program.flops == 2 * 4**3
    assert devices > 1


def test_the_peak_is_of_known_devices_alone(monkeypatch):
    assert flops.peak() is None
    monkeypatch.setitem(flops.PEAKS, "cpu", 0.5)
    assert flops.peak() == 0.5e12
