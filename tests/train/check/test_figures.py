"""First iterations: the batches they are computed on, and how they are compared and stored."""

import json

import jax
import numpy as np
import pytest

from rvm_jax.errors import InputError
from rvm_jax.model.variants import VARIANTS
from train.check import figures
from train.recipe.published import RECIPES

WANTED = {"low": [2.0, 1.5], "segmentation": [0.7, 0.6]}


def test_figures_of_this_version_are_of_all_networks_that_are_trained():
    stored = figures.read(figures.STORED)["cpu"]
    assert {one.variant for one in RECIPES.values()} <= set(stored) == set(VARIANTS)
    for variant, losses in stored.items():
        assert set(losses) == set(figures.PASSES), variant
        assert {len(values) for values in losses.values()} == {figures.ITERATIONS}


def test_batches_are_whole_numbers_with_people_in_them():
    low = figures.batch(figures.PASSES["low"], 0)
    assert {name: (one.shape, one.dtype) for name, one in low.items()} == {
        "foreground": ((2, 3, 96, 128, 3), np.uint8),
        "alpha": ((2, 3, 96, 128, 1), np.uint8),
        "background": ((2, 3, 96, 128, 3), np.uint8),
    }
    assert 0.15 < (low["alpha"] == 255).mean() < 0.6
    assert 0.01 < ((low["alpha"] > 0) & (low["alpha"] < 255)).mean() < 0.2
    assert (low["alpha"][:, 0] != low["alpha"][:, 1]).any()
    mask = figures.batch(figures.PASSES["segmentation"], 1)["mask"]
    assert set(np.unique(mask)) == {0, 1}


def test_what_is_computed_otherwise_is_told():
    assert figures.compare(WANTED, WANTED, "tiny on a cpu").what == "fine"
    near = {**WANTED, "low": [2.0, 1.5 * (1 + figures.TOLERANCE / 2)]}
    assert figures.compare(near, WANTED, "tiny on a cpu").what == "fine"
    found = figures.compare({**WANTED, "segmentation": [0.7, 0.61]}, WANTED, "tiny on a cpu")
    assert found.what == "fault"
    assert "loss segmentation of iteration 2 is 0.61, and 0.6 is stored" in found.text
    assert figures.compare({**WANTED, "low": [2.0, float("nan")]}, WANTED, "tiny on a cpu").what == "fault"


def test_a_platform_without_figures_is_told_and_can_have_them(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "compute", lambda variant: (WANTED, 2e-7))
    path = tmp_path / "figures.json"
    path.write_text(json.dumps({"gpu": {"tiny": WANTED}}))
    found, seconds = figures.check("tiny", path, store=False)
    assert (found.what, "no figures yet" in found.text, seconds) == ("note", True, 2e-7)
    assert figures.check("tiny", path, store=True)[0].what == "note"
    assert figures.read(path) == {"gpu": {"tiny": WANTED}, jax.devices()[0].platform: {"tiny": WANTED}}
    assert figures.check("tiny", path, store=False)[0].what == "fine"


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("[1]")
    with pytest.raises(InputError, match=r"is not a file that --store has written$"):
        figures.check("tiny", path, store=False)
