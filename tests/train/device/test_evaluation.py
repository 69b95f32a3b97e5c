"""Validation on eight devices: the same figures as one clip after the other, whatever fills up the last batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.evaluation import metrics
from rvm_jax.model.network import MattingNetwork
from train.device import evaluation, optimizer, parallel, step


@pytest.fixture(scope="module")
def network():
    return MattingNetwork("tiny", axis_name=parallel.AXIS)


@pytest.fixture(scope="module")
def state(network):
    return jax.device_get(step.init(network, jax.random.key(0)))


def clips(count, seed=0):
    rng = np.random.default_rng(seed)
    channels = {"foreground": 3, "alpha": 1, "background": 3}
    return {name: rng.integers(0, 256, (count, 3, 32, 48, c), np.uint8) for name, c in channels.items()}


def in_batches(made, size):
    """Batches of `size`, the last one filled up with its first clip."""
    count = len(made["alpha"])
    for first in range(0, count, size):
        picked = np.arange(first, first + size)
        real = picked < count
        yield {name: x[np.where(real, picked, first)] for name, x in made.items()}, real.astype(np.float32)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_figures_are_means_over_the_real_clips(network, state, ratio):
    made = clips(11)
    evaluate = evaluation.program(network, ratio)
    measured, shown = evaluation.validate(evaluate, parallel.replicate(state), in_batches(made, 8))

    source, foreground, alpha = step.composite(made)
    apply = jax.jit(network.apply, static_argnums=3)
    result = apply({"params": state.params, "batch_stats": state.batch_stats}, jnp.asarray(source), None, ratio)
    expected = {
        "mad": metrics.mad(result.alpha, alpha),
        "mse": metrics.mse(result.alpha, alpha),
        "dtssd": metrics.dtssd(result.alpha, alpha),
        "foreground_mad": metrics.foreground_mad(result.foreground, foreground, alpha),
        "foreground_mse": metrics.foreground_mse(result.foreground, foreground, alpha),
    }
    assert measured.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(measured[name], values.mean(), rtol=1e-4, err_msg=name)
    assert len(shown) == evaluation.SHOWN
    np.testing.assert_allclose(shown[5].predicted_alpha, 255 * result.alpha[5], atol=1)
    np.testing.assert_allclose(shown[5].source, 255 * np.asarray(source[5]), atol=1)


def test_the_average_is_what_is_validated(state):
    seen = []

    def evaluate(params, batch_stats, batch, real):
        seen.append((params, batch_stats))
        raise KeyboardInterrupt

    how = optimizer.Update(ema=0.9)
    average = step.with_average(state, how).average._replace(params="average", batch_stats="its statistics")
    with pytest.raises(KeyboardInterrupt):
        evaluation.validate(evaluate, state._replace(average=average), in_batches(clips(8), 8))
    assert seen == [("average", "its statistics")]


def test_large_pictures_are_shown_smaller(network, state):
    made = {name: np.repeat(np.repeat(x, 14, 2), 14, 3)[:, :1] for name, x in clips(8).items()}  # 448×672
    _, shown = evaluation.validate(evaluation.program(network, 0.25), parallel.replicate(state), in_batches(made, 8))
    assert shown[0].source.shape == (1, 224, 336, 3)
    assert shown[0].alpha.shape == (1, 224, 336, 1)


def test_a_validation_that_is_told_to_stop_gives_nothing(network, state):
    asked = iter([None, 15])
    batches = in_batches(clips(24), 8)
    evaluate = evaluation.program(network, 1.0)
    assert evaluation.validate(evaluate, parallel.replicate(state), batches, lambda: next(asked)) is None
    assert len(list(batches)) == 1  # the last
