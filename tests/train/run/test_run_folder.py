"""The folder of a run: what is claimed, what is refused, and that it is held."""

import contextlib
import copy
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rvm_jax.errors import InputError
from tests.train import runs
from train.recipe.division import Kept
from train.recipe.text import to_json
from train.run import run_folder
from train.run.run_folder import claim, kept

IDENTITY = {
    "recipe": to_json(runs.RECIPE),
    "iterations": {"1": 3, "2": 1, "3": 2, "4": 2},
    "data": {"synthetic/tiny_matting_clips": "12ab", "synthetic/tiny_matting_images": "34cd"},
}
OTHER = copy.deepcopy(IDENTITY)
OTHER["recipe"] |= {"seed": 1, "init": "x"}
OTHER["recipe"]["stages"]["1"]["frames"] = 4
OTHER["data"]["synthetic/tiny_matting_clips"] = "12ba"
LATER = copy.deepcopy(IDENTITY)
LATER["recipe"]["stages"]["4"]["iterations"] = LATER["iterations"]["4"] = 3


def checkpoint(folder, done):
    (folder / "checkpoints" / str(done)).mkdir(parents=True)


def refusal(folder, identity=IDENTITY) -> str:
    with pytest.raises(InputError) as caught, claim(folder, identity):
        pytest.fail("the folder was given")
    return str(caught.value)


def test_a_new_folder_becomes_the_runs_and_is_known_again(tmp_path):
    folder = tmp_path / "runs" / "first"
    with claim(folder, IDENTITY):
        assert json.loads((folder / "recipe.json").read_text()) == IDENTITY
    written = (folder / "recipe.json").stat()
    checkpoint(folder, 3)
    with claim(folder, IDENTITY) as changed:
        assert changed == []
    assert (folder / "recipe.json").stat() == written


def test_an_empty_folder_and_that_of_a_killed_start_are_taken(tmp_path):
    (tmp_path / "lock").touch()
    (tmp_path / ".rvm-abc").mkdir()
    with claim(tmp_path, IDENTITY):
        assert json.loads((tmp_path / "recipe.json").read_text()) == IDENTITY


def test_another_run_is_refused_with_all_differences(tmp_path):
    with claim(tmp_path, IDENTITY):
        pass
    checkpoint(tmp_path, 0)
    assert refusal(tmp_path, OTHER).splitlines() == [
        f"{tmp_path} holds another run, with 0 iterations done: start with the same recipe and data, or give another "
        "--out DIR",
        "  seed: 0 in the run, 1 now",
        "  init: None in the run, x now",
        "  stages.1.frames: 2 in the run, 4 now",
        "  data.synthetic/tiny_matting_clips: 12ab in the run, 12ba now",
    ]
    assert json.loads((tmp_path / "recipe.json").read_text()) == IDENTITY
    with claim(tmp_path, IDENTITY):  # which is as it was, and free
        pass


def test_a_run_that_has_saved_nothing_may_become_another(tmp_path):
    with claim(tmp_path, IDENTITY):
        pass
    assert kept(tmp_path) is None
    with claim(tmp_path, OTHER) as changed:
        assert "seed 0 in the run so far, 1 from now on" in changed
    assert json.loads((tmp_path / "recipe.json").read_text())["recipe"] == OTHER["recipe"]


def test_the_newest_checkpoint_says_what_may_change(tmp_path):
    with claim(tmp_path, IDENTITY):
        pass
    for done in (2, 10, 7):
        checkpoint(tmp_path, done)
    assert "iterations.4: 2 in the run, 3 now" in refusal(tmp_path, LATER)
    (tmp_path / "checkpoints" / "10").rename(tmp_path / "checkpoints" / "damaged-10")
    with claim(tmp_path, LATER) as changed:
        assert changed == ["stage 4: iterations 2 in the run so far, 3 from now on"]
    written = json.loads((tmp_path / "recipe.json").read_text())
    assert written.pop("changes") == [{"iteration": 7, "before": {"stages.4.iterations": 2, "iterations.4": 2}}]
    assert written == LATER
    assert kept(tmp_path) == Kept(8, IDENTITY["recipe"]["scaling"])


def test_a_run_that_nobody_should_begin_leaves_nothing(tmp_path):
    hasty = {**IDENTITY, "recipe": {**IDENTITY["recipe"], "warmup": 1}}
    assert refusal(tmp_path / "run", hasty).startswith("--warmup 1: stage 2 has 1 iterations")
    assert not (tmp_path / "run").exists()


def test_folders_that_hold_other_things_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    assert refusal(tmp_path) == (
        f"{tmp_path} is not the folder of a run, but holds thesis.tex: give another folder, --out DIR"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"recipe": {"batch": 4}, "iterations": {}, "data": {}}'])
def test_a_damaged_identity_is_told(text, tmp_path):
    (tmp_path / "recipe.json").write_text(text)
    assert refusal(tmp_path).startswith(f"{tmp_path}/recipe.json does not say what the run is")


def test_unwritable_places_are_told(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        message = refusal(folder)
        assert message.startswith(f"cannot train in {folder} (")
        assert message.endswith("): give another folder, --out DIR")
    assert refusal(Path("/proc/none/run")).startswith("cannot train in /proc/none")


HOLD = """
import json, pathlib, sys, time
from train.run.run_folder import claim
with claim(pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])):
    print("held", flush=True)
    time.sleep(100)
"""


def test_two_processes_do_not_train_in_the_same_folder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path), json.dumps(IDENTITY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            message = refusal(tmp_path)
            assert message.startswith(f"process {process.pid} on ")
            assert message.endswith(f" is training in {tmp_path}: wait for it, stop it, or give another --out DIR")
        finally:
            process.send_signal(signal.SIGKILL)
    with claim(tmp_path, IDENTITY):
        assert refusal(tmp_path).startswith(f"process {os.getpid()} on ")


def test_an_error_in_the_block_passes_and_frees_the_folder(tmp_path):
    with pytest.raises(OSError, match="mine"), claim(tmp_path, IDENTITY):
        raise OSError("mine")
    with claim(tmp_path, IDENTITY):
        pass


@pytest.mark.parametrize(("number", "taken"), [(errno.ENOLCK, True), (errno.EIO, False)])
def test_a_file_system_without_locks_is_taken_without(number, taken, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with (
        contextlib.nullcontext() if taken else pytest.raises(InputError, match="cannot train in"),
        claim(tmp_path, IDENTITY),
    ):
        assert (tmp_path / run_folder.IDENTITY).exists()
