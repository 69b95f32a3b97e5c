"""The benchmarks run, and write what they print. What they measure is not for a test to judge."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rvm_jax import videos
from tests.rvm_jax.conftest import write_tiny

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.slow
def test_network_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "network.py", "--variant", "tiny", "--rounds", "1"]
    result = subprocess.run(
        [*command, "--cases", "288p", "train", "--json", tmp_path / "out.json"],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")},  # it measures in several processes
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [(row["case"], row["contender"]) for row in rows] == [
        ("288p", "jax"),
        ("288p", "torch eager"),
        ("288p", "torch frozen"),
        ("train", "jax"),
        ("train", "torch eager"),
    ]
    assert all(row["milliseconds"] > 0 and row["peak_megabytes"] > 0 for row in rows)
    assert [row["ratio"] for row in rows if row["contender"] in ("torch frozen", "torch eager")][-1] == 1
    assert len(result.stdout.splitlines()) == 2 + len(rows)


@pytest.mark.slow
def test_data_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "data.py", "--rounds", "1", "--batches", "1", "--clips", "2"]
    result = subprocess.run([*command, "--json", tmp_path / "out.json"], capture_output=True, text=True, check=True)
    out = json.loads((tmp_path / "out.json").read_text())
    assert list(out["rates"]) == ["threads", "1 process", "2 processes", "plain tf.data"]
    assert all(rate["per_core"] > 0 for rate in out["rates"].values())
    assert out["rates"]["plain tf.data"]["ratio"] == 1
    assert out["stages"]["warp"]["milliseconds"] > 0
    assert "frames/s a core" in result.stdout


@pytest.mark.slow
def test_data_lock_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "data_lock.py", "--threads", "1", "2", "--seconds", "0.5"]
    options = ["--clips", "2", "--json", tmp_path / "out.json"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    out = json.loads((tmp_path / "out.json").read_text())
    assert list(out["rates"]) == ["1", "2"]
    assert all(rate > 0 for rate in out["rates"].values())
    assert 0 < out["drawing"] < out["sample"]
    assert "a sample of a worker process costs this one" in result.stdout


@pytest.mark.slow
def test_training_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "train.py", "--variant", "tiny", "--rounds", "1"]
    result = subprocess.run(
        [*command, "--frames", "2", "--size", "64", "--json", tmp_path / "out.json"],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")},
        capture_output=True,
        text=True,
        check=True,
    )
    out = json.loads((tmp_path / "out.json").read_text())
    assert (out["batch"], out["frames"], out["size"], out["remat"]) == (1, 2, 64, False)
    ours, theirs = out["results"]
    assert (ours["contender"], theirs["contender"], theirs["ratio"]) == ("jax", "torch eager", 1)
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-3)
    assert all(row["milliseconds"] > 0 and row["peak_megabytes"] > 0 for row in (ours, theirs))
    assert "torch eager" in result.stdout


@pytest.mark.slow
def test_memory_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "memory.py", "--variant", "tiny", "--size", "64"]
    shape = ["--frames", "2", "8"]
    result = subprocess.run(
        [*command, *shape, "--json", tmp_path / "out.json"], capture_output=True, text=True, check=True
    )
    short, long = json.loads((tmp_path / "out.json").read_text())
    assert (short["frames"], long["frames"]) == (2, 8)
    assert short["megabytes"] < long["megabytes"]
    assert long["megabytes_with_remat"] < long["megabytes"]
    assert "| 8 |" in result.stdout
    assert "T = 8 with remat needs" in result.stdout


@pytest.mark.slow
def test_matting_benchmark(tmp_path):
    clip = videos.write(tmp_path / "clip.mp4", videos.moving(30))
    command = [sys.executable, "-W", "ignore", FOLDER / "matting.py", clip, "--weights", write_tiny(tmp_path)]
    result = subprocess.run(
        [*command, "--kinds", ".mp4", ".mov", ".webm", "--json", tmp_path / "out.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    together = json.loads((tmp_path / "out.json").read_text())["together"]
    assert list(together) == [".mp4", ".mov", ".webm"]
    assert all(times["frames"] == 30 and min(times.values()) > 0 for times in together.values())
    assert len(result.stdout.splitlines()) == 2 + len(together)


@pytest.mark.slow
def test_scoring_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "scoring.py", "--frames", "5", "--size", "64x48"]
    subprocess.run([*command, "--json", tmp_path / "out.json"], capture_output=True, check=True)
    out = json.loads((tmp_path / "out.json").read_text())
    assert (out["frames"], out["size"]) == (5, "64x48")
    assert out["core_seconds"] > 0


@pytest.mark.slow
def test_compile_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "compile.py", "--recipe", "demo", "--stage", "3"]
    result = subprocess.run(
        [*command, "--programs", "1", "--at-once", "2", "--json", tmp_path / "out.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["programs"], found["needed"]) == (1, 4)
    assert [row["at_once"] for row in found["results"]] == [2, 1]
    assert all(row["seconds"] > 0 for row in found["results"])
    assert found["results"][1]["ratio"] == 1
    assert "programs of stage 3" in result.stdout
