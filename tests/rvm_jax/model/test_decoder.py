"""The ConvGRU against its formula, written out with one convolution over [x, h]."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.model.convolution import conv2d
from rvm_jax.model.decoder import GRUWeights, conv_gru
from rvm_jax.model.platforms import tracing_for


def random_case(steps: int = 5, batch: int = 2, height: int = 4, width: int = 3, channels: int = 3):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, steps, height, width, channels))
    hidden = rng.standard_normal((batch, height, width, channels))
    weights = GRUWeights(
        rng.standard_normal((3, 3, 2 * channels, 2 * channels)),
        rng.standard_normal(2 * channels),
        rng.standard_normal((3, 3, 2 * channels, channels)),
        rng.standard_normal(channels),
    )
    return jax.tree.map(jnp.asarray, (x, hidden, weights))


def written_out(x, hidden, weights):
    """r first, z second; h' = (1 - z) h + z c."""
    outputs = []
    for frame in x.swapaxes(0, 1):
        both = jnp.concatenate([frame, hidden], -1)
        gates = jax.nn.sigmoid(conv2d(both, weights.gates_kernel) + weights.gates_bias.reshape(1, 1, 1, -1))
        reset, update = jnp.split(gates, 2, -1)
        both = jnp.concatenate([frame, reset * hidden], -1)
        candidate = jnp.tanh(conv2d(both, weights.candidate_kernel) + weights.candidate_bias.reshape(1, 1, 1, -1))
        hidden = (1 - update) * hidden + update * candidate
        outputs.append(hidden)
    return jnp.stack(outputs, 1), hidden


@pytest.mark.parametrize(("platform", "steps"), [("cpu", 3), ("tpu", 3), ("cuda", 6)])
def test_outputs_and_gradients(platform, steps):
    """A GPU takes three of its six steps at once."""
    case = random_case(steps)
    expected, expected_pullback = jax.vjp(written_out, *case)
    with tracing_for(platform):
        given, pullback = jax.vjp(conv_gru, *case)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), given, expected)

    rng = np.random.default_rng(1)
    cotangents = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), expected)
    with tracing_for(platform):
        gradients = pullback(cotangents)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), gradients, expected_pullback(cotangents))


def test_chunks_continue_each_other():
    x, hidden, weights = random_case()
    whole, last = conv_gru(x, hidden, weights)
    first, hidden = conv_gru(x[:, :2], hidden, weights)
    second, hidden = conv_gru(x[:, 2:], hidden, weights)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-13)
    np.testing.assert_allclose(hidden, last, atol=1e-13)


def test_memory_keeps_its_precision_when_convolutions_do_not():
    """Many steps, each of them less than half of bfloat16's last digit: a memory that is rounded would not move."""
    x, hidden, weights = jax.tree.map(lambda a: a.astype(jnp.float32), random_case(steps=400, channels=2))
    weights = jax.tree.map(jnp.zeros_like, weights)
    weights = weights._replace(
        gates_bias=jnp.array([0, 0, -6, -6], jnp.float32), candidate_bias=jnp.array([0.5, -0.5], jnp.float32)
    )
    hidden = jnp.ones_like(hidden)
    expected, _ = conv_gru(x, hidden, weights)
    given, last = conv_gru(x.astype(jnp.bfloat16), hidden, weights)
    assert (given.dtype, last.dtype) == (jnp.bfloat16, jnp.float32)
    assert float(jnp.abs(expected[:, -1] - hidden).min()) > 0.3
    np.testing.assert_allclose(last, expected[:, -1], atol=0.003)
    np.testing.assert_allclose(given.astype(jnp.float32), expected, atol=0.01)
    np.testing.assert_array_equal(given[:, -1], last.astype(jnp.bfloat16))


def test_the_program_scans_with_convolutions_over_the_memory_alone():
    case = random_case(channels=3)
    (scan,) = [
        equation for equation in _equations(jax.make_jaxpr(conv_gru)(*case)) if equation.primitive.name == "scan"
    ]
    kernels = [
        equation.invars[1].aval.shape
        for equation in _equations(scan.params["jaxpr"])
        if equation.primitive.name == "conv_general_dilated"
    ]
    assert kernels
    assert {inputs for _, _, inputs, _ in kernels} == {3}  # not 6: the half over x stands before the loop


def _equations(jaxpr):
    """All equations of a program, those of its inner programs included."""
    for equation in jaxpr.jaxpr.eqns:
        yield equation
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, (tuple, list)) else [parameter]:
                if hasattr(inner, "jaxpr"):
                    yield from _equations(inner)
