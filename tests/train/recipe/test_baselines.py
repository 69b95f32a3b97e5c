"""The recipes of MODNet, BackgroundMattingV2 and U²-Net: what they refuse, and what they are as text."""

import json
from dataclasses import replace

import pytest

from data_pipelines.sampling import windows
from rvm_jax.baselines.names import NETWORKS
from rvm_jax.errors import InputError
from train.recipe import text
from train.recipe.baselines import BACKGROUND_MATTING, MODNET, RECIPES, U2NET, recipe_type
from train.recipe.recipe import Validation, learning_rates
from train.run import identity


@pytest.mark.parametrize("name", RECIPES)
def test_every_group_of_the_network_has_a_rate(name):
    recipe = RECIPES[name]
    assert set(type(recipe).variants) <= set(NETWORKS)
    assert recipe_type(recipe.variant) is type(recipe)
    assert all(learning_rates(recipe, number, 0, 10) for number, _ in enumerate(recipe.stages))


def test_the_refiner_is_trained_where_the_coarse_network_sees_less():
    coarse, *refined = (learning_rates(BACKGROUND_MATTING, number, 0, 10) for number in range(3))
    assert "refiner" not in coarse
    assert [rates["refiner"] for rates in refined] == [3e-4, 3e-4]


@pytest.mark.parametrize("name", RECIPES)
def test_all_sizes_of_steps_are_sizes_that_the_network_takes(name):
    recipe = RECIPES[name]
    sides = {side for stage in recipe.stages for side in windows.sizes(stage.size, recipe.buckets)}
    assert [side for side in sides if side % recipe.multiple] == []


def stage(recipe, **changes):
    return replace(recipe, stages=(replace(recipe.stages[0], **changes), *recipe.stages[1:]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: replace(MODNET, variant="modnetv2"), "--variant modnetv2: expected one of modnet"),
        (lambda: stage(MODNET, size=500), "--stages.1.size 500: expected a multiple of 32"),
        (lambda: replace(MODNET, buckets=3), "--stages.1.size 512: expected a multiple of 384"),
        (lambda: replace(MODNET, unknown=(5, 4)), "--unknown 5 4: expected the least and the most, from 1 on"),
        (lambda: replace(MODNET, validation=Validation(height=270)), "--validation.height 270: expected a multiple "),
        (lambda: replace(U2NET, freeze_norms=True), "--freeze-norms keeps the statistics of weights that were "),
        (lambda: stage(U2NET, iterations=0), "every stage is skipped"),
        (lambda: stage(U2NET, size=32), "--stages.1.size 32: expected 64 or more"),
        (lambda: stage(BACKGROUND_MATTING, downsample_ratio=0.7), "--stages.1.downsample-ratio 0.7: expected 1, or "),
        (
            lambda: stage(BACKGROUND_MATTING, rates=BACKGROUND_MATTING.stages[1].rates),
            "--stages.1.rates.refiner 0.0003: at --stages.1.downsample-ratio 1 the stage trains the coarse network ",
        ),
        (lambda: replace(BACKGROUND_MATTING, sample_pixels=8), "--sample-pixels 8: expected 16 or more"),
        (lambda: replace(MODNET, weight_decay=0.1), "--weight-decay 0.1: sgd has none"),
    ],
)
def test_what_cannot_be_trained_is_refused(change, message):
    with pytest.raises(InputError) as caught:
        change()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", RECIPES)
def test_text(name):
    recipe = RECIPES[name]
    plain = text.to_json(recipe)
    assert json.loads(json.dumps(plain)) == plain
    lines = text.describe(recipe).splitlines()
    assert lines[0].split() == [word for number, _ in enumerate(recipe.stages, 1) for word in ("stage", str(number))]
    assert any(line.split()[:2] == ["variant", recipe.variant] for line in lines)


def identity_of(recipe, iterations=10):
    lengths = {str(number): iterations for number, _ in enumerate(recipe.stages, 1)}
    names = {name for one in recipe.stages for name in one.data} | set(getattr(recipe, "backgrounds", ()))
    return {"recipe": text.to_json(recipe), "iterations": lengths, "data": dict.fromkeys(names, "0123")}


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_goes_on_as_what_it_is(name):
    asked = identity_of(RECIPES[name])
    older = json.loads(json.dumps(asked))
    del older["recipe"]["freeze_norms"]  # of a version that had no such field
    found = identity.resume(older, asked, done=5)
    assert (found.refused, found.changed) == ([], [])


def test_what_has_acted_is_fixed():
    asked = identity_of(replace(MODNET, unknown=(1, 2), backgrounds=("dvm_backgrounds",)))
    found = identity.resume(identity_of(MODNET), asked, done=5)
    assert sorted(line.partition(":")[0] for line in found.refused) == [
        "backgrounds",
        "data.background_images",
        "unknown",
    ]
