"""The check from end to end: on sound data it is go, and what is wrong makes it no-go and status 1."""

import re
from dataclasses import replace

import pytest

from rvm_jax.cli.main import main
from tests.data_pipelines import conftest
from tests.train import runs
from train.check import check, figures, overfit
from train.check.findings import Finding
from train.check.options import CheckOptions

prepared = conftest.prepared


@pytest.fixture
def quick(monkeypatch):
    """Without what takes its time: the first iterations are those that are stored."""
    monkeypatch.setattr(figures, "compute", lambda variant: figures.read(figures.STORED)["cpu"][variant])
    monkeypatch.setattr(overfit, "STEPS", 20)


@pytest.mark.slow
def test_a_sound_run_is_go(prepared, tmp_path, quick, capsys):
    assert check.check(replace(runs.RECIPE, unfree="refuse"), runs.options(tmp_path / "out", prepared), CheckOptions())
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0] == "fine:  all 6 datasets allow commercial use; it begins from random weights"
    assert lines[-1] == "go"
    assert not any(line.startswith("fault") for line in lines)
    loss = re.search(r"one batch of matting of 8 × 2 × 48x48: loss ([\d.]+), and ([\d.]+) after 20 steps", shown)
    assert float(loss[2]) < 0.5 * float(loss[1])
    assert re.search(r"stage 1: up to \d\.\d\d GB of each device", shown)
    for stage, iterations in enumerate((3, 1, 2, 2), 1):
        assert re.search(rf"stage {stage}: {iterations} iterations of [\d.e-]+ s on the devices, whose data", shown)
    assert not (tmp_path / "out").exists()


def findings(monkeypatch, *found):
    monkeypatch.setattr(check, "_findings", lambda recipe, options, asked: iter(found))


@pytest.mark.parametrize(
    ("faults", "last", "status"), [(0, "go", 0), (1, "no-go: 1 fault", 1), (2, "no-go: 2 faults", 1)]
)
def test_the_status_says_whether_to_go(faults, last, status, monkeypatch, capsys):
    findings(monkeypatch, Finding("note", "hm"), *[Finding("fault", "no")] * faults)
    if status:
        with pytest.raises(SystemExit) as left:
            main(["train", "check", "demo"])
        assert left.value.code == status
    else:
        assert main(["train", "check", "demo"]) == 0
    assert capsys.readouterr().out.splitlines() == ["note:  hm", *["fault: no"] * faults, last]


def test_it_is_given_what_the_run_is_given(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(check, "check", lambda *asked: given.append(asked) or True)
    words = ["--stages.1.iterations", "7", "--people", "x.pth", "--data-dir", str(tmp_path), "--store"]
    assert main(["train", "check", "clean", "--variant", "resnet50", *words]) == 0
    ((recipe, options, asked),) = given
    assert (recipe.variant, recipe.stages[0].iterations, recipe.unfree) == ("resnet50", 7, "refuse")
    assert (options.data_dir, asked) == (tmp_path, CheckOptions(people="x.pth", store=True))


def test_options_of_the_check_are_no_options_of_training():
    with pytest.raises(SystemExit) as left:
        main(["train", "demo", "--people", "x.pth"])
    assert left.value.code == 2
