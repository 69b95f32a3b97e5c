"""The benchmarks run, and write what they print. What they measure is not for a test to judge."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import accelerator
from tests.compiling import QUICKLY
from tests.rvm_jax import videos
from tests.rvm_jax.conftest import write_tiny

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _quickly_compiled(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", QUICKLY)


@pytest.mark.slow
def test_network_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "network.py", "--variant", "tiny", "--rounds", "1"]
    without = ["jax, not folded", "torch channels_last", "torch compiled", "torch frozen"]
    result = subprocess.run(
        [*command, "--cases", "288p", "train", "--without", *without, "--json", tmp_path / "out.json"],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")},  # it measures in several processes
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [(row["case"], row["contender"]) for row in rows] == [
        ("288p", "jax"),
        ("288p", "onnxruntime"),
        ("288p", "torch eager"),
        ("train", "jax"),
        ("train", "torch eager"),
    ]
    assert all(row["milliseconds"] > 0 and row["peak_megabytes"] > 0 for row in rows)
    assert [row["ratio"] for row in rows if row["contender"] == "torch eager"] == [1, 1]
    assert len(result.stdout.splitlines()) == 2 + len(rows)


@pytest.mark.slow
def test_baselines_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "baselines.py", "--rounds", "1", "--cases", "small"]
    result = subprocess.run([*command, "--json", tmp_path / "out.json"], capture_output=True, text=True, check=True)
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["contender"] for row in rows] == ["jax", "jax, not folded", "onnxruntime"]
    assert all(row["milliseconds"] >= row["least"] > 0 and row["cores"] > 0 for row in rows)
    assert rows[-1]["ratio"] == 1
    assert len(result.stdout.splitlines()) == 2 + len(rows)


@pytest.mark.slow
def test_data_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "data.py", "--rounds", "1", "--batches", "1"]
    small = ["--clips", "2", "--background-size", "96"]
    result = subprocess.run(
        [*command, *small, "--json", tmp_path / "out.json"], capture_output=True, text=True, check=True
    )
    out = json.loads((tmp_path / "out.json").read_text())
    assert list(out["rates"]) == ["threads", "1 process", "2 processes", "plain tf.data"]
    assert all(rate["per_core"] > 0 for rate in out["rates"].values())
    assert out["rates"]["plain tf.data"]["ratio"] == 1
    assert out["stages"]["warp"]["milliseconds"] > 0
    assert "frames/s a core" in result.stdout


@pytest.mark.slow
def test_data_lock_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "data_lock.py", "--threads", "1", "2", "--seconds", "0.5"]
    options = ["--clips", "2", "--background-size", "96", "--samples", "80", "--json", tmp_path / "out.json"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    out = json.loads((tmp_path / "out.json").read_text())
    assert list(out["rates"]) == ["1", "2"]
    assert all(rate > 0 for rate in out["rates"].values())
    assert min(out["drawing"], out["sample"]) > 0
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
    contest = ["--contest", "--rounds", "1", "--frames", "30"]
    result = subprocess.run(
        [*command, *contest, "--kinds", ".mp4", ".mov", ".webm", "--json", tmp_path / "out.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads((tmp_path / "out.json").read_text())
    assert [row["contender"] for row in found["contest"]] == ["rvm matte", "ONNX Runtime, our export"]
    assert all(min(row["first_core_seconds"], row["core_seconds"]) > 0 for row in found["contest"])
    together = found["together"]
    assert list(together) == [".mp4", ".mov", ".webm"]
    assert all(times["frames"] == 30 and min(times.values()) > 0 for times in together.values())
    assert len(result.stdout.splitlines()) == 2 + len(together) + 5


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


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in ("tensorflow", "tyro", "av", "cv2", "wandb"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Blocked())
"""
"""What a machine with an accelerator may lack, and a benchmark for it must do without."""


