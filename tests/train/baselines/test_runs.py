"""Whole runs of MODNet, BackgroundMattingV2 and U²-Net: what they leave, and how they go on.

They compile for a minute each; `make campaign` (RVM_KILLS) runs all three.
"""

import json
import os
from dataclasses import replace

import jax
import numpy as np
import pytest

import rvm_jax
from rvm_jax.baselines import files
from rvm_jax.errors import InputError, Stopped
from tests.data_pipelines import conftest
from tests.train import runs
from tests.train.baselines.stills import MODNET, RECIPES
from tests.train.test_loop import stop_with
from train import loop
from train.baselines import course
from train.recipe.options import Options
from train.run import input_pipeline
from train.run.initial_state import initial_state

prepared = conftest.prepared
TERMS = {
    "modnet": {"semantic", "detail", "matte"},
    "bgmv2": {"alpha", "alpha_gradient", "foreground", "error"},
    "u2net": {"fused", *(f"side{number}" for number in range(1, 7))},
}


def sources_of(recipe, data_dir):
    return course._open(recipe, recipe.stages[0], data_dir)


@pytest.mark.parametrize("name", RECIPES)
def test_batches_are_the_same_for_any_number_of_hosts_and_after_any_restart(name, prepared):
    recipe = RECIPES[name]
    brought = course.prepare(recipe, Options(prepared, prepared))

    def fed(start, **where):
        feed = input_pipeline.feed(recipe, brought.stages, brought.sources, start, **where)
        return {number: [batch for _, batch in passes] for number, passes in feed}

    whole, later = fed(0), fed(1)
    halves = [fed(1, host=host, hosts=2) for host in range(2)]
    assert list(whole) == [*range(sum(stage.iterations for stage in brought.stages))]
    for number, (again,) in later.items():
        (batch,) = whole[number]
        for layer, pixels in batch.items():
            np.testing.assert_array_equal(again[layer], pixels)
            both = np.concatenate([half[number][0][layer] for half in halves])
            np.testing.assert_array_equal(both, pixels)


@pytest.mark.slow
@pytest.mark.longest
@pytest.mark.parametrize("name", RECIPES if int(os.environ.get("RVM_KILLS", "2")) > 2 else ["bgmv2"])
def test_a_run_that_is_stopped_ends_as_if_it_had_not_been(name, prepared, tmp_path, monkeypatch):
    recipe = RECIPES[name]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    loop.train(recipe, runs.options(whole, prepared), course.prepare)
    with monkeypatch.context() as patched:
        stop_with(patched, 15, at=0)
        with pytest.raises(Stopped):
            loop.train(recipe, runs.options(stopped, prepared), course.prepare)
    loop.train(recipe, runs.options(stopped, prepared), course.prepare)
    recorded = runs.recorded(whole)
    assert runs.recorded(stopped) == recorded
    rates = {f"stills/gradient_norm/{group}" for group, rate in recipe.rates(0).items() if rate}
    terms = {f"stills/{term}" for term in ("total", *TERMS[name])}
    assert {column for column in recorded[1] if column.startswith("stills/")} == terms | rates
    assert recorded[-1]["validation/mad"] > 0
    network, variables = files.load(whole / "weights.safetensors")
    for file in ("weights", "weights.ckpt" if recipe.variant == "modnet" else "weights.pth"):
        for out in (whole, stopped):
            other, found = files.load(out / file)
            assert other == network
            jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert rvm_jax.load(whole).name
    _begins_with_them(recipe, whole / "weights", variables)
    recorded = json.loads((whole / "recipe.json").read_text())
    assert recorded["recipe"]["variant"] == recipe.variant


def _begins_with_them(recipe, path, variables):
    network = course.network_of(recipe)
    begun = initial_state(network, 1, course._read_initial(network, path))
    assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), begun.params, variables["params"]))


def test_weights_of_another_network_are_refused(tmp_path):
    network = course.network_of(RECIPES["u2net"]).clone(axis_name=None)
    shapes = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
    files.save(network, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes), tmp_path / "u2netp.safetensors")
    with pytest.raises(InputError) as caught:
        course._read_initial(course.network_of(MODNET), tmp_path / "u2netp.safetensors")
    assert str(caught.value).endswith(
        "u2netp.safetensors holds u2netp: give weights of modnet, which the recipe trains"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backgrounds": ()}, "the recipe names no data, or no backgrounds"),
        ({"backgrounds": ("synthetic/tiny_matting_clips",)}, "synthetic/tiny_matting_clips is a matting dataset: "),
    ],
)
def test_data_of_the_wrong_kind_are_refused(changes, message, prepared):
    with pytest.raises(InputError) as caught:
        sources_of(replace(MODNET, **changes), prepared)
    assert str(caught.value).startswith(message)


def test_what_these_networks_have_no_form_of_is_refused(prepared):
    with pytest.raises(InputError, match="--remat: modnet has no such form"):
        course.prepare(MODNET, Options(prepared, prepared, remat=True))
