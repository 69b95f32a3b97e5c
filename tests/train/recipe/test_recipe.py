"""Recipes: the published values, what is refused, and what is written down about them."""

import dataclasses
import json

import numpy as np
import optax
import pytest

from data_pipelines.builders import catalog
from rvm_jax.errors import InputError
from train.device import optimizer
from train.recipe import recipe, text
from train.recipe.published import DEMO, MOBILENETV3, RECIPES, RESNET50
from train.recipe.recipe import Rates, Recipe, Stage, Validation


def changed(stage: int = 1, rates: dict[str, float] | None = None, **fields) -> Recipe:
    """The published recipe with another value in a stage, which is counted from 1."""
    stages = list(MOBILENETV3.stages)
    old = stages[stage - 1]
    stages[stage - 1] = dataclasses.replace(old, rates=dataclasses.replace(old.rates, **(rates or {})), **fields)
    return dataclasses.replace(MOBILENETV3, stages=tuple(stages))


@pytest.mark.parametrize("published", [MOBILENETV3, RESNET50], ids=["mobilenetv3", "resnet50"])
def test_the_published_recipe(published):
    table = {
        "matting": ["video_matte_240k/sd", "video_matte_240k/sd", "video_matte_240k/hd", "image_matte"],
        "epochs": [20, 2, 1, 5],
        "frames": [15, 50, 40, 40],
        "size": [512, 512, 512, 512],
        "high_frames": [0, 0, 6, 6],
    }
    rates = {
        "encoder": [1e-4, 5e-5, 1e-5, 1e-5],
        "aspp": [2e-4, 1e-4, 1e-5, 1e-5],
        "decoder": [2e-4, 1e-4, 1e-5, 5e-5],
        "project_mat": [2e-4, 1e-4, 1e-5, 5e-5],
        "project_seg": [2e-4, 1e-4, 1e-5, 5e-5],
        "refiner": [0, 0, 2e-4, 2e-4],
    }
    table["matting"] = [(name,) for name in table["matting"]]
    for field, values in table.items():
        assert [getattr(stage, field) for stage in published.stages] == values, field
    for group, values in rates.items():
        assert [getattr(stage.rates, group) for stage in published.stages] == values, group
    for stage in published.stages[2:]:
        assert (stage.high_size, stage.downsample_ratio) == (2048, 0.25)
    assert published.backgrounds == ("dvm_backgrounds", "background_images")
    assert published.segmentation_clips == ("youtube_vis_2021",)
    assert published.segmentation_stills == ("coco_person", "supervisely_person")
    assert (published.segmentation_size, published.clips, published.scaling) == (512, 4, "auto")
    assert (published.warmup, published.precision) == (0, "bfloat16")
    assert (published.optimizer, published.weight_decay, published.schedule) == ("adam", 0, "constant")
    assert (published.batch, published.clip_norm, published.ema) == (None, None, None)


def test_recipes_train_the_networks_of_their_names_on_datasets_that_there_are():
    assert {name: one.still_motion for name, one in RECIPES.items() if one.still_motion} == {"clean": 0.95}
    assert {name: one.variant for name, one in RECIPES.items()} == {
        "mobilenetv3": "mobilenetv3",
        "resnet50": "resnet50",
        "clean": "mobilenetv3",
        "demo": "tiny",
    }
    for one in RECIPES.values():
        datasets = [*one.backgrounds, *one.segmentation_clips, *one.segmentation_stills]
        datasets += [name for stage in one.stages for name in (*stage.matting, *stage.backgrounds)]
        assert set(datasets) <= {*catalog.DATASETS, *catalog.SYNTHETIC}
        assert len(one.stages) == 4
        assert [bool(stage.high_frames) for stage in one.stages] == [False, False, True, True]


def test_rates_are_those_of_the_groups_of_the_optimizer():
    assert tuple(field.name for field in dataclasses.fields(Rates)) == optimizer.GROUPS


@pytest.mark.parametrize(
    ("scaling", "batch", "factor"),
    [
        ("none", 64, 1),
        ("auto", 64, 1),
        ("linear", 64, 16),
        ("sqrt", 64, 4),
        ("linear", 4, 1),
        ("sqrt", 1, 0.5),
        ("linear", 2, 0.5),
    ],
)
def test_learning_rates_grow_with_the_batch(scaling, batch, factor):
    scaled = dataclasses.replace(MOBILENETV3, scaling=scaling, batch=batch)
    rates = recipe.learning_rates(scaled, 3, 0, 1000)
    assert rates == {
        "encoder": 1e-5 * factor,
        "aspp": 1e-5 * factor,
        "decoder": 5e-5 * factor,
        "project_mat": 5e-5 * factor,
        "project_seg": 5e-5 * factor,
        "refiner": 2e-4 * factor,
    }


@pytest.mark.parametrize(
    ("warmup", "iteration", "share"),
    [(0, 0, 1), (1, 0, 1), (4, 0, 0.25), (4, 1, 0.5), (4, 3, 1), (4, 4, 1), (4, 10**6, 1)],
)
def test_learning_rates_rise_at_the_beginning_of_each_stage(warmup, iteration, share):
    warming = dataclasses.replace(MOBILENETV3, warmup=warmup)
    assert recipe.learning_rates(warming, 0, iteration, 10**7)["encoder"] == 1e-4 * share
    assert recipe.learning_rates(warming, 1, iteration, 10**7)["encoder"] == 5e-5 * share


@pytest.mark.parametrize("warmup", [0, 4])
def test_learning_rates_fall_in_a_cosine_to_the_end_of_each_stage(warmup):
    falling = dataclasses.replace(MOBILENETV3, warmup=warmup, schedule="cosine")
    rates = [recipe.learning_rates(falling, 1, iteration, 20)["encoder"] for iteration in range(20)]
    expected = optax.cosine_decay_schedule(5e-5, 20 - warmup)(np.arange(20.0 - warmup))
    np.testing.assert_allclose(rates[warmup:], expected, rtol=1e-12)
    np.testing.assert_allclose(rates[:warmup], np.arange(1, warmup + 1) / 4 * 5e-5, rtol=1e-12)
    assert rates[-1] > 0


def test_frozen_groups_have_no_learning_rate():
    assert list(recipe.learning_rates(MOBILENETV3, 0, 0, 9)) == list(optimizer.GROUPS[:-1])
    frozen = changed(1, {"encoder": 0, "aspp": 0})
    assert list(recipe.learning_rates(frozen, 0, 0, 9)) == ["decoder", "project_mat", "project_seg"]
    without_weights = dataclasses.replace(MOBILENETV3, refiner="fast_guided_filter")
    assert list(recipe.learning_rates(without_weights, 2, 0, 9)) == list(optimizer.GROUPS[:-1])


def test_a_stage_without_epochs_or_iterations_is_skipped():
    stage = MOBILENETV3.stages[0]
    cases = {
        (20, None, None): False,
        (0, None, None): True,
        (0, None, 5): False,
        (20, None, 0): True,
        (0, 7, None): False,
        (20, 0, None): True,
        (20, 7, 0): True,
    }
    for (epochs, samples, iterations), skipped in cases.items():
        changed = dataclasses.replace(stage, epochs=epochs, samples=samples, iterations=iterations)
        assert changed.skipped == skipped


@pytest.mark.parametrize("warmup", [0, 50])
def test_a_warmup_of_half_of_the_shortest_stage_is_taken(warmup):
    recipe.check_warmup(warmup, {"1": 1000, "2": 101, "3": 100, "4": 0})


def test_a_warmup_of_more_is_refused_with_the_largest_that_works():
    with pytest.raises(InputError, match=r"--warmup 51: stage 3 has 100 iterations, .* give 50 or less"):
        recipe.check_warmup(51, {"1": 1000, "2": 101, "3": 100, "4": 0})
    with pytest.raises(InputError) as caught:
        recipe.check_warmup(1000, {"1": 15000, "2": 314, "3": 195, "4": 0})
    assert str(caught.value) == (
        "--warmup 1000: stage 3 has 195 iterations, and a warm-up takes half of a stage at most: give 97 or less"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "vgg"}, "--variant vgg: expected one of mobilenetv3, resnet50, tiny"),
        ({"refiner": "none"}, "--refiner none: expected one of deep_guided_filter, fast_guided_filter"),
        ({"scaling": "log"}, "--scaling log: expected one of auto, none, linear, sqrt"),
        ({"precision": "float16"}, "--precision float16: expected one of float32, bfloat16"),
        ({"schedule": "step"}, "--schedule step: expected one of constant, cosine"),
        ({"optimizer": "lion"}, "--optimizer lion: expected one of adam, adamw, lamb, sgd"),
        ({"freeze_norms": True}, "--freeze-norms keeps the statistics of weights that were trained: give them by "),
        ({"optimizer": "adamw"}, "--optimizer adamw is adam without --weight-decay: give that too, such as 0.01"),
        ({"weight_decay": 0.1}, "--weight-decay 0.1: adam has none; give --optimizer adamw or lamb"),
        ({"weight_decay": -0.1, "optimizer": "lamb"}, "--weight-decay -0.1: expected 0 or more"),
        ({"clip_norm": 0.0}, "--clip-norm 0.0: expected more than 0"),
        ({"ema": 1.0}, "--ema 1.0: expected a decay between 0 and 1, such as 0.999"),
        ({"warmup": -1}, "--warmup -1: expected 0 or more"),
        ({"seed": -1}, "--seed -1: expected 0 or more"),
        ({"seed": 2**32}, "--seed 4294967296: expected less than 4294967296"),
        ({"batch": 0}, "--batch 0: expected 1 or more"),
        ({"buckets": 0}, "--buckets 0: expected 1 or more"),
        ({"segmentation_size": 31}, "--segmentation-size 31: expected 32 or more"),
        ({"validation": Validation(clips=0)}, "--validation.clips 0: expected 1 or more"),
        ({"validation": Validation(frames=0)}, "--validation.frames 0: expected 1 or more"),
        ({"validation": Validation(height=8)}, "--validation.height 8: expected 16 or more"),
        ({"validation": Validation(width=8)}, "--validation.width 8: expected 16 or more"),
        (
            {"stages": (dataclasses.replace(MOBILENETV3.stages[0], epochs=0),) * 4},
            "every stage is skipped: give one of them --stages.N.epochs 1 or more",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(fields, message):
    with pytest.raises(InputError) as caught:
        dataclasses.replace(MOBILENETV3, **fields)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("stage", "fields", "message"),
    [
        (1, {"rates": {"project_mat": -1e-4}}, "--stages.1.rates.project-mat -0.0001: expected 0 or more"),
        (2, {"rates": {"aspp": float("nan")}}, "--stages.2.rates.aspp nan: expected 0 or more"),
        (3, {"rates": {"aspp": float("inf")}}, "--stages.3.rates.aspp inf: expected 0 or more"),
        (1, {"epochs": -1}, "--stages.1.epochs -1: expected 0 or more"),
        (1, {"samples": -1}, "--stages.1.samples -1: expected 0 or more"),
        (1, {"iterations": -1}, "--stages.1.iterations -1: expected 0 or more"),
        (4, {"frames": 0}, "--stages.4.frames 0: expected 1 or more"),
        (4, {"high_frames": -1}, "--stages.4.high-frames -1: expected 0 or more"),
        (1, {"size": 63}, "--stages.1.size 63: expected 64 or more"),
        (3, {"high_size": 63}, "--stages.3.high-size 63: expected 64 or more"),
        (3, {"high_size": 120}, "--stages.3.high-size 120 times --stages.3.downsample-ratio 0.25 is what the network "),
        (3, {"downsample_ratio": 0.0}, "--stages.3.downsample-ratio 0.0: expected more than 0, up to 1"),
        (3, {"downsample_ratio": 1.5}, "--stages.3.downsample-ratio 1.5: expected more than 0, up to 1"),
        (1, {"rates": {"refiner": 1e-4}}, "--stages.1.rates.refiner 0.0001: the stage has no pass that trains the "),
        (3, {"downsample_ratio": 1.0}, "--stages.3.rates.refiner 0.0002: the stage has no pass that trains the "),
        (2, {"rates": dict.fromkeys(optimizer.GROUPS, 0)}, "--stages.2.rates are all 0, which trains nothing: skip "),
    ],
)
def test_stages_that_cannot_be_trained_are_refused(stage, fields, message):
    with pytest.raises(InputError) as caught:
        changed(stage, **fields)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_stages_at_the_limits_are_taken():
    changed(3, {"refiner": 0}, downsample_ratio=1.0)
    changed(3, high_size=128)
    changed(1, size=64)
    changed(4, {"refiner": 0}, high_frames=0, high_size=1)
    changed(2, dict.fromkeys(optimizer.GROUPS, 0), epochs=0)


