"""Whole runs on eight devices: what they leave, how they go on, and how they end."""

import json
import math
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import rvm_jax
from rvm_jax.errors import InputError, Stopped
from rvm_jax.weights.files import read_weights
from tests.data_pipelines import conftest
from tests.train import runs
from tests.train.tracking import test_profiling
from train import loop
from train.device import optimizer, parallel
from train.device.programs import Compilation, Programs
from train.recipe.recipe import learning_rates
from train.run.checkpoint import Checkpoints
from train.run.initial_state import initial_state
from train.tracking import metrics_file
from train.tracking.tracker import Tracker

prepared = conftest.prepared
pytestmark = [pytest.mark.longest, pytest.mark.usefixtures("small_network")]


@pytest.fixture(scope="module")
def whole(small_network, prepared, tmp_path_factory):
    """The folder of a run from its beginning to its end."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    begin = time.perf_counter()
    loop.train(runs.RECIPE, runs.options(out, prepared, profile="5:7"))
    (out.parent / "seconds").write_text(str(time.perf_counter() - begin))
    return out


def newest(out):
    """The newest checkpoint: iterations, and all arrays."""
    like = initial_state(rvm_jax.MattingNetwork("tiny"), 0)
    with Checkpoints(out / "checkpoints", keep=3) as checkpoints:
        return checkpoints.restore(like)


def assert_same_run(out, other):
    assert runs.recorded(out) == runs.recorded(other)
    (done, state), (expected, wanted) = newest(out), newest(other)
    assert done == expected
    jax.tree.map(np.testing.assert_array_equal, state, wanted)


def stop_with(monkeypatch, number, at):
    """Send this process a signal when the iteration `at` is recorded."""
    record = Tracker.log_iteration

    def iteration(self, done, numbers):
        record(self, done, numbers)
        if done == at:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Tracker, "log_iteration", iteration)


def test_a_run_records_every_iteration_and_validation(whole):
    lines = runs.recorded(whole)
    assert [line["iteration"] for line in lines if "stage" in line] == list(range(runs.ITERATIONS))
    assert [line["stage"] for line in lines if "stage" in line] == [1, 1, 1, 2, 3, 3, 4, 4]
    assert [line["iteration"] for line in lines if "validation/mad" in line] == [0, 3, 4, 6, 8]
    passes = [{name.split("/")[0] for name in line if name.endswith("/total")} for line in lines if "stage" in line]
    assert passes[0] == passes[2] == {"matting_low", "segmentation_video"}
    assert passes[1] == {"matting_low", "segmentation_stills"}
    assert passes[3] == {"matting_low", "segmentation_video"}  # each stage counts from its beginning
    assert passes[5] == {"matting_low", "matting_high", "segmentation_stills"}
    assert lines[-2]["matting_high/gradient_norm/refiner"] > 0
    assert lines[-2]["learning_rate/refiner"] == 1e-3


def test_a_run_leaves_weights_and_a_report(whole):
    _, state = newest(whole)
    for name in ("weights", "weights.pth"):
        written = read_weights(whole / name)
        jax.tree.map(np.testing.assert_array_equal, written.variables["params"], state.params)
        jax.tree.map(np.testing.assert_array_equal, written.variables["batch_stats"], state.batch_stats)
    assert rvm_jax.load(whole).network.variant == "tiny"
    assert "<svg" in (whole / "report.html").read_text()


def test_each_second_of_a_run_is_of_one_kind(whole):
    first, *_ = json.loads((whole / "time_spent.json").read_text())
    wall = float((whole.parent / "seconds").read_text())
    assert 0.9 * wall < sum(first.values()) < wall
    lines = [line for line in metrics_file.read(whole / "metrics.jsonl") if "stage" in line]
    assert first["compute"] == pytest.approx(sum(line["seconds/compute"] for line in lines), abs=0.01)
    for line in lines:
        total = sum(value for name, value in line.items() if name.startswith("seconds/"))
        frames = line["frames_per_second"] * total
        assert frames == pytest.approx(round(frames), rel=1e-3)
        assert line["teraflops_per_device"] > 0
    assert all(first[kind] > 0 for kind in ("data", "compiling", "validation", "checkpoints", "starting"))


def test_a_profile_has_the_iterations_that_were_asked_for(whole, prepared, tmp_path):
    assert test_profiling.steps(whole / "profile") == [5, 6, 7]  # the next one is dispatched ahead
    with pytest.raises(InputError, match=r"^--profile 7:9: expected iterations below 8, which is how many there are$"):
        loop.train(runs.RECIPE, runs.options(tmp_path / "run", prepared, profile="7:9"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "at"), [(signal.SIGTERM, 1), (signal.SIGINT, 4), (signal.SIGUSR1, 2)])
def test_a_run_that_is_stopped_goes_on_bit_for_bit(whole, prepared, tmp_path, monkeypatch, capsys, number, at):
    """The last signal comes just before a validation, which is left for the next start."""
    out = tmp_path / "stopped"
    with monkeypatch.context() as patched:
        stop_with(patched, number, at)
        with pytest.raises(Stopped) as stopped:
            loop.train(runs.RECIPE, runs.options(out, prepared))
    assert stopped.value.status == 128 + number
    done, _ = newest(out)
    assert at < done < runs.ITERATIONS
    assert f"stopped and saved after {done} of 8 iterations" in str(stopped.value)
    capsys.readouterr()
    loop.train(runs.RECIPE, runs.options(out, prepared))
    assert_same_run(out, whole)
    assert f"going on after {done}" in capsys.readouterr().err


def test_a_finished_run_is_not_trained_further(whole, prepared):
    before = (whole / "metrics.jsonl").read_bytes()
    loop.train(runs.RECIPE, runs.options(whole, prepared))
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_a_run_that_goes_on_does_not_need_what_it_began_with(whole, prepared, tmp_path):
    out = shutil.copytree(whole, tmp_path / "run")
    identity = json.loads((out / "recipe.json").read_text())
    identity["recipe"]["init"] = str(tmp_path / "gone.pth")
    (out / "recipe.json").write_text(json.dumps(identity))
    loop.train(replace(runs.RECIPE, init=tmp_path / "gone.pth"), runs.options(out, prepared))
    assert_same_run(out, whole)
    with pytest.raises(InputError, match=r"gone\.pth does not exist"):
        loop.train(replace(runs.RECIPE, init=tmp_path / "gone.pth"), runs.options(tmp_path / "new", prepared))
    assert not (tmp_path / "new").exists()


def test_too_little_memory_is_the_users_error(prepared, tmp_path, monkeypatch):
    """Before the first iteration, though it is stage 3 that needs the most."""

    def compile_(self, key, state, batch=None):
        return Compilation(SimpleNamespace(memory=key.pixels, flops=0.0), 0.0, from_cache=False)

    monkeypatch.setattr(Programs, "_compile", compile_)
    monkeypatch.setattr(parallel, "memory_limit", lambda: 8 * 2 * 96 * 96 - 1)
    with pytest.raises(InputError, match=r"^stage 3: matting of 8 × 2 × 96x96 at 0\.5 needs .* or on more devices$"):
        loop.train(runs.RECIPE, runs.options(tmp_path / "run", prepared))
    assert runs.recorded(tmp_path / "run") == []


def test_another_recipe_is_refused_with_the_differences(whole, prepared):
    with pytest.raises(InputError, match=r"seed: 0 in the run, 1 now"):
        loop.train(replace(runs.RECIPE, seed=1), runs.options(whole, prepared))


def test_other_pixels_are_refused(whole, prepared, tmp_path):
    """Of the same names and lengths."""
    data = shutil.copytree(prepared, tmp_path / "data")
    (metadata,) = data.glob("synthetic/tiny_matting_clips/*/metadata.json")
    content = json.loads(metadata.read_text())
    content["clips"]["train"]["sha256"][0] = "0" * 64
    metadata.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"with 8 iterations done(.*\n)  data\.synthetic/tiny_matting_clips: \w{32} in the"
    ):
        loop.train(runs.RECIPE, runs.options(whole, data))


def test_a_run_of_an_older_version_goes_on(whole, prepared, tmp_path, capsys):
    out = shutil.copytree(whole, tmp_path / "run")
    now = json.loads((out / "recipe.json").read_text())
    data = {name: digest[:16] for name, digest in now["data"].items()}
    old = {**now, "recipe": {**now["recipe"], "remat": True}, "data": data}
    del old["recipe"]["warmup"]
    (out / "recipe.json").write_text(json.dumps(old))
    loop.train(runs.RECIPE, runs.options(out, prepared))
    assert "\nremat True in the run so far, which this version of rvm-jax does not know\n" in capsys.readouterr().err
    changes = [{"iteration": 8, "before": {"remat": True}}]
    assert json.loads((out / "recipe.json").read_text()) == {**now, "changes": changes}


def test_a_run_keeps_its_batch(whole, prepared):
    other = replace(runs.RECIPE, batch=4)
    loop.train(other, runs.options(whole, prepared, clips_per_device=1))
    assert json.loads((whole / "sessions.jsonl").read_text().splitlines()[-1])["accumulation"] == 1
    with pytest.raises(InputError, match=r"keeps its batch of 8 clips, 1 for each of 8 devices; give 1$"):
        loop.train(other, runs.options(whole, prepared, clips_per_device=2))


@pytest.mark.slow
def test_a_run_that_is_made_longer_is_the_one_that_was_as_long_from_the_beginning(whole, prepared, tmp_path, capsys):
    stages = runs.RECIPE.stages
    longer = replace(runs.RECIPE, stages=(*stages[:3], replace(stages[3], iterations=4)))
    loop.train(longer, runs.options(tmp_path / "longer", prepared))
    out = shutil.copytree(whole, tmp_path / "run")
    capsys.readouterr()
    loop.train(longer, runs.options(out, prepared))
    told = capsys.readouterr().err
    assert "\nstage 4: iterations 2 in the run so far, 4 from now on\n" in told
    assert "10 of 10 iterations" in told
    lines = runs.recorded(out)
    assert lines.pop(-4).keys() == lines[-1].keys()  # the validation at what was the end
    assert lines == runs.recorded(tmp_path / "longer")
    (done, state), (expected, wanted) = newest(out), newest(tmp_path / "longer")
    assert done == expected == 10
    jax.tree.map(np.testing.assert_array_equal, state, wanted)


def test_what_is_not_finite_stops_the_run(prepared, tmp_path):
    rates = replace(runs.RATES, decoder=1e38)
    recipe = replace(runs.RECIPE, stages=(replace(runs.LOW, rates=rates), *runs.RECIPE.stages[1:]))
    again = rf"In another --out, try `--init {tmp_path}/wild/checkpoints/0` with lower --stages\.1\.rates"
    with pytest.raises(InputError, match=rf"^segmentation_video/\S+ is (nan|inf) in iteration 0 \(stage 1\).* {again}"):
        loop.train(recipe, runs.options(tmp_path / "wild", prepared))
    assert runs.recorded(tmp_path / "wild")[-1].keys() >= {"validation/mad"}  # nothing that is not finite


def test_what_is_not_finite_in_a_later_stage_is_told_with_what_skips_the_others():
    run = SimpleNamespace(
        checkpoints=SimpleNamespace(newest=lambda: 7),
        bucket=SimpleNamespace(folder=Path("out"), name=lambda path: path),
    )
    iteration = loop.Iteration(9, stage=2, metrics={}, rates={}, frames=1, flops=0.0, passes=[])
    with pytest.raises(InputError) as caught:
        loop._raise_if_not_finite(run, iteration, {"matting_low/total": math.nan})
    assert str(caught.value) == (
        "matting_low/total is nan in iteration 9 (stage 3): training stopped. In another --out, try `--init "
        "out/checkpoints/7 --stages.1.iterations 0 --stages.2.iterations 0` with lower --stages.3.rates, --warmup, or "
        "--precision float32"
    )


def test_a_batch_that_devices_cannot_divide(prepared, tmp_path):
    with pytest.raises(InputError, match=r"--batch 4 cannot be divided among 8 devices: give a multiple of 8"):
        loop.train(replace(runs.RECIPE, batch=4), runs.options(tmp_path / "run", prepared))
    assert not (tmp_path / "run").exists()


def test_a_batch_that_nobody_said_is_one_that_devices_can_share(prepared, tmp_path, monkeypatch, capsys):
    def iterations(run, state, done):
        assert run.programs.how == optimizer.ADAM
        assert learning_rates(run.recipe, 0, 0, 3)["encoder"] == 1e-3 * math.sqrt(2)
        raise Stopped("here", signal.SIGTERM)

    monkeypatch.setattr(loop, "_train_iterations", iterations)
    with pytest.raises(Stopped):
        loop.train(replace(runs.RECIPE, batch=None), runs.options(tmp_path / "run", prepared))
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]
    assert (recipe["batch"], recipe["scaling"]) == (8, "sqrt")
    assert "\n8 devices cannot share the recipe's batch of 4: a step has 8 clips, and " in capsys.readouterr().err


def test_data_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match=r"synthetic/tiny_\w+ is not prepared in .*: run `rvm data prepare synthetic/"):
        loop.train(runs.RECIPE, runs.options(tmp_path / "run", tmp_path))
    assert not (tmp_path / "run").exists()
