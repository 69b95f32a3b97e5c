"""The choice of a form by platform: left to JAX, or made while tracing."""

import threading

import jax
import jax.numpy as jnp
import pytest

from rvm_jax.model.platforms import by_platform, tracing_for


def chosen(x):
    return by_platform(x, cpu=lambda x: x + 1, tpu=lambda x: x + 2, default=lambda x: x + 3)


def adds(platform):
    """How many additions are traced."""
    with tracing_for(platform):
        return str(jax.make_jaxpr(lambda x: chosen(x))(1.0)).count(" add ")


@pytest.mark.parametrize(("platform", "traced"), [("cpu", 1), ("tpu", 1), ("gpu", 3)])
def test_only_the_form_of_a_known_platform_is_traced(platform, traced):
    assert adds(platform) == traced


@pytest.mark.parametrize(("platform", "expected"), [("cpu", 1), ("tpu", 2), ("gpu", 1)])
def test_it_is_that_platform_s(platform, expected):
    """A GPU's is left to JAX, which runs on a CPU here."""
    with tracing_for(platform):
        assert chosen(jnp.zeros(())) == expected
    assert chosen(jnp.zeros(())) == 1


def test_other_threads_are_left_alone():
    found = []
    with tracing_for("tpu"):
        thread = threading.Thread(target=lambda: found.append(float(chosen(jnp.zeros(())))))
        thread.start()
        thread.join()
    assert found == [1.0]
