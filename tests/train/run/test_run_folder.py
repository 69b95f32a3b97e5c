"""The folder of a run: what is claimed, what is refused, and that it is held."""

import contextlib
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
from train.run import run_folder
from train.run.run_folder import claim, differences

IDENTITY = {
    "recipe": {"seed": 0, "init": None, "stages": {"1": {"epochs": 20, "matting": ["a"], "rate": 1e-4}}},
    "iterations": {"1": 100},
    "data": {"a/train": "12ab"},
}
OTHER = {
    "recipe": {"seed": 0, "init": "x", "stages": {"1": {"epochs": 15, "matting": ["a"], "rate": 1e-4}}},
    "iterations": {"1": 100},
    "data": {"b/train": "12ab"},
}


def refusal(folder, identity=IDENTITY) -> str:
    with pytest.raises(InputError) as caught, claim(folder, identity):
        pytest.fail("the folder was given")
    return str(caught.value)


def test_a_new_folder_becomes_the_runs_and_is_known_again(tmp_path):
    folder = tmp_path / "runs" / "first"
    with claim(folder, IDENTITY):
        assert json.loads((folder / "recipe.json").read_text()) == IDENTITY
    written = (folder / "recipe.json").stat()
    with claim(folder, IDENTITY):
        pass
    assert (folder / "recipe.json").stat() == written


def test_an_empty_folder_and_that_of_a_killed_start_are_taken(tmp_path):
    (tmp_path / "lock").touch()
    (tmp_path / ".rvm-abc").mkdir()
    with claim(tmp_path, IDENTITY):
        assert json.loads((tmp_path / "recipe.json").read_text()) == IDENTITY


def test_another_run_is_refused_with_all_differences(tmp_path):
    with claim(tmp_path, IDENTITY):
        pass
    assert refusal(tmp_path, OTHER).splitlines() == [
        f"{tmp_path} holds another run: start with the same recipe and data, or give another --out DIR",
        "  init: None in the run, x now",
        "  stages.1.epochs: 20 in the run, 15 now",
        "  data.a/train: 12ab in the run, nothing now",
        "  data.b/train: nothing in the run, 12ab now",
    ]
    with claim(tmp_path, IDENTITY):  # which is as it was, and free
        pass


def test_differences():
    assert differences(IDENTITY, IDENTITY) == []
    assert differences({"a": {"b": ["x"], "c": None}}, {"a": {"b": ["x", "y"]}}) == [
        "a.b: ['x'] in the run, ['x', 'y'] now",
        "a.c: None in the run, nothing now",
    ]


def test_folders_that_hold_other_things_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    assert refusal(tmp_path) == (
        f"{tmp_path} is not the folder of a run, but holds thesis.tex: give another folder, --out DIR"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["", "{", "[]"])
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
import pathlib, sys, time
from train.run.run_folder import claim
with claim(pathlib.Path(sys.argv[1]), {}):
    print("held", flush=True)
    time.sleep(100)
"""


def test_two_processes_do_not_train_in_the_same_folder(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            message = refusal(tmp_path, {})
            assert message.startswith(f"process {process.pid} on ")
            assert message.endswith(f" is training in {tmp_path}: wait for it, stop it, or give another --out DIR")
        finally:
            process.send_signal(signal.SIGKILL)
    with claim(tmp_path, {}):
        assert refusal(tmp_path, {}).startswith(f"process {os.getpid()} on ")


def test_an_error_in_the_block_passes_and_frees_the_folder(tmp_path):
    with pytest.raises(OSError, match="mine"), claim(tmp_path, {}):
        raise OSError("mine")
    with claim(tmp_path, {}):
        pass


@pytest.mark.parametrize(("number", "taken"), [(errno.ENOLCK, True), (errno.EIO, False)])
def test_a_file_system_without_locks_is_taken_without(number, taken, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with contextlib.nullcontext() if taken else pytest.raises(InputError, match="cannot train in"), claim(tmp_path, {}):
        assert (tmp_path / run_folder.IDENTITY).exists()
