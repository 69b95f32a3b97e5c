"""The optimizer against optax's own formulas, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.device import optimizer
from train.device.joined import join, split
from train.device.optimizer import Update

RATES = {"a": 0.1, "b": 0.01}
DECAY = 0.3


def draw(rng):
    return {group: {"kernel": rng.normal(size=(3, n)), "bias": rng.normal(size=n)} for group, n in (("a", 2), ("b", 5))}


def kernels(tree):
    return {name: name == "kernel" for name in tree}


def of_optax(kind, rate):
    """AdamW, or LAMB for kernels, which alone are decayed and adapted."""
    if kind == "sgd":
        return optax.sgd(rate, momentum=0.9)
    if kind == "adamw":
        return optax.adamw(rate, weight_decay=DECAY, mask=kernels)
    rules = {True: optax.lamb(rate, weight_decay=DECAY), False: optax.adam(rate, eps=1e-6)}
    return optax.multi_transform(rules, kernels)


@pytest.mark.parametrize("joins", [False, True])
@pytest.mark.parametrize("kind", ["adamw", "lamb", "sgd"])
def test_an_optimizer_is_that_of_optax_for_each_group(kind, joins):
    """Three steps, with a group left out of the second."""
    rng, decay = np.random.default_rng(0), 0.0 if kind == "sgd" else DECAY
    expected = jax.tree.map(jnp.asarray, draw(rng))
    params = {group: join(tree) if joins else tree for group, tree in expected.items()}
    moments = optimizer.init(params)
    rules = {group: of_optax(kind, rate) for group, rate in RATES.items()}
    states = {group: rules[group].init(expected[group]) for group in rules}
    for groups in ("ab", "a", "ab"):
        gradients = {group: tree for group, tree in jax.tree.map(jnp.asarray, draw(rng)).items() if group in groups}
        of_params = {group: join(tree) if joins else tree for group, tree in gradients.items()}
        params, moments = optimizer.update(params, moments, of_params, RATES, Update(kind, decay))
        expected = dict(expected)
        for group in groups:
            with jax.numpy_dtype_promotion("standard"):
                steps, states[group] = rules[group].update(gradients[group], states[group], expected[group])
            expected[group] = optax.apply_updates(expected[group], steps)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12), split(params), expected)
    assert {group: int(one.count) for group, one in moments.items()} == {"a": 3, "b": 2}


@pytest.mark.parametrize("most", [0.5, 100.0])
def test_gradients_are_clipped_by_the_norm_of_all_groups(most):
    gradients = draw(np.random.default_rng(1))
    norm = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(gradients)))
    clipped, told = optimizer.clip(gradients, most)
    np.testing.assert_allclose(told, norm, rtol=1e-12)
    assert 0.5 < norm < 100
    for one, before in zip(jax.tree.leaves(clipped), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(one, before * min(1, most / norm), rtol=1e-12)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_average_is_that_of_optax(decay):
    """Without a bias to the weights that it began with. What stays the same is exactly its own average."""
    rng = np.random.default_rng(2)
    frozen = {"scale": jnp.asarray(rng.normal(size=7).astype(np.float32))}
    average = optimizer.begin_average(draw(rng), frozen)
    rule = optax.ema(decay, debias=True, accumulator_dtype=np.float64)
    state = rule.init(average.params)
    for _ in range(20):
        params = jax.tree.map(jnp.asarray, draw(rng))
        average = optimizer.update_average(average, params, frozen, decay)
        with jax.numpy_dtype_promotion("standard"):
            expected, state = rule.update(params, state)
    assert average.steps == 20
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-11), average.params, expected)
    np.testing.assert_array_equal(average.batch_stats["scale"], frozen["scale"])
