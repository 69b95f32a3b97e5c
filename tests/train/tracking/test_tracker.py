"""What a run tells: the record that a resume makes whole again, pictures, lines, and W&B, which must not hurt it."""

import json
import os
import signal
import struct
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import av
import jax
import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from train.device.evaluation import ValidationClip
from train.tracking import metrics_file, provenance, validation_pictures, wandb_mirror
from train.tracking.tracker import Tracker

WANDB_HEADER = b":W&B\xe1\xbe\x00"
FAKE_WANDB = """
import json, os, time
from pathlib import Path

def note(**what):
    with Path(os.environ["NOTES"]).open("a") as file:
        print(json.dumps(what), file=file)

class Settings:
    def __init__(self, **options):
        pass

class Image(str):
    pass

class Video(str):
    def __new__(cls, path, format):
        return super().__new__(cls, path)

class Run:
    id = "fake"
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
    note(id=options["id"], mode=options["mode"], name=options["name"], seed=options["config"]["recipe"]["seed"])
    return Run()
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"recipe": {"variant": "tiny", "seed": 7}}))
    return folder


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


def numbers(iteration):
    loss = np.float32(1) / np.float32(3 + iteration)
    return {"stage": 1, "matting_low/total": loss, "frames_per_second": 40.0}


def tell(tracker, begin, end):
    """Iterations, and a validation every four of them."""
    for i in range(begin, end):
        if i == 0:
            tracker.log_validation(0, {"validation/mad": 0.5}, [])
        tracker.log_iteration(i, numbers(i))
        if (i + 1) % 4 == 0:
            tracker.log_validation(i + 1, {"validation/mad": 0.1}, [])


def recorded(folder):
    """The record without the time."""
    return [{n: v for n, v in line.items() if n != "time"} for line in metrics_file.read(folder / "metrics.jsonl")]


def clip(value, frames=3):
    return ValidationClip(*(np.full((frames, 8, 12, c), value, np.uint8) for c in (3, 1, 3, 1)))


def test_numbers_read_back_as_they_were_written():
    given = {
        "iteration": 3,
        "a": np.float32(0.1),
        "b": 1e-300,
        "c": float("nan"),
        "d": -np.inf,
        "e": jax.numpy.ones(()),
    }
    line = metrics_file.encode(given)
    assert line.count(b"\n") == 1

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads(line, parse_constant=refuse)
    read = metrics_file.decode(line)
    assert read.keys() == given.keys()
    assert isinstance(read["iteration"], int)
    for name, number in read.items():
        np.testing.assert_array_equal(number, given[name])


def test_what_is_not_a_whole_line_is_none():
    whole = metrics_file.encode({"iteration": 12})
    assert metrics_file.decode(whole[:-1]) is metrics_file.decode(whole[3:]) is metrics_file.decode(b"\n") is None


def test_a_resumed_record_is_that_of_an_uninterrupted_run(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("train.tracking.tracker.time", SimpleNamespace(time=lambda: 1.0, monotonic=time.monotonic))
    with Tracker(folder, 0, 10, wandb="disabled") as tracker:
        tell(tracker, 0, 10)
    path = folder / "metrics.jsonl"
    whole = path.read_bytes()
    assert len(whole.splitlines()) == 13
    for done in (1, 4, 6, 10):  # the first 8 iterations with their validations, and half a line
        path.write_bytes(b"".join(whole.splitlines(keepends=True)[:11])[:-7])
        kept = done if done < 8 else 8
        with Tracker(folder, kept, 10, wandb="disabled") as tracker:
            assert len(path.read_bytes().splitlines()) == {1: 2, 4: 6, 6: 8, 8: 10}[kept]
            if kept == 8:
                tracker.log_validation(8, {"validation/mad": 0.1}, [])
            tell(tracker, kept, 10)
        assert path.read_bytes() == whole, done
    sessions = [json.loads(line) for line in (folder / "sessions.jsonl").read_text().splitlines()]
    assert [session["iteration"] for session in sessions] == [0, 1, 4, 6, 8]


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("done", [0, 4])
def test_a_validation_that_is_repeated_is_recorded_once(folder, done, validated):
    with Tracker(folder, 0, 10, wandb="disabled") as tracker:
        tell(tracker, 0, 10)
    with Tracker(folder, done, 10, validated=validated, wandb="disabled"):
        pass
    validations = [line["iteration"] for line in recorded(folder) if metrics_file.is_validation(line)]
    assert (done in validations) is validated
    assert max(validations, default=0) <= done
    assert [line["iteration"] for line in recorded(folder) if not metrics_file.is_validation(line)] == list(range(done))


def test_half_a_line_of_a_session_is_passed_over(folder):
    path = folder / metrics_file.SESSIONS
    metrics_file.add_session(path, {"iteration": 0})
    with path.open("a") as file:
        file.write('{"iteration": 1, "sta')
    metrics_file.add_session(path, {"iteration": 2})
    assert metrics_file.sessions(path) == [{"iteration": 0}, {"iteration": 2}]


def test_what_was_flushed_is_on_disk(folder):
    with Tracker(folder, 0, 10, wandb="disabled") as tracker:
        tell(tracker, 0, 2)
        tracker.flush()
        assert len(recorded(folder)) == 3
        tell(tracker, 2, 4)  # a validation flushes
        assert len(recorded(folder)) == 6


def test_a_folder_that_cannot_be_written_is_refused(folder):
    with pytest.raises(InputError, match=f"cannot write {folder / 'missing'}: No such file"):
        Tracker(folder / "missing", 0, 1, wandb="disabled")


def test_a_full_disk_ends_the_run_and_hides_no_other_error(folder):
    def run(error):
        with Tracker(folder, 0, 1, wandb="disabled") as tracker:
            tracker._file.close()
            tracker._file = Path("/dev/full").open("ab")  # noqa: SIM115
            tracker.log_iteration(0, numbers(0))
            if error is not None:
                raise error

    with pytest.raises(InputError, match=f"cannot write {folder}: No space left on device"):
        run(None)
    with pytest.raises(KeyError):
        run(KeyError())


def test_others_are_silent(folder, capsys):
    with Tracker(folder, 0, 4, silent=True) as tracker:
        tell(tracker, 0, 4)
        tracker.message("hello")
        tracker.flush()
    assert [path.name for path in folder.iterdir()] == ["recipe.json"]
    assert capsys.readouterr().err == ""


def test_lines_tell_how_long_it_takes_whatever_compiles(folder, capsys, monkeypatch):
    clock = SimpleNamespace(now=0, time=lambda: 1.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("train.tracking.tracker.time", clock)
    with Tracker(folder, 10, 3600, wandb="disabled") as tracker:
        for i, clock.now in enumerate([100, 101, 102, 103, 134], 10):  # the first and the last iteration compile
            tracker.log_iteration(i, numbers(i))
    assert capsys.readouterr().err.splitlines() == [
        "stage 1: 11 of 3600 iterations, loss 0.0769, 40.0 frames/s, 99:41:40 left",
        "stage 1: 15 of 3600 iterations, loss 0.0588, 40.0 frames/s, 59:45 left",
    ]


def test_pictures_of_a_validation(folder):
    with Tracker(folder, 0, 1, wandb="disabled") as tracker:
        tracker.log_validation(0, {"validation/mad": 0.5}, [clip(0), clip(255)])
    sheet = np.asarray(Image.open(folder / "validation" / "0.png"))
    assert sheet.shape == (4 * 12, 2 * 16, 3)
    assert (sheet[0, 0], sheet[0, 16]) == (pytest.approx([0, 0, 0]), pytest.approx([255, 255, 255]))
    assert sheet[36, 0] == pytest.approx(validation_pictures.GREEN)  # nobody there
    assert sheet[36, 16] == pytest.approx([255, 255, 255])
    with av.open(str(folder / "validation" / "0.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(12, 4 * 16, 3)] * 3


def test_a_sheet_has_the_middle_frame_of_each_clip():
    clips = [
        ValidationClip(*(part + np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1) for part in clip(100 + i, 5)))
        for i in (0, 50)
    ]
    assert validation_pictures.sheet(clips)["matte"][0, :, 0, 0, 0].tolist() == [102, 152]
    assert validation_pictures.film(clips[1])["input"][0, :, 0, 0, 0].tolist() == [150, 151, 152, 153, 154]


def test_large_frames_become_thumbnails():
    large = ValidationClip(*(np.zeros((1, 500, 1000, c), np.uint8) for c in (3, 1, 3, 1)))
    assert {layer.shape for layer in validation_pictures.film(large).values()} == {(1, 1, 128, 256, 3)}


def test_pictures_that_cannot_be_written_cost_a_line(folder, capsys):
    (folder / "validation").write_text("in the way")
    with Tracker(folder, 0, 1, wandb="disabled") as tracker:
        tracker.log_validation(0, {"validation/mad": 0.5}, [clip(0)])
    assert recorded(folder) == [{"iteration": 0, "validation/mad": 0.5}]
    assert capsys.readouterr().err.startswith(f"cannot write {folder / 'validation' / '0.png'}: ")


def test_the_provenance_names_versions_and_revision(tmp_path):
    about = provenance.provenance()
    assert about["versions"]["jax"] == jax.__version__
    assert about["devices"] == "8 × cpu"
    assert provenance.revision(tmp_path) is None

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=b"]
        return subprocess.run(
            ["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True, text=True
        ).stdout

    (tmp_path / "file").write_text("old")
    for words in (["init"], ["add", "file"], ["commit", "-m", "first"], ["tag", "v1", "-m", "first"]):
        git(*words)
    head = git("rev-parse", "HEAD").strip()
    assert provenance.revision(tmp_path) == head
    (tmp_path / "file").write_text("new")
    assert provenance.revision(tmp_path) == f"{head}-dirty"


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
    assert first[0] == {"id": identity, "mode": "offline", "name": "run", "seed": 7}
    assert first[-1] == {"finished": True}
    shown = {
        f"validation/{kind}": str(folder / "validation" / f"6.{end}")
        for kind, end in (("sheet", "png"), ("film", "mp4"))
    }
    told = [{n: v for n, v in line.items() if n not in ("step", "time")} for line in first[1:-1]]
    assert told == [*recorded(folder)[:-1], recorded(folder)[-1] | shown]
    assert [line["step"] for line in first[1:-1]] == [line["iteration"] for line in recorded(folder)]

    with Tracker(folder, 6, 8, wandb="offline") as tracker:
        tell(tracker, 6, 8)
    second = fake()[len(first) :]
    assert second[0]["id"] == identity
    assert [line["step"] for line in second[1:-1]] == [6, 7, 8]
    written = capfd.readouterr()
    assert written.err.splitlines()[0] == f"W&B: offline, in {folder / 'wandb'}"
    assert written.out == ""  # the noise of the fake one, too


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
    told = [list(wandb_history(path)) for path in runs]
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


def wandb_history(path):
    """The rows of a .wandb file: protocol buffers in LevelDB's log format, whose blocks of 32 KB split them.

    W&B has no reader of it for others, and may change it. Then this is what has to be mended, and not the tracker.
    """
    internal = pytest.importorskip("wandb.proto.wandb_internal_pb2", reason="W&B has other protocol buffers now")
    data, position, parts = path.read_bytes(), len(WANDB_HEADER), b""
    if not data.startswith(WANDB_HEADER):
        pytest.skip(f"W&B {internal.__name__} writes another format now: {data[:7]!r}")
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        _, length, kind = struct.unpack("<IHB", data[position : position + 7]) if left >= 7 else (0, 0, 0)
        if kind == 0:
            position += left
            continue
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record, parts = internal.Record.FromString(parts), b""
            if record.WhichOneof("record_type") == "history":
                yield {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }
