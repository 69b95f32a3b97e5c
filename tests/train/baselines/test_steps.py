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
from train.device import evaluation, step


@pytest.mark.parametrize("name", ["modnet", "bgmv2"])
def test_a_validation_clip_is_seen_as_pictures(name):
    network = network_of(RECIPES[name]).clone(axis_name=None)
    batch = {layer: jax.ShapeDtypeStruct((2, 3, 64, 96, c), jnp.uint8) for layer, c in step.MATTING.items()}
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
        apply = jax.vmap(lambda x: Dropout(0.5, "batch").apply({}, x, rngs={"dropout": key}), axis_name="batch")
        np.testing.assert_array_equal(apply(x.reshape(devices, -1, *x.shape[1:])).reshape(x.shape), alone)


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


NETWORKS = {name: network_of(replace(recipe, init="weights", freeze_norms=True)) for name, recipe in RECIPES.items()}
NETWORKS["rvm"] = MattingNetwork("tiny", freeze_norms=True)


@pytest.mark.parametrize("name", ["modnet", "bgmv2", "rvm", pytest.param("u2net", marks=pytest.mark.slow)])
def test_frozen_norms_keep_their_statistics(name):
    """The pass is traced: what becomes of the statistics is what was given, and nothing that was computed."""
    network = NETWORKS[name].clone(axis_name=None)
    state = jax.eval_shape(lambda key: step.init(network, key), jax.random.key(0))
    layers = step.layers(network, False).items()
    batch = {layer: jax.ShapeDtypeStruct((2, 1, 64, 64, channels), jnp.uint8) for layer, channels in layers}

    def statistics(state, batch):
        return step.forward(network, state.variables, batch, 1.0)[1]["batch_stats"]

    traced = jax.make_jaxpr(statistics)(state, batch).jaxpr
    assert len(traced.outvars) > 30
    assert {id(variable) for variable in traced.outvars} <= {id(variable) for variable in traced.invars}
