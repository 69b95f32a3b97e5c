"""The benchmarks run, and write what they print. What they measure is not for a test to judge."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.slow
def test_network_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "network.py", "--variant", "tiny", "--rounds", "1"]
    result = subprocess.run(
        [*command, "--cases", "288p", "train", "--json", tmp_path / "out.json"],
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
    assert list(out["rates"]) == ["this pipeline", "plain tf.data"]
    assert all(rate["per_core"] > 0 for rate in out["rates"].values())
    assert out["rates"]["plain tf.data"]["ratio"] == 1
    assert out["stages"]["warp"]["milliseconds"] > 0
    assert "frames/s a core" in result.stdout
