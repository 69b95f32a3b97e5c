"""Two hosts, one of which cannot go on or is asked to stop: how both of them end, and what they say."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.records import clips
from tests.compiling import QUICKLY
from tests.data_pipelines import conftest
from tests.train.test_processes import ROOT

prepared = conftest.prepared
pytestmark = pytest.mark.slow
LIMIT = 400
"""Seconds, of which a busy machine takes most to begin; a host that waits for ever takes more."""


def begin(out, data_dir, faults, options=((), ())):
    """Start `rvm train` on two hosts, with a fault of `host_worker` and options on each."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    environment = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=1 {QUICKLY}",
        "NPROC": "16",
    }
    shared = ["--out", out, "--data-dir", data_dir, "--wandb", "disabled", "--save-every", 2, "--coordinator", address]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.train.host_worker", faults[number]]
            + [str(word) for word in (*shared, "--process-count", 2, "--process-id", number, *options[number])],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]


def end(processes):
    """The exit status of each, and the lines on its standard error but for JAX's greeting on CPUs."""
    try:
        told = [process.communicate(timeout=LIMIT)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    lines = [[line for line in text.splitlines() if not line.startswith("[Gloo]")] for text in told]
    return [process.returncode for process in processes], lines


def check(processes, statuses, first, second):
    """How both end: these are the last lines of host 0, which tells of its progress too, and all of host 1."""
    found, (on_first, on_second) = end(processes)
    assert found == statuses, (on_first, on_second)
    assert on_first[-len(first) :] == first
    assert not [line for line in on_first[: -len(first)] if line.startswith(("rvm:", "Traceback", "***"))]
    assert on_second == second


def test_data_that_one_host_lacks(prepared, tmp_path):
    name = "synthetic/tiny_background_images"
    told = f"{name} is not prepared in {tmp_path}: run `rvm data prepare {name}`, or give another "
    options = [(), ("--data-dir", tmp_path)]
    processes = begin(tmp_path / "run", prepared, ["none", "none"], options)
    check(processes, [2, 2], [f"rvm: host 1: {told}--data-dir"], [f"rvm: {told}--data-dir"])
    assert not (tmp_path / "run").exists()


def test_hosts_that_are_started_otherwise(prepared, tmp_path):
    told = [
        "started otherwise than host 0: give all hosts the same options and the same data",
        "  seed: 0 on host 0, 3 here",
        "  options.validate_every: 1000 on host 0, 7 here",
    ]
    options = [(), ("--seed", 3, "--validate-every", 7)]
    processes = begin(tmp_path / "run", prepared, ["none", "none"], options)
    check(processes, [2, 2], [f"rvm: host 1: {told[0]}", *told[1:]], [f"rvm: {told[0]}", *told[1:]])
    assert not (tmp_path / "run").exists()


def test_a_full_disk_on_the_first_host(prepared, tmp_path):
    processes = begin(tmp_path / "run", prepared, ["full disk", "none"])
    told = (
        f"cannot save a checkpoint in {tmp_path}/run/checkpoints: File too large; once that is mended, the same "
        "command goes on from iteration 2"
    )
    check(processes, [2, 2], [f"rvm: {told}"], [f"rvm: host 0: {told}"])


def test_a_damaged_record_on_one_host(prepared, tmp_path):
    data = shutil.copytree(prepared, tmp_path / "data")
    damage(data, "synthetic/tiny_segmentation_clips")
    processes = begin(tmp_path / "run", prepared, ["none", "none"], [(), ("--data-dir", data)])
    statuses, (first, second) = end(processes)
    assert statuses == [2, 2], (first, second)
    assert len(second) == 1
    assert second[0].startswith("rvm: frame ")
    assert "is damaged: prepare it again (" in second[0]
    assert first[-1] == f"rvm: host 1: {second[0].removeprefix('rvm: ')}"
    assert not [line for line in first[:-1] if line.startswith(("rvm:", "Traceback", "***"))]


def test_an_exception_that_nobody_expects(prepared, tmp_path):
    """The host where it happens shows where, for that is a bug; no other has anything to show."""
    processes = begin(tmp_path / "run", prepared, ["none", "bug"])
    statuses, (first, second) = end(processes)
    assert statuses == [2, 1], (first, second)
    assert first[-1] == "rvm: host 1: ZeroDivisionError: division by zero"
    assert not [line for line in first[:-1] if line.startswith(("rvm:", "Traceback", "***"))]
    assert second[0] == "Traceback (most recent call last):"
    assert second[-1] == "ZeroDivisionError: division by zero"


def test_a_signal_to_one_host_stops_both_at_the_same_iteration(prepared, tmp_path):
    out = tmp_path / "run"
    status = [("--requeue-status", 75)] * 2
    statuses, (first, second) = end(begin(out, prepared, ["none", "USR1"], status))
    assert statuses == [75, 75], (first, second)
    answer, told = second
    assert answer.startswith("rvm: SIGUSR1: stopping, as soon as")
    assert first[-1] == told
    stopped = int(told.removeprefix("rvm: stopped and saved after ").partition(" ")[0])
    assert told == f"rvm: stopped and saved after {stopped} of 8 iterations: the same command goes on"
    assert 2 <= stopped < 8
    statuses, (first, second) = end(begin(out, prepared, ["none", "none"]))
    assert statuses == [0, 0], (first, second)
    assert any(line.endswith(f"in {out}; going on after {stopped}") for line in first)
    assert second == []
    assert (out / "weights").is_dir()


def damage(data_dir, dataset):
    """Overwrite the masks in the training records of a dataset; its table of clips stays as it was."""
    (path,) = (data_dir / dataset).glob("*/*-train.array_record*")
    records = clips.open_clips([dataset], "train", data_dir)
    content = path.read_bytes()
    masks = [records.read(number)["mask"] for number in range(records.frames)]
    damaged = content
    for mask in masks:
        damaged = damaged.replace(mask, bytes(len(mask)))
    assert damaged != content
    Path(path).write_bytes(damaged)
