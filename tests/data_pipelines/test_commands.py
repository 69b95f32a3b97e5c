"""`rvm data …`, as a person runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rvm_jax.cli import main
from tests.data_pipelines import archives


@pytest.fixture
def shoot(tmp_path) -> Path:
    """A folder in the plain layout, with two clips and two backgrounds."""
    folder = tmp_path / "shoot"
    archives.write_pair(folder, "alice", [1, 2, 3])
    archives.write_pair(folder, "bob", [4, 5, 6])
    for number in (1, 2):
        archives.write_picture(folder / "backgrounds" / f"{number}.png", archives.stamped(number))
    return folder


def run(*arguments) -> int:
    return main(["data", *map(str, arguments)])


def test_footage_is_checked_prepared_looked_at_and_measured(shoot, tmp_path, capsys):
    data = ("--data-dir", tmp_path / "data")
    assert run("check", "footage", "--folder", shoot, *data) == 0
    assert "footage: ready (train 2 clips or pictures) - matting clips of your own" in capsys.readouterr().out
    assert run("prepare", "footage", "--folder", shoot, *data) == 0
    footage, backgrounds = capsys.readouterr().out.splitlines()
    assert footage.startswith("footage/shoot: train 2 (6 frames), ")
    assert backgrounds.startswith("background_images/shoot: train 1 (1 frames), validation 1 (1 frames), ")
    names = ("footage/shoot", "background_images/shoot")
    assert run("preview", *names, *data, "--out", tmp_path / "see", "--clips", 2, "--frames", 3, "--size", 64) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "see" / name) for name in ("grid.png", "clips.mp4")]
    assert run("bench", *names, *data, "--frames", 3, "--size", 64, "--batch", 2, "--batches", 2) == 0
    output = capsys.readouterr().out
    assert output.startswith("stage ")
    assert "an accelerator that takes 2000 frames/s needs " in output


def test_preparing_again_builds_nothing_unless_forced(shoot, tmp_path, capsys):
    command = ("prepare", "footage", "--folder", shoot, "--name", "mine", "--data-dir", tmp_path / "data")
    assert run(*command) == 0
    info = tmp_path / "data" / "footage" / "mine" / "1.0.0" / "dataset_info.json"
    made = info.stat().st_mtime_ns
    assert run(*command) == 0
    assert info.stat().st_mtime_ns == made
    assert run(*command, "--force") == 0
    assert info.stat().st_mtime_ns > made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prepare", "coco"), "there is no dataset 'coco': choose all, synthetic or of video_matte_240k/sd, "),
        (("prepare",), "no dataset was named: choose all, synthetic or of "),
        (("preview",), "no dataset was named: give a matting dataset with backgrounds"),
        (("prepare", "footage"), "footage needs a folder: give --folder DIR, with fgr and pha in it"),
        (("prepare", "synthetic", "--name", "x"), "--folder and --name are for footage, and not for synthetic"),
        (("check", "footage"), "footage needs a folder"),
        (("preview", "footage/none"), "footage/none is not prepared in "),
        (("bench", "footage/none"), "footage/none is not prepared in "),
    ],
)
def test_what_the_user_has_to_mend_is_one_line_and_status_2(arguments, message, tmp_path, capsys):
    assert run(*arguments, "--data-dir", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rvm: {message}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_cannot_be_a_folder_is_refused(shoot, tmp_path, capsys):
    assert run("prepare", "footage", "--folder", shoot, "--name", "../x", "--data-dir", tmp_path / "data") == 2
    assert "'../x' cannot name a dataset: use letters" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_nothing_there_is_told_dataset_by_dataset(tmp_path, capsys):
    nowhere = ("--manual", tmp_path / "none", "--data-dir", tmp_path)
    assert run("check", *nowhere) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"looking in {tmp_path}/none, which does not exist\n")
    assert output.count(": not ready - ") == 8
    assert run("check", "image_matte", "dvm_backgrounds", *nowhere) == 2
    assert "not ready: image_matte, dvm_backgrounds; see above" in capsys.readouterr().err
    assert run("prepare", "all", *nowhere) == 2
    assert "none holds none of the datasets; `rvm data check` says what is expected" in capsys.readouterr().err
    assert run("prepare", "image_matte", *nowhere) == 2
    assert [path for path in tmp_path.rglob("*") if path.name.startswith("dataset_info")] == []


def test_all_that_is_there_is_prepared(tmp_path, capsys):
    manual, data = tmp_path / "manual", tmp_path / "data"
    for number in range(3):
        archives.write_picture(manual / "backgrounds" / f"{number}.png", archives.stamped(number))
    folders = ("--manual", manual, "--data-dir", data)
    assert run("check", *folders) == 0
    output = capsys.readouterr().out
    assert "background_images: ready (train 2, validation 1 clips or pictures)" in output
    assert "backgrounds has 3 pictures: add more" in output
    assert run("prepare", "all", *folders) == 0
    output = capsys.readouterr().out
    assert output.count("leaving out what is not there") == 7
    assert output.splitlines()[-1].startswith("background_images: train 2 (2 frames), validation 1 (1 frames), ")
    assert run("check", "background_images", *folders) == 0
    assert "background_images: prepared - " in capsys.readouterr().out


def test_a_bad_picture_is_one_line_and_leaves_nothing_that_looks_whole(tmp_path, capsys):
    manual, data = tmp_path / "manual", tmp_path / "data"
    for number in range(3):
        archives.write_picture(manual / "backgrounds" / f"{number}.png", archives.stamped(number))
    whole = (manual / "backgrounds" / "1.png").read_bytes()
    (manual / "backgrounds" / "1.png").write_bytes(whole[: len(whole) // 2])
    assert run("prepare", "background_images", "--manual", manual, "--data-dir", data) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"rvm: {manual}/backgrounds/1.png cannot be read as a picture, or it is damaged")
    assert list(data.rglob("dataset_info.json")) == []
    (manual / "backgrounds" / "1.png").write_bytes(whole)
    assert run("prepare", "background_images", "--manual", manual, "--data-dir", data) == 0


def test_a_command_says_nothing_but_its_own(shoot, tmp_path):
    """TensorFlow and TFDS greet, warn and report when they start."""
    command = [Path(sys.executable).parent / "rvm", "data", "prepare", "footage", "--folder", shoot]
    done = subprocess.run(
        [*command, "--data-dir", tmp_path / "data"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "RVM_WORKERS": "1"},
    )
    assert len(done.stdout.splitlines()) == 2
    assert [line.split(":")[0] for line in done.stderr.splitlines() if not line.startswith("WARNING")] == [
        "preparing"
    ] * 2


@pytest.mark.parametrize("command", ["check", "prepare", "preview", "bench"])
def test_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as caught:
        run(command, "--help")
    assert caught.value.code == 0
    assert f"Example: rvm data {command} " in " ".join(capsys.readouterr().out.split())
