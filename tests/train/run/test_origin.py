"""What a run tells of its weights, and what a recipe refuses that takes only free data."""

import json
import shutil
from dataclasses import replace

import pytest

from data_pipelines.records import licences
from data_pipelines.records.licences import Licence
from rvm_jax.errors import InputError
from rvm_jax.weights.provenance import Provenance, TrainingSet
from tests.data_pipelines import conftest
from tests.train.runs import RECIPE
from train.recipe.published import RECIPES
from train.recipe.text import to_json
from train.run import input_pipeline, origin, run_folder
from train.run.initial_state import Initial

prepared = conftest.prepared
FREE = Licence("CC0-1.0", "https://example.org/free", "yes", "nobody")
CLIPS = "synthetic/tiny_matting_clips"
CLEAN = replace(RECIPE, unfree="refuse")


@pytest.fixture
def licensed(prepared, tmp_path):
    """Prepared data of a test's own, all of them free."""
    return shutil.copytree(prepared, tmp_path / "data")


def relicense(data, name, licence):
    (folder,) = (data / name).glob("[0-9]*")
    (folder / licences.FILE).unlink()
    if licence is not None:
        licences.write(licence, folder)


def names(recipe, data):
    return input_pipeline.fingerprints(input_pipeline.open_sources(recipe, data))


def test_each_dataset_has_its_licence(licensed):
    found = origin.of_datasets(CLEAN, names(CLEAN, licensed), licensed)
    assert [one["dataset"] for one in found] == sorted(names(CLEAN, licensed))
    assert found[0] == {
        "dataset": "synthetic/tiny_background_clips",
        "version": "1.0.0",
        "licence": "Apache-2.0",
        "link": "https://www.apache.org/licenses/LICENSE-2.0",
        "commercial": "yes",
        "attribution": "rvm-jax, which draws them from a seed",
    }


@pytest.mark.parametrize(
    ("licence", "why"),
    [
        (
            replace(FREE, name="CC-BY-NC-4.0", commercial="no"),
            "is not free (CC-BY-NC-4.0: does not allow commercial use): name another dataset",
        ),
        (
            replace(FREE, name="on request", commercial="unknown"),
            "is not free (on request: does not say that it may be sold): name another dataset",
        ),
        (None, "was prepared before licences were kept: `rvm data prepare` it again, which adds its own"),
    ],
)
def test_what_is_not_free_is_refused_in_a_line_unless_it_is_allowed(licence, why, licensed):
    relicense(licensed, CLIPS, licence)
    with pytest.raises(InputError) as refused:
        origin.of_datasets(CLEAN, names(CLEAN, licensed), licensed)
    assert str(refused.value) == (f"{CLIPS} {why}, or give --unfree allow, which the weights will tell")
    allowed = origin.of_datasets(RECIPE, names(RECIPE, licensed), licensed)
    told = origin.of_new_run(RECIPE, allowed, None)
    assert told.unfree_allowed
    assert told.unfree == [CLIPS]


def test_a_run_on_free_data_says_so_and_is_kept(licensed, tmp_path):
    found = origin.of_datasets(CLEAN, names(CLEAN, licensed), licensed)
    told = origin.of_new_run(CLEAN, found, None)
    assert (told.initial, told.unfree_allowed, told.unfree) == ("random weights", False, [])
    origin.write(told, tmp_path)
    assert origin.read(tmp_path) == told
    # It goes on with other data and another start: what it has seen stays, and the start was another.
    later = origin.of_resumed_run(replace(CLEAN, init="other.pth"), found[:1], tmp_path)
    assert later == told
    origin.write(replace(told, unfree_allowed=True), tmp_path)  # once allowed, always told
    assert origin.of_resumed_run(CLEAN, found, tmp_path).unfree_allowed


@pytest.mark.parametrize(("began", "told"), [("gone.pth", ("gone.pth", True)), (None, ("random weights", False))])
def test_a_run_of_an_earlier_version_goes_on_without_what_it_began_with(began, told, tmp_path):
    identity = {"recipe": to_json(replace(RECIPE, init=began)), "iterations": {}, "data": {}}
    (tmp_path / run_folder.IDENTITY).write_text(json.dumps(identity))
    for now in (None, tmp_path / "gone.pth"):  # which is not read, whatever it is
        later = origin.of_resumed_run(replace(RECIPE, init=now), [], tmp_path)
        assert (later.initial, later.unfree_allowed) == told


def test_what_it_starts_from_has_to_be_free_too():
    begun = TrainingSet("old", "1.0.0", "CC0-1.0", "", "yes", "")
    free = Provenance((begun,), "clean", "random weights")
    unfree = Provenance((replace(begun, commercial="no"),), "mobilenetv3", "random weights")
    allowed = Provenance((begun,), "mobilenetv3", "mobilenet_v3_large.pth", unfree_allowed=True)
    init = "starts/some.pth"
    told = origin.of_new_run(replace(CLEAN, init=init), [], Initial({}, free))
    assert (told.initial, told.data, told.unfree_allowed) == ("some.pth", (begun,), False)
    for initial, why in (
        (Initial({}, unfree), "which was trained on data that is not free"),
        (Initial({}, allowed), "which was trained on data that is not free"),
        (Initial({}, None), "which says not what it was trained on"),
    ):
        with pytest.raises(InputError, match=f"^--init {init}, {why}: begin without, or with weights of `rvm train"):
            origin.of_new_run(replace(CLEAN, init=init), [], initial)
        assert origin.of_new_run(replace(RECIPE, init=init), [], initial).unfree_allowed


def test_a_recipe_is_told_by_what_is_otherwise():
    clean = RECIPES["clean"]
    assert origin.name(clean) == "clean"
    assert origin.name(replace(clean, batch=64, seed=3, init="x", scaling="sqrt")) == "clean"
    shorter = (replace(clean.stages[0], samples=10), *clean.stages[1:])
    assert origin.name(replace(clean, variant="resnet50", stages=shorter)) == (
        "clean, --variant resnet50, --stages.1.samples 10"
    )
    assert origin.name(RECIPE).startswith("demo, with ")


def test_the_clean_recipe_takes_free_data_alone():
    assert RECIPES["clean"].unfree == "refuse"
    assert {name for name, one in RECIPES.items() if one.unfree == "refuse"} == {"clean"}
