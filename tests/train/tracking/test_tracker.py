"""What a run tells: the record that a resume makes whole again, pictures, and lines."""

import json
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
from tests.train.tracking import telling
from tests.train.tracking.telling import clip, numbers, recorded, tell
from train.device.evaluation import ValidationClip
from train.tracking import metrics_file, provenance, validation_pictures
from train.tracking.tracker import Tracker

folder = telling.folder


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


def test_lines_tell_the_speed_of_the_stage_alone(folder, capsys, monkeypatch):
    clock = SimpleNamespace(now=0, time=lambda: 1.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("train.tracking.tracker.time", clock)
    stages = [(1, 10, 40.0)] * 3 + [(2, 100, 4.0)]
    with Tracker(folder, 0, 13, wandb="disabled") as tracker:
        for i, (stage, seconds, rate) in enumerate(stages):
            clock.now += seconds
            tracker.log_iteration(i, {**numbers(i), "stage": stage, "frames_per_second": rate})
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("stage 2: 4 of 13 iterations, ")
    assert last.endswith(" 4.0 frames/s, 15:00 left")


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


def test_a_session_on_other_devices_or_with_other_flags_is_told(folder, monkeypatch):
    assert provenance.changes(folder) == []
    assert len(jax.devices()) == 8  # XLA reads its flags now, and not those below
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=4 --xla_cpu_enable_fast_math=false")
    with Tracker(folder, 0, 1, wandb="disabled"):
        pass
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false --xla_gpu_autotune_level=4")  # in another order
    assert provenance.changes(folder) == []
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:4])
    assert provenance.changes(folder) == [
        "it goes on with other rounding, not bit for bit (devices: 8 × cpu before, 4 × cpu now; "
        "xla flags: --xla_cpu_enable_fast_math=false --xla_gpu_autotune_level=4 before, "
        "--xla_cpu_enable_fast_math=false now)"
    ]


def test_a_session_of_an_earlier_version_has_no_flags(folder):
    earlier = {name: value for name, value in provenance.provenance().items() if name != "xla_flags"}
    metrics_file.add_session(folder / metrics_file.SESSIONS, earlier)
    assert provenance.changes(folder) == []


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