@pytest.mark.parametrize("name", RECIPES)
def test_json(name, tmp_path):
    asked = dataclasses.replace(RECIPES[name], init=tmp_path / "start", warmup=7)
    plain = text.to_json(asked)
    assert json.loads(json.dumps(plain)) == plain
    assert [plain["stages"][number]["epochs"] for number in "1234"] == [stage.epochs for stage in asked.stages]
    assert (plain["init"], plain["warmup"]) == (str(tmp_path / "start"), 7)


def test_description():
    shown = dataclasses.replace(DEMO, scaling="linear", batch=8, warmup=3)
    stages = list(DEMO.stages)
    stages[0] = dataclasses.replace(stages[0], rates=Rates(1e-4, 2e-4, 3e-4, 4e-4, 0), matting=("a", "b"))
    stages[0] = dataclasses.replace(stages[0], samples=800)
    stages[1] = dataclasses.replace(stages[1], samples=800, iterations=7)
    stages[2] = dataclasses.replace(stages[2], epochs=0)
    stages[3] = Stage(
        ("c",),
        epochs=3,
        frames=5,
        rates=DEMO.stages[3].rates,
        size=64,
        high_frames=2,
        high_size=96,
        downsample_ratio=0.5,
    )
    lines = text.describe(dataclasses.replace(shown, stages=tuple(stages))).splitlines()
    rows = {line[:19].strip(): line[19:].strip().split("   ") for line in lines if line}
    cells = {name: [cell.strip() for cell in row if cell.strip()] for name, row in rows.items()}
    assert cells[""] == ["stage 1", "stage 2", "stage 3", "stage 4"]
    assert cells["matting data"] == ["a, b", "synthetic/matting_clips", "synthetic/matting_clips", "c"]
    assert cells["epochs"] == ["800 samples", "7 iterations", "skipped", "3"]
    assert cells["low resolution"][3] == "5 × 64²"
    assert (cells["high resolution"][0], cells["high resolution"][3]) == ("–", "2 × 96², seen at 0.5")
    assert cells["rate of aspp"][0] == "0.0004"
    assert cells["rate of project_seg"][0] == "0"
    assert cells["segmentation stills"] == ["synthetic/segmentation_images"]
    assert cells["warmup"] == ["3"]
    assert cells["init"] == ["–"]


def test_defaults_are_those_of_the_fields_of_all_stages():
    found = text.defaults("1234")
    assert (found["buckets"], found["init"], found["validation"]["clips"]) == (4, None, Validation().clips)
    assert found["stages"].keys() == set("1234")
    assert found["stages"]["2"]["rates"] == {"refiner": 0.0}
    assert (found["stages"]["4"]["high_size"], found["stages"]["4"]["iterations"]) == (2048, None)
    assert "variant" not in found
    assert "epochs" not in found["stages"]["1"]
