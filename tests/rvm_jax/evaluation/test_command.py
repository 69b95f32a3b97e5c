"""`rvm evaluate`, as a person runs it: what is printed, written and refused."""

import csv
import json
import shutil
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from rvm_jax.cli.main import main
from rvm_jax.evaluation import methods, speed
from tests.rvm_jax.evaluation.testsets import faulty, write_clip


def test_the_command(network, testset, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["evaluate", str(testset), f"ours={network}", f"truth={testset}", "--out", str(out), "--skip-speed"]
    assert main([*arguments, "--without-memory"]) == 0
    told = capsys.readouterr().out
    assert "aim, 48×32, 3 clips\n" in told
    lines = told[told.index("aim, 48×32") :].splitlines()
    assert lines[1].split() == ["MAD", "MSE", "Grad", "Conn", "dtSSD", "MAD-T", "FG", "MAD", "FG", "MSE"]
    assert lines[3].split() == ["truth", *["0.00"] * 8]
    assert lines[4].startswith("ours without memory")
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    results = json.loads((out / "results.json").read_text())
    mean = np.mean([float(row["mad"]) for row in rows if row["method"] == "ours"])
    assert results["means"]["aim"]["ours"]["mad"] == pytest.approx(mean)
    assert f"| ours | {mean:.2f} |" in (out / "results.md").read_text()
    with Image.open(out / "frames_ours.png") as sheet:
        assert sheet.width == 4 * 48
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "dtSSD of aim_static" in page


def test_published_figures_are_left_out_if_clips_have_several_sizes(tmp_path, capsys):
    for number, size in enumerate((512, 512, 256)):
        write_clip(tmp_path / "set" / "d646_static" / f"{number:04d}", number, frames=1, height=size, width=size)
    arguments = ["evaluate", str(tmp_path / "set"), f"truth={tmp_path / 'set'}", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "d646_static, several sizes, 3 clips\n" in told
    assert "(published)" not in told
    (tmp_path / "set" / "d646_static" / "0002").rename(tmp_path / "0002")
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "d646_static, 512×512, 2 clips\n" in told
    assert "RVM (published)" in told
    (tmp_path / "set" / "testset.json").touch()  # as `rvm data testset` leaves it
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "RVM (published, other composites)" in told
    assert "RVM (published)" not in told


@pytest.mark.slow
def test_the_command_with_speed_and_wandb(network, testset, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(speed, "SIZES", {"small": (32, 48, 1.0), "large": (64, 96, 0.5)})
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    timed, out = speed.frames_per_second, tmp_path / "out"

    def without_memory_for_large_ones(matte, size, ratio):
        assert (out / "results.md").exists()  # before anything is timed
        if size == (64, 96):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nand much more")
        return timed(matte, size, ratio)

    monkeypatch.setattr(speed, "frames_per_second", without_memory_for_large_ones)
    arguments = ["evaluate", str(testset), f"ours={network}", f"truth={testset}", "--out", str(out)]
    assert main([*arguments, "--without-memory", "--wandb", "offline"]) == 0
    told = capsys.readouterr()
    assert "rvm: ours at large cannot be timed: RESOURCE_EXHAUSTED: Out of memory\n" in told.err
    assert "W&B did not take it" not in told.err
    _, head, row, *more = told.out[told.out.index("Size and speed on cpu") :].splitlines()
    assert head.split() == ["parameters", "GMACs", "small", "frames/s", "small", "GMACs", "large", "frames/s", "large"]
    name, parameters, *_, small, _, large = row.split()
    assert (name, large) == ("ours", "–")
    assert int(parameters.replace(",", "")) == speed.parameters(methods.named_method(network, []).matte)
    assert float(small) > 0
    assert not any(line.startswith("ours") for line in more)  # without memory it is as fast
    assert "Size and speed" in (out / "results.md").read_text()
    assert "Size and speed" in (out / "report.html").read_text()
    assert list(out.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.parametrize("fault", ["frames are missing", "no composites"])
def test_all_methods_are_looked_at_before_any_is_scored(network, testset, tmp_path, capsys, fault):
    predictions = shutil.copytree(testset, tmp_path / "predictions")
    if fault == "no composites":
        shutil.rmtree(testset / "aim_static" / "0001" / "com")
        methods, message = [f"theirs={predictions}", network], "rvm: aim_static/0001 has no com to give to a network"
    else:
        faulty(fault, testset, predictions)
        methods, message = [network, f"theirs={predictions}"], f"rvm: {predictions}/aim_static/0001/pha has 10 frames"
    assert main(["evaluate", str(testset), *methods, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not (tmp_path / "out").exists()


def test_without_wandb_it_is_told_at_once(network, testset, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    arguments = ["evaluate", str(testset), network, "--out", str(tmp_path / "out"), "--wandb", "online"]
    assert main(arguments) == 2
    assert capsys.readouterr().err == "rvm: --wandb online needs W&B's package: pip install wandb\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{set}"], "rvm: no method was given"),
        (["nowhere", "{network}"], "rvm: nowhere does not exist: give the folder of a test set"),
        (["{set}", "{network}", "{network}"], "rvm: two methods are called tiny: give them other names"),
        (["{set}", "a b={network}", "a_b={network}"], "rvm: two methods are called a b and a_b: give them other names"),
        (["{set}", "a_without memory={network}", "a={network}", "--without-memory"], "rvm: two methods are called a_w"),
        (["{set}", "{network}", "--downsample-ratio", "0"], "rvm: a down-sampling ratio of 0: expected more than 0"),
        (["{set}", "a=nowhere"], "rvm: nowhere does not exist: give weights, or a folder of predictions"),
    ],
)
def test_what_the_user_has_to_mend(network, testset, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(set=testset, network=network) for argument in arguments]
    assert main(["evaluate", *filled]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
    assert not (tmp_path / "evaluation").exists()
