"""Runs in processes of their own: killed without warning, and on several hosts.

RVM_KILLS is how many kills there are; `make campaign` asks for many.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from rvm_jax.model.network import MattingNetwork
from tests.compiling import QUICKLY
from tests.data_pipelines import conftest
from tests.train import runs
from train.run.checkpoint import Checkpoints
from train.run.initial_state import initial_state

prepared = conftest.prepared
ROOT = Path(__file__).parent.parent.parent
KILLS = int(os.environ.get("RVM_KILLS", "2"))


def begin(worker, devices, *arguments):
    command = [sys.executable, "-m", f"tests.train.{worker}", *map(str, arguments)]
    environment = {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICKLY} "
        "--xla_cpu_collective_call_terminate_timeout_seconds=600",
        "NPROC": "16",
    }
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)


def finish(process):
    with process:  # waits, however busy the machine is
        _, told = process.communicate()
    assert process.returncode == 0, told
    return told


def newest(out):
    with Checkpoints(out / "checkpoints", keep=3) as checkpoints:
        return checkpoints.restore(initial_state(MattingNetwork("tiny"), 0))


@pytest.mark.slow
@pytest.mark.longest
@pytest.mark.usefixtures("small_network")
def test_kills_change_nothing(prepared, tmp_path):
    """However often and whenever it is killed, the run ends as if it had not been."""
    finish(begin("run_worker", 2, "long", tmp_path / "first", prepared))  # compiles
    whole = tmp_path / "whole"
    assert "programs (all from the cache) in" in finish(begin("run_worker", 2, "long", whole, prepared))
    check_same(tmp_path / "first", whole)
    draw = random.Random(0)
    kills = run = done = 0
    out = tmp_path / "killed0"
    while kills < KILLS or out.exists():
        process = begin("run_worker", 2, "long", out, prepared)
        if kills < KILLS:
            wait_for(process, out, lines(out) + draw.randint(1, lines(whole) // 2))
            time.sleep(draw.uniform(0, 0.3))
            process.kill()
        _, errors = process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            reached, _ = (newest(out) if (out / "checkpoints").is_dir() else None) or (0, None)
            assert reached >= done
            done = reached
        else:
            assert process.returncode == 0, errors
            check_same(out, whole)
            run, done = run + 1, 0
            out = tmp_path / f"killed{run}"


def lines(out):
    """How many lines of metrics a run has written."""
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(process, out, written):
    """Wait until the run has written so many lines, or has ended."""
    while process.poll() is None and lines(out) < written:
        time.sleep(0.02)


def check_same(out, whole):
    assert runs.recorded(out) == runs.recorded(whole)
    (iterations, state), (expected, wanted) = newest(out), newest(whole)
    assert iterations == expected
    jax.tree.map(np.testing.assert_array_equal, state, wanted)


@pytest.fixture
def coordinator():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.mark.slow
def test_passes_of_two_hosts_with_four_devices_are_those_of_one_with_eight(tmp_path, coordinator):
    alone, together = tmp_path / "alone.npz", tmp_path / "together.npz"
    arguments = [(8, alone), (4, together, coordinator, 0, 2), (4, together, coordinator, 1, 2)]
    finish(begin("pass_worker", *arguments[0]))
    # These two go by themselves: on CPUs, JAX lets one host wait only 30 seconds for the other.
    processes = [begin("pass_worker", *given) for given in arguments[1:]]
    for process in processes:
        finish(process)
    expected, found = np.load(alone), np.load(together)
    assert sorted(found) == sorted(expected)
    assert any(name.startswith("1/gradient_norm/refiner") for name in expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