@pytest.mark.slow
def test_accelerator_benchmark(tmp_path):
    """Two of its parts: the others compile for longer than a test may take."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    parts = ["reference", "inference"]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", FOLDER / "accelerator.py", tmp_path / "out", "--small", "--parts", *parts],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads((tmp_path / "out" / "results.json").read_text())["parts"]
    assert {name: part["how"] for name, part in found.items()} == dict.fromkeys(parts, "done")
    assert found["reference"]["rows"][0]["of float32's noise"] < 3
    assert all(row["ms"] > 0 for row in found["inference"]["rows"])
    assert "| channels_last half |" in result.stdout
    uses = (
        "from benchmarks import accelerator; accelerator.do_without_tyro(); import benchmarks.train, train.device.step"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(FOLDER.parent)])}
    subprocess.run([sys.executable, "-W", "ignore", "-c", uses], env=environment, check=True)


def test_a_part_that_hangs_costs_no_other(tmp_path, monkeypatch):
    """It is stopped with its whole group of processes; what it had saved stays."""
    monkeypatch.setattr(accelerator, "__file__", str(tmp_path / "hangs.py"))
    (tmp_path / "hangs.py").write_text("import time\nopen('here', 'w').close()\ntime.sleep(1000)\n")
    monkeypatch.chdir(tmp_path)
    assert accelerator.run_part("reference", tmp_path, True, 0.5) == "stopped"
    (tmp_path / "hangs.py").write_text("raise SystemExit(3)\n")
    assert accelerator.run_part("reference", tmp_path, True, 60) == "failed"


@pytest.mark.parametrize(("options", "seconds"), [([], 45), (["--small"], 180)])
def test_a_part_that_is_only_tried_has_longer(tmp_path, monkeypatch, options, seconds):
    """Processors compile for longer, and two of the parts were stopped on a busy one."""
    given = []
    monkeypatch.setattr(accelerator, "run_part", lambda part, out, small, seconds: given.append(seconds) or "done")
    monkeypatch.setattr(accelerator, "versions", lambda: "none")
    monkeypatch.setattr(sys, "argv", ["accelerator.py", str(tmp_path), "--parts", "reference", *options])
    with pytest.raises(SystemExit) as ended:
        accelerator.main()
    assert (given, ended.value.code) == ([seconds], 0)


def test_kernels_are_those_of_the_device():
    named = [
        {"name": "process_name", "pid": 1, "args": {"name": "/host:CPU"}},
        {"name": "process_name", "pid": 2, "args": {"name": "/device:GPU:0"}},
        {"name": "thread_name", "pid": 2, "tid": 1, "args": {"name": "Stream #1"}},
        {"name": "thread_name", "pid": 2, "tid": 2, "args": {"name": "XLA Ops"}},
    ]
    ran = [("conv", 2, 1, 3000), ("add", 2, 1, 500), ("conv", 2, 1, 1000), ("conv", 2, 2, 9000), ("python", 1, 1, 9000)]
    events = [{"ph": "X", "name": name, "pid": pid, "tid": tid, "dur": dur} for name, pid, tid, dur in ran]
    assert accelerator.kernels(named + events) == [
        {"kernel": "conv", "ms": 4.0, "calls": 2, "share": pytest.approx(4000 / 4500)},
        {"kernel": "add", "ms": 0.5, "calls": 1, "share": pytest.approx(500 / 4500)},
    ]


@pytest.mark.slow
def test_layers_benchmark(tmp_path):
    command = [sys.executable, "-W", "ignore", FOLDER / "layers.py", "--small", "--rounds", "1"]
    result = subprocess.run(
        [*command, "--layers", "depthwise_input", "bilinear", "--json", tmp_path / "out.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["layer"] for row in rows] == ["depthwise_input", "bilinear"]
    assert all(min(row["plain"], row["ours"], row["torch"]) > 0 for row in rows)
    assert "| bilinear ×2" in result.stdout
