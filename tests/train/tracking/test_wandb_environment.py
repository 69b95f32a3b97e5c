"""W&B's own environment: runs go where it says, sweeps run, and what a run is stands in its config and summary."""

import os

import pytest

from tests.train.tracking import telling
from tests.train.tracking.telling import tell
from tests.train.tracking.wandb_files import records, values
from train.tracking import metrics_file
from train.tracking.clock import Clock
from train.tracking.tracker import Tracker

folder = telling.folder
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def recorded(folder, begin=0, end=4, **options):
    """What W&B has recorded of a session: the run, its settings, its summary and its artifacts."""
    before = set((folder / "wandb").glob("offline-run-*/*.wandb")) if (folder / "wandb").exists() else set()
    with Tracker(folder, begin, end, wandb="offline", clock=Clock(), **options) as tracker:
        tell(tracker, begin, end)
    (path,) = set((folder / "wandb").glob("offline-run-*/*.wandb")) - before
    found = {"summary": {}, "artifacts": [], "config": {}, "metrics": []}
    for record in records(path):
        match record.WhichOneof("record_type"):
            case "run":
                found["run"] = record.run
                found["config"] |= values(record.run.config.update)
            case "summary":
                found["summary"] |= values(record.summary.update)
            case "metric":
                found["metrics"].append(record.metric)
            case "request" if record.request.WhichOneof("request_type") == "log_artifact":
                found["artifacts"].append(record.request.log_artifact.artifact)
            case "artifact":
                found["artifacts"].append(record.artifact)
    return found


def test_a_run_goes_where_its_environment_says(folder, monkeypatch):
    """A session that goes on stays the run that it was; an option counts more than the environment."""
    for name, value in {
        "PROJECT": "mattes",
        "NAME": "calm",
        "RUN_ID": "abc123",
        "ENTITY": "team",
        "RUN_GROUP": "group",
        "TAGS": "a,b",
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run = recorded(folder)["run"]
    assert (run.project, run.display_name, run.run_id, run.entity) == ("mattes", "calm", "abc123", "team")
    assert (run.run_group, list(run.tags)) == ("group", ["a", "b"])
    monkeypatch.setenv("WANDB_RUN_ID", "other")
    run = recorded(folder, 4, 6, project="mine")["run"]
    assert (run.run_id, run.project) == ("abc123", "mine")


def write_results(folder):
    (folder / "weights").mkdir()
    (folder / "weights" / "array").write_text("7")
    (folder / "report.html").write_text("page")


def test_a_run_without_an_environment_is_called_after_its_folder(folder):
    """And its options are in its config; its weights stay here."""
    write_results(folder)
    found = recorded(folder, session={"options": {"save_every": 7}, "accumulation": 2})
    assert (found["run"].project, found["run"].display_name) == ("rvm-jax", "run")
    assert found["run"].run_id == (folder / "wandb_id").read_text()
    assert (found["config"]["options"], found["config"]["accumulation"]) == ({"save_every": 7}, 2)
    assert found["artifacts"] == []


@pytest.mark.parametrize("number", [1, 2])
def test_runs_of_a_sweep_go_where_its_agent_says(folder, tmp_path, monkeypatch, number):
    """As `wandb agent` starts a command: an id, a project, a sweep and a file of parameters."""
    parameters = tmp_path / "config.yaml"
    parameters.write_text(f"wandb_version: 1\nstages.1.rates.encoder:\n  value: 0.00{number}\n")
    for name, value in {
        "SWEEP_ID": "sweep7",
        "RUN_ID": f"agent{number}",
        "PROJECT": "sweeping",
        "ENTITY": "team",
        "SWEEP_PARAM_PATH": str(parameters),
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    found = recorded(folder, project=None)
    run = found["run"]
    assert (run.sweep_id, run.run_id, run.project, run.entity) == ("sweep7", f"agent{number}", "sweeping", "team")
    assert found["config"]["stages.1.rates.encoder"] == number / 1000
    assert found["config"]["recipe"]["seed"] == 7
    assert (folder / "wandb_id").read_text() == f"agent{number}"


def test_the_summary_has_the_best_and_where_the_time_went(folder):
    """The best of all sessions, though W&B sees only those of one."""
    first = recorded(folder, 0, 4)
    assert (first["summary"]["best_mad"], first["summary"]["best_mad_iteration"]) == (0.1, 4)
    assert first["summary"]["time_spent/starting"] > 0
    (metric,) = first["metrics"]
    assert (metric.name, metric.summary.min, metric.summary.last) == ("validation/mad", True, True)
    with Tracker(folder, 4, 5, wandb="offline") as tracker:
        tracker.log_validation(5, {"validation/mad": 0.4}, [])
    assert min(line.get("validation/mad", 1) for line in metrics_file.read(folder / "metrics.jsonl")) == 0.1
    *_, last = sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
    assert not any("best_mad" in values(record.summary.update) for record in records(last))


def test_weights_and_report_are_artifacts_where_that_is_asked(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staging"))
    write_results(folder)
    artifacts = {one.type: one for one in recorded(folder, artifacts=True)["artifacts"]}
    files = {kind: [entry.path for entry in one.manifest.contents] for kind, one in artifacts.items()}
    assert files == {"model": ["weights/array"], "report": ["report.html"]}
