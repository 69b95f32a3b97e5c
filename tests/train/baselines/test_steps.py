"""Passes of MODNet, BackgroundMattingV2 and U²-Net, and their validation, without a loop around them."""

from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.baselines.layers import Dropout
from rvm_jax.model.network import MattingNetwork
from tests.train.baselines.stills import RECIPES
from train.baselines import steps
from train.baselines.course import network_of
from train.device import evaluation, parallel, step

TERMS = {
    "modnet": {"semantic", "detail", "matte"},
    "bgmv2": {"alpha", "alpha_gradient", "foreground", "error"},
    "u2net": {"fused", *(f"side{number}" for number in range(1, 7))},
}


def traced_state(network):
    return jax.eval_shape(lambda key: step.joined(step.init(network, key)), jax.random.key(0))


@pytest.mark.parametrize("name", RECIPES)
def test_a_pass_gives_the_terms_of_its_loss_and_a_state_like_the_one_before(name):
    recipe = RECIPES[name]
    network = network_of(recipe).clone(axis_name=None)
    state = traced_state(network)
    batch = {
        layer: jax.ShapeDtypeStruct((2, 1, 64, 64, channels), jnp.uint8)
        for layer, channels in step.layers(network, False).items()
    }
    rates = {group: 1e-3 for group, rate in recipe.rates(0).items() if rate}
    after, told = jax.eval_shape(partial(step.train_pass, network, learning_rates=rates), state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert set(told) == {"total", *TERMS[name], *(f"gradient_norm/{group}" for group in rates)}
    assert set(rates) == set(state.params) - {"refiner"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_validation_clip_is_seen_as_pictures(name):
    network = network_of(RECIPES[name]).clone(axis_name=None)
    layers = step.SEGMENTATION if name == "u2net" else step.MATTING
    batch = {layer: jax.ShapeDtypeStruct((2, 3, 64, 96, c), jnp.uint8) for layer, c in layers.items()}
    variables = jax.eval_shape(lambda key: step.init(network, key).variables, jax.random.key(0))
    found = jax.eval_shape(partial(evaluation.predict, network, downsample_ratio=1.0), variables, batch)
    assert [x.shape[:4] for x in found] == [(2, 3, 64, 96)] * 5
    assert [x.shape[4] for x in found] == [3, 3, 1, 3, 1]


def test_a_network_that_nobody_registered_is_named():
    with pytest.raises(TypeError, match="nothing says how a Dense is trained"):
        step.forward(nn.Dense(3), {}, {}, 1.0)


def test_what_dropout_leaves_out_is_the_same_on_any_number_of_devices():
    x = np.ones((8, 3, 4, 5), np.float32)
    key = jax.random.key(7)
    alone = Dropout(0.5).apply({}, x, rngs={"dropout": key})
    assert {0, 2} == set(np.unique(alone))
    for devices in (2, 8):
        apply = parallel.pmap(lambda x: Dropout(0.5, parallel.AXIS).apply({}, x, rngs={"dropout": key}), (0,))
        if devices == jax.local_device_count():
            together = apply(x.reshape(devices, -1, *x.shape[1:]))
        else:
            shards = jax.vmap(
                lambda x: Dropout(0.5, parallel.AXIS).apply({}, x, rngs={"dropout": key}), axis_name=parallel.AXIS
            )
            together = shards(x.reshape(devices, -1, *x.shape[1:]))
        np.testing.assert_array_equal(np.asarray(together).reshape(x.shape), alone)


def test_the_key_of_a_batch_follows_from_all_of_its_pixels():
    pictures = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3)) / 255

    def key(pictures, devices):
        shards = pictures.reshape(devices, -1, *pictures.shape[1:])
        keys = jax.vmap(lambda x: jax.random.key_data(steps._key(x, "batch")), axis_name="batch")(shards)
        return np.unique(keys, axis=0).tolist()

    assert key(pictures, 1) == key(pictures, 2) == key(pictures, 8)
    other = pictures.copy()
    other[3, 2, 1, 0] = 1 - np.round(other[3, 2, 1, 0])
    assert key(other, 2) != key(pictures, 2)


def test_frozen_norms_keep_their_statistics_and_their_scale_is_trained():
    rng = np.random.default_rng(0)
    layers = {name: rng.integers(0, 256, (2, 1, 32, 32, c), np.uint8) for name, c in step.MATTING.items()}
    network = MattingNetwork("tiny", freeze_norms=True)
    state = step.init(network, jax.random.key(0))
    rates = dict.fromkeys(("encoder", "aspp", "decoder", "project_mat"), 1e-2)
    after, _ = jax.jit(partial(step.train_pass, network, learning_rates=rates))(state, layers)
    jax.tree.map(np.testing.assert_array_equal, after.batch_stats, state.batch_stats)
    moved = jax.tree.leaves_with_path(
        jax.tree.map(lambda x, y: bool((x != y).any()), after.params["encoder"], state.params["encoder"])
    )
    assert all(changed for path, changed in moved if "scale" in jax.tree_util.keystr(path))


@pytest.mark.parametrize("name", RECIPES)
def test_every_norm_of_a_network_can_be_frozen(name):
    """The pass is traced: its norms take nothing of the batch, so no statistic depends on one."""
    network = network_of(replace(RECIPES[name], init="weights", freeze_norms=True)).clone(axis_name=None)
    batch = {
        layer: jax.ShapeDtypeStruct((2, 1, 64, 64, channels), jnp.uint8)
        for layer, channels in step.layers(network, False).items()
    }

    def stats(state, batch):
        return step.forward(network, state.variables, batch, 1.0)[1]["batch_stats"]

    split = jax.eval_shape(lambda key: step.init(network, key), jax.random.key(0))
    text = jax.make_jaxpr(stats)(split, batch)
    begun = {id(variable) for variable in text.jaxpr.invars}
    assert all(id(variable) in begun for variable in text.jaxpr.outvars)
