"""The command of the check: what it is given, what it refuses, and that its status says whether to go.

The whole of it, on sound data, is in `tests/train/test_clean.py`, with the run that follows.
"""

from pathlib import Path

import pytest

from rvm_jax.cli.main import main
from train.check import check
from train.check.findings import Finding
from train.check.options import CheckOptions


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
    assert main(["train", "check", "demo", "--init", "~/net.pth"]) == 0
    assert given[-1][0].init == Path.home() / "net.pth"


def test_what_the_run_refuses_it_refuses(capsys):
    assert main(["train", "check", "demo", "--batch", "8", "--clips-per-device", "2"]) == 2
    assert capsys.readouterr().err.startswith("rvm: --batch 8 and --clips-per-device 2 both say how many clips")


def test_options_of_the_check_are_no_options_of_training():
    with pytest.raises(SystemExit) as left:
        main(["train", "demo", "--people", "x.pth"])
    assert left.value.code == 2
