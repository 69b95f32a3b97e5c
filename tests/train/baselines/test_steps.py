"""Passes of MODNet, BackgroundMattingV2 and U²-Net, and their validation, without a loop around them."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.baselines import losses
from rvm_jax.baselines.background_matting import MattingBase, MattingRefine
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


def drawn(layers):
    """uint8 `[2, 1, 8, 12, C]` of each layer, no picture with a 255, and the second darker than the first."""
    rng, most = np.random.default_rng(0), np.array([200, 90])[:, None, None, None, None]
    return {layer: rng.integers(0, most, (2, 1, 8, 12, channels), np.uint8) for layer, channels in layers.items()}


def watched(monkeypatch, kind):
    """What a network of that kind is given from now on: itself, and its images."""
    seen = []

    def call(self, *images, **_):
        seen[:] = self, *images
        return SimpleNamespace(alpha=images[0][..., :1], foreground=images[0])

    monkeypatch.setattr(kind, "__call__", call)
    return seen


@pytest.mark.parametrize("validation", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_a_network_sees_pictures_as_its_own_code_shows_them(name, validation, monkeypatch):
    network = network_of(RECIPES[name]).clone(axis_name=None)
    seen = watched(monkeypatch, type(network))
    for loss in ("modnet_loss", "matting_refine_loss", "u2net_loss"):
        monkeypatch.setattr(losses, loss, lambda *_: {})
    layers = step.MATTING if validation and name != "u2net" else step.layers(network, False)
    batch = drawn(layers)
    (evaluation.predict if validation else step.forward)(network, {}, batch, 0.25)
    of = {layer: pictures[:, 0].astype(np.float32) / 255 for layer, pictures in batch.items()}
    if "background" in of:
        of["source"] = of["foreground"] * of["alpha"] + of["background"] * (1 - of["alpha"])
    if name == "u2net":
        bright = of["image"] / of["image"].max((1, 2, 3), keepdims=True)
        expected = [(bright - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])]
    elif name == "modnet":
        expected = [2 * of["source"] - 1]
    else:
        expected = [of["source"], of["background" if validation else "plate"]]
    for given, wanted in zip(seen[1:], expected, strict=True):
        np.testing.assert_allclose(given, wanted, atol=1e-5)


def test_modnet_is_told_where_the_trimap_knows(monkeypatch):
    network = network_of(RECIPES["modnet"]).clone(axis_name=None)
    watched(monkeypatch, type(network))
    given = []
    monkeypatch.setattr(losses, "modnet_loss", lambda *truth: given.extend(truth))
    batch = drawn(step.layers(network, False))
    batch["trimap"][:] = np.arange(12)[:, None] % 3 * 255 // 2
    step.forward(network, {}, batch, 1.0)
    _, images, alpha, trimap = given
    assert images.shape == (2, 8, 12, 3)
    np.testing.assert_allclose(alpha, batch["alpha"][:, 0] / 255, atol=1e-6)
    assert trimap[1, 5, :6, 0].tolist() == [0, 0.5, 1, 0, 0.5, 1]


@pytest.mark.parametrize(("ratio", "kind", "loss"), [(1, MattingBase, "base"), (0.5, MattingRefine, "refine")])
def test_background_matting_has_the_loss_of_what_is_trained(ratio, kind, loss, monkeypatch):
    network = network_of(replace(RECIPES["bgmv2"], init="weights", freeze_norms=True)).clone(axis_name=None)
    seen = watched(monkeypatch, kind)
    monkeypatch.setattr(losses, f"matting_{loss}_loss", lambda output, foreground, alpha: (foreground, alpha))
    batch = drawn(step.layers(network, False))
    (foreground, alpha), _ = step.forward(network, {}, batch, ratio)
    np.testing.assert_allclose(foreground, batch["foreground"][:, 0] / 255, atol=1e-6)
    np.testing.assert_allclose(alpha, batch["alpha"][:, 0] / 255, atol=1e-6)
    assert (seen[0].backbone, seen[0].freeze_norms, getattr(seen[0], "scale", 1)) == ("mobilenetv2", True, ratio)


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


@pytest.mark.parametrize(
    ("name", "ratio"),
    [("modnet", 1.0), ("bgmv2", 1.0), ("bgmv2", 0.5), ("rvm", 1.0), pytest.param("u2net", 1.0, marks=pytest.mark.slow)],
)
def test_frozen_norms_keep_their_statistics(name, ratio):
    """The pass is traced: what becomes of the statistics is what was given, and nothing that was computed."""
    network = NETWORKS[name].clone(axis_name=None)
    state = jax.eval_shape(lambda key: step.init(network, key), jax.random.key(0))
    layers = step.layers(network, False).items()
    batch = {layer: jax.ShapeDtypeStruct((2, 1, 64, 64, channels), jnp.uint8) for layer, channels in layers}

    def statistics(state, batch):
        return step.forward(network, state.variables, batch, ratio)[1]["batch_stats"]

    traced = jax.make_jaxpr(statistics)(state, batch).jaxpr
    assert len(traced.outvars) > 30
    assert {id(variable) for variable in traced.outvars} <= {id(variable) for variable in traced.invars}
