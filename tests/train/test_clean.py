"""`rvm train clean` on miniatures of its archives: prepared, checked, trained to weights; and what it refuses."""

import json
import re
from dataclasses import replace

import pytest

import rvm_jax
from data_pipelines.records import licences
from data_pipelines.tools import prepare
from rvm_jax.errors import InputError
from rvm_jax.weights.files import read_weights
from tests.data_pipelines import conftest, fake_free_archives
from tests.train import runs
from train import loop
from train.check import check, figures, overfit
from train.check.options import CheckOptions
from train.recipe.published import RECIPES
from train.run import origin

prepared = conftest.prepared
pytestmark = pytest.mark.longest
STILLS = ("synthetic/tiny_segmentation_images",)


def miniature(recipe):
    """The recipe on small squares and few frames, with the tiny network; stills of COCO are made in another test."""
    stages = tuple(
        replace(small, matting=one.matting, backgrounds=one.backgrounds, rates=one.rates)
        for one, small in zip(recipe.stages, runs.RECIPE.stages, strict=True)
    )
    small = runs.RECIPE
    return replace(
        recipe,
        variant="tiny",
        stages=stages,
        segmentation_clips=STILLS,
        segmentation_stills=STILLS,
        segmentation_size=small.segmentation_size,
        batch=small.batch,
        buckets=small.buckets,
        precision="float32",
        validation=small.validation,
    )


@pytest.fixture
def free(prepared, tmp_path):
    """A data folder with what the clean recipe names, in miniature."""
    manual, data = tmp_path / "manual", tmp_path / "data"
    fake_free_archives.synthhuman(manual, 0, 4)
    fake_free_archives.pass_tar(manual, 0, 4)
    fake_free_archives.p3m(manual)
    fake_free_archives.bg_20k(manual)
    for name in ("synthhuman/0", "pass_backgrounds/0", "p3m_10k", "bg_20k"):
        prepare.prepare(name, manual, data)
    for name, part in (("synthhuman", "0"), ("pass_backgrounds", "0")):  # as if that part were all of it
        (data / name / "1.0.0").symlink_to(data / name / part / "1.0.0")
    (data / "synthetic").symlink_to(prepared / "synthetic")
    return data


@pytest.mark.slow
def test_the_clean_recipe_from_archives_to_weights(free, tmp_path, monkeypatch, capsys):
    """One test, since the check and the run compile the same programs."""
    recipe, out = miniature(RECIPES["clean"]), tmp_path / "run"
    monkeypatch.setattr(figures, "compute", lambda variant: (figures.read(figures.STORED)["cpu"][variant], 0.0))
    monkeypatch.setattr(overfit, "STEPS", 20)
    assert check.check(recipe, runs.options(out, free), CheckOptions())
    assert_go(capsys.readouterr().out)
    assert not out.exists()

    loop.train(recipe, runs.options(out, free))
    stages = [line["stage"] for line in runs.recorded(out) if "stage" in line]
    assert stages == [1, 1, 1, 2, 3, 3, 4, 4]
    kept = json.loads((out / "recipe.json").read_text())
    assert {one["dataset"] for one in kept["licences"]} == {
        *("synthhuman", "p3m_10k", "pass_backgrounds", "bg_20k"),
        *STILLS,
    }
    for path in (out / "weights", out / "weights.pth", out, out / "checkpoints" / str(runs.ITERATIONS)):
        told = read_weights(path).provenance
        assert told == origin.read(out), path
        assert (told.initial, told.unfree_allowed, told.unfree) == ("random weights", False, [])
        assert told.recipe.startswith("clean, with ")
    assert rvm_jax.load(out).network.variant == "tiny"


def assert_go(shown):
    """What the check prints of sound data."""
    lines = shown.splitlines()
    assert lines[0] == "fine:  all 5 datasets allow commercial use; it begins from random weights"
    assert lines[-1] == "go"
    assert not any(line.startswith("fault") for line in lines)
    loss = re.search(r"one batch of matting of 8 × 2 × 48x48: loss ([\d.]+), and ([\d.]+) after 20 steps", shown)
    assert float(loss[2]) < 0.5 * float(loss[1])
    assert re.search(r"stage 1: up to \d\.\d\d GB of each device", shown)
    for stage, iterations in enumerate((3, 1, 2, 2), 1):
        assert re.search(rf"stage {stage}: {iterations} iterations of [\d.e-]+ s on the devices, whose data", shown)


def test_a_run_on_unfree_data_does_not_begin(prepared, tmp_path):
    data = tmp_path / "data"
    (data / "synthetic").mkdir(parents=True)
    for folder in (prepared / "synthetic").glob("tiny_*"):
        (data / "synthetic" / folder.name).symlink_to(folder)
    copied = data / "synthetic" / "tiny_background_clips"
    copied.unlink()
    (copied / "1.0.0").mkdir(parents=True)
    (before,) = (prepared / "synthetic" / "tiny_background_clips").glob("[0-9]*")
    for path in before.iterdir():
        (copied / "1.0.0" / path.name).symlink_to(path)
    (copied / "1.0.0" / licences.FILE).unlink()
    out = tmp_path / "run"
    with pytest.raises(
        InputError, match=r"^synthetic/tiny_background_clips was prepared before licences were kept: .* --unfree allow,"
    ):
        loop.train(replace(runs.RECIPE, unfree="refuse"), runs.options(out, data))
    assert not out.exists()
