"""Weights & Biases: told all that is recorded, where its environment says; and no run is hurt by it."""

import json
import os
import signal
import subprocess
import time

import pytest

from tests.train.tracking import telling
from tests.train.tracking.telling import clip, numbers, recorded, tell
from tests.train.tracking.wandb_files import history
from train.tracking import metrics_file, provenance, wandb_mirror
from train.tracking.tracker import Tracker

folder = telling.folder
FAKE_WANDB = """
import json, os, time
from pathlib import Path

def note(**what):
    with Path(os.environ["NOTES"]).open("a") as file:
        print(json.dumps(what), file=file)

class Settings:
    def __init__(self, **options):
        self.process = options["x_stats_pid"]

class Image(str):
    pass

class Video(str):
    def __new__(cls, path, format):
        return super().__new__(cls, path)

class Run:
    id = "fake"
    url = None  # as of a run that is offline
    summary = {}

    def define_metric(self, name, summary):
        pass

    def log(self, numbers, step):
        if os.environ["FAULT"] == "raises":
            raise OSError("no space left\\non the moon")
        while os.environ["FAULT"] == "hangs":
            time.sleep(1)
        note(step=step, **numbers)

    def finish(self):
        note(finished=True)

def init(**options):
    print("noise")
    note(process=options["settings"].process)
    note(id=options["id"], mode=options["mode"], name=options["name"], seed=options["config"]["recipe"]["seed"])
    return Run()
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A `wandb` that notes what it is told, as a function that reads the notes."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(FAKE_WANDB)
    monkeypatch.syspath_prepend(str(tmp_path / "fake"))
    notes = tmp_path / "notes"
    monkeypatch.setenv("NOTES", str(notes))
    monkeypatch.setenv("FAULT", "")
    return lambda: [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": "key"}, "online"),
        ({"WANDB_API_KEY": "key", "WANDB_MODE": "disabled"}, "disabled"),
        ({"NETRC": "netrc"}, "online"),
        ({"NETRC": "netrc", "WANDB_BASE_URL": "https://other.example"}, "offline"),
    ],
)
def test_auto_is_online_with_a_key(environment, mode, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password key\n")
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, str(tmp_path / value) if name == "NETRC" else value)
    assert wandb_mirror.resolve_mode("auto") == mode
    assert wandb_mirror.resolve_mode("disabled") == "disabled"


def test_a_record_is_followed_while_it_grows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [metrics_file.encode({"iteration": i}) for i in range(4)]
    path.write_bytes(lines[0] + lines[1] + lines[2][:5])
    more = iter([lines[2][5:], b"", lines[3], None])

    def ended():
        new = next(more)
        with path.open("ab") as file:
            file.write(new or b"")
        return new is None

    followed = wandb_mirror.follow(path, len(lines[0]), ended)
    assert [line["iteration"] for line in followed] == [1, 2, 3]


def test_wandb_is_told_all_that_is_recorded(folder, fake, capfd):
    with Tracker(folder, 0, 8, wandb="offline") as tracker:
        tell(tracker, 0, 6)
        tracker.log_validation(6, {"validation/mad": 0.2}, [clip(0)])
    first = fake()
    identity = (folder / "wandb_id").read_text()
    assert first[1] == {"id": identity, "mode": "offline", "name": "run", "seed": 7}
    assert first[-1] == {"finished": True}
    shown = {
        f"validation/{kind}": str(folder / "validation" / f"6.{end}")
        for kind, end in (("sheet", "png"), ("film", "mp4"))
    }
    told = [{n: v for n, v in line.items() if n not in ("step", "time")} for line in first[2:-1]]
    assert told == [*recorded(folder)[:-1], recorded(folder)[-1] | shown]
    assert [line["step"] for line in first[2:-1]] == [line["iteration"] for line in recorded(folder)]

    with Tracker(folder, 6, 8, wandb="offline") as tracker:
        tell(tracker, 6, 8)
    second = fake()[len(first) :]
    assert second[1]["id"] == identity
    assert [line["step"] for line in second[2:-1]] == [6, 7, 8]
    written = capfd.readouterr()
    assert written.err.splitlines()[0] == f"W&B: offline, in {folder / 'wandb'}"
    assert written.out == ""  # the noise of the fake one, too


def test_system_metrics_are_those_of_the_process_that_trains(folder, fake):
    with Tracker(folder, 0, 1, wandb="offline"):
        pass
    assert fake()[0] == {"process": os.getpid()}


def test_a_run_that_wandb_does_not_know_is_told_from_its_beginning(folder, fake):
    for begin, mode in ((0, "disabled"), (2, "online")):
        with Tracker(folder, begin, 4, wandb=mode) as tracker:
            tell(tracker, begin, begin + 2)
    assert [line["step"] for line in fake() if "step" in line] == [0, 0, 1, 2, 3, 4]


def test_a_run_without_wandb_starts_nothing(folder, fake, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(provenance, "revision", lambda folder: None)
    with Tracker(folder, 0, 1, wandb="disabled") as tracker:
        tell(tracker, 0, 1)
    assert fake() == []


def test_the_run_survives_where_no_process_can_be_started(folder, capsys, monkeypatch):
    monkeypatch.setattr(wandb_mirror.sys, "executable", str(folder / "missing"))
    with Tracker(folder, 0, 1, wandb="offline") as tracker:
        tell(tracker, 0, 1)
    assert len(recorded(folder)) == 2
    assert "W&B is off, and the run goes on without it: No such file or directory" in capsys.readouterr().err


def test_the_run_survives_wandb_failing(folder, fake, capsys, monkeypatch):
    monkeypatch.setenv("FAULT", "raises")
    monkeypatch.setattr("train.tracking.tracker.SECONDS_BETWEEN_FLUSHES", 0)
    with Tracker(folder, 0, 10**9, wandb="online") as tracker:
        for i in range(3000):
            tracker.log_iteration(i, numbers(i))
            if tracker._mirror is None:  # it is noticed while training goes on
                break
            time.sleep(0.01)
        tracker.log_iteration(i + 1, numbers(i + 1))
    assert len(recorded(folder)) == i + 2 < 3000
    told = [line for line in capsys.readouterr().err.splitlines() if "W&B" in line]
    assert told[1:] == ["W&B is off, and the run goes on without it: OSError: no space left"]


def test_the_run_survives_wandb_hanging(folder, fake, capsys, monkeypatch):
    monkeypatch.setenv("FAULT", "hangs")
    monkeypatch.setattr("train.tracking.tracker.PATIENCE", 1.0)
    with Tracker(folder, 0, 1, wandb="online") as tracker:
        tell(tracker, 0, 1)
        process = tracker._mirror
    assert process.returncode == -signal.SIGKILL
    assert capsys.readouterr().err.splitlines()[-1].startswith("W&B has not taken all within 1 s: `wandb sync` sends ")


def test_the_mirror_outlives_what_stops_training(folder, fake):
    """Ctrl-C and SIGTERM reach all processes of a terminal or a cluster; the mirror ends with training, not before."""
    with Tracker(folder, 0, 4, wandb="offline") as tracker:
        process = tracker._mirror
        assert os.getsid(process.pid) == process.pid
        while not fake():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        tell(tracker, 0, 4)
    assert process.returncode == 0
    assert [line["step"] for line in fake() if "step" in line] == [0, 0, 1, 2, 3, 4]


def test_an_offline_run_is_what_wandb_can_send(folder, monkeypatch):
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for begin in (0, 2):
        with Tracker(folder, begin, 4, wandb="offline") as tracker:
            tell(tracker, begin, begin + 2)
            if begin:
                tracker.log_validation(4, {"validation/mad": 0.1}, [clip(0)])
    runs = sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
    assert {path.stem for path in runs} == {f"run-{(folder / 'wandb_id').read_text()}"}
    told = [list(history(path)) for path in runs]
    assert [[row["_step"] for row in rows] for rows in told] == [[0, 1], [2, 3, 4]]
    assert told[0][1]["matting_low/total"] == float(numbers(1)["matting_low/total"])
    assert (runs[1].parent / "files" / told[1][-1]["validation/sheet/path"]).exists()
    assert (runs[1].parent / "files" / told[1][-1]["validation/film/path"]).exists()


@pytest.mark.slow
def test_the_run_survives_without_a_network(folder, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with Tracker(folder, 0, 1, wandb="auto") as tracker:
        tell(tracker, 0, 1)
    assert len(recorded(folder)) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if "W&B" in line]
    assert told[0].startswith("W&B: online")
    assert told[1].startswith("W&B is off, and the run goes on without it: ")
    assert len(told) == 2
    assert not (folder / "wandb_id").exists()
