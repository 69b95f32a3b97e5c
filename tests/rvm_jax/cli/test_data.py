"""`rvm data …`, as a person runs it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.builders import catalog
from data_pipelines.tools import check
from rvm_jax.cli.data import app
from rvm_jax.cli.main import main
from tests.data_pipelines import conftest, fake_archives, fake_free_archives

prepared = conftest.prepared


@pytest.fixture
def shoot(tmp_path) -> Path:
    """A folder in the plain layout, with two clips and two backgrounds."""
    folder = tmp_path / "shoot"
    fake_archives.write_pair(folder, "alice", [1, 2, 3])
    fake_archives.write_pair(folder, "bob", [4, 5, 6])
    for number in (1, 2):
        fake_archives.write_picture(folder / "backgrounds" / f"{number}.png", fake_archives.stamped(number))
    return folder


def run(*arguments) -> int:
    return main(["data", *map(str, arguments)])


def test_footage_is_checked_prepared_looked_at_and_measured(shoot, tmp_path, capsys):
    data = ("--data-dir", tmp_path / "data")
    assert run("check", "footage", "--folder", shoot, *data) == 0
    assert capsys.readouterr().out.startswith(
        "footage: ready (train 2, validation 1, backgrounds 2 clips or pictures) - matting clips of your own\n"
    )
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
    assert re.search(r"^\d+ threads: \d+ frames/s on ", output, re.M)
    assert re.search(r"^8 × 2000 frames/s need \d+ such cores \(", output, re.M)


def test_preparing_again_builds_nothing_unless_forced(shoot, tmp_path, capsys):
    command = ("prepare", "footage", "--folder", shoot, "--name", "mine", "--data-dir", tmp_path / "data")
    assert run(*command) == 0
    built = capsys.readouterr().out
    info = tmp_path / "data" / "footage" / "mine" / "1.0.0" / "dataset_info.json"
    made = info.stat().st_mtime_ns
    assert run(*command) == 0
    assert info.stat().st_mtime_ns == made
    assert capsys.readouterr().out == built.replace("/mine: ", "/mine was there already: ")
    assert run(*command, "--force") == 0
    assert info.stat().st_mtime_ns > made
    assert capsys.readouterr().out == built


def test_footage_made_from_other_files_is_told(shoot, tmp_path, capsys):
    def prepare(*more):
        return run("prepare", "footage", *more, "--data-dir", tmp_path / "data")

    assert prepare("--folder", shoot) == 0
    assert prepare("--folder", shoot.rename(tmp_path / "moved"), "--name", "shoot") == 0  # where it lies is no matter
    fake_archives.write_pair(tmp_path / "other", "zoe", [7])
    fake_archives.write_pair(tmp_path / "moved", "carol", [8])
    for folder in (tmp_path / "other", tmp_path / "moved"):
        capsys.readouterr()
        assert prepare("--folder", folder, "--name", "shoot") == 2
        assert capsys.readouterr() == (
            "",
            "rvm: footage/shoot was made from other files: give --force to build it anew, or another --name\n",
        )
    assert prepare("--folder", tmp_path / "other", "--name", "shoot", "--force") == 0
    assert capsys.readouterr().out.startswith("footage/shoot: train 1 (1 frames), ")


def test_backgrounds_are_looked_at_before_footage_is_built(shoot, tmp_path, capsys):
    for picture in (shoot / "backgrounds").iterdir():
        picture.unlink()
    assert run("check", "footage", "--folder", shoot) == 2
    output = capsys.readouterr().out
    assert output.startswith("footage: not ready (train 2, validation 1 clips or pictures)")
    assert f"  error: {shoot}/backgrounds has no pictures: " in output
    assert run("prepare", "footage", "--folder", shoot, "--data-dir", tmp_path / "data") == 2
    assert f"{shoot}/backgrounds has no pictures: " in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prepare", "coco"), "there is no dataset 'coco': choose all, synthetic or of video_matte_240k/sd, "),
        (("prepare",), "no dataset was named: choose all, synthetic or of "),
        (("preview",), "no dataset was named: give a matting dataset with backgrounds"),
        (("prepare", "footage"), "footage needs a folder: give --folder DIR, with fgr and pha in it"),
        (("prepare", "synthetic", "--name", "x"), "--name: only for footage, not for synthetic"),
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
    assert output.count(": not ready - ") == len(catalog.DATASETS)
    assert run("check", "image_matte", "dvm_backgrounds", *nowhere) == 2
    assert "not ready: image_matte, dvm_backgrounds; see above" in capsys.readouterr().err
    assert run("prepare", "all", *nowhere) == 2
    assert "none holds none of the datasets; `rvm data check` says what is expected" in capsys.readouterr().err
    assert run("prepare", "image_matte", *nowhere) == 2
    assert [path for path in tmp_path.rglob("*") if path.name.startswith("dataset_info")] == []


@pytest.fixture
def backgrounds(tmp_path) -> Path:
    """A manual folder with pictures without people."""
    for number in range(3):
        fake_archives.write_picture(
            tmp_path / "manual" / "backgrounds" / f"{number}.png", fake_archives.stamped(number)
        )
    return tmp_path / "manual"


def test_all_that_is_there_is_prepared(backgrounds, tmp_path, capsys):
    folders = ("--manual", backgrounds, "--data-dir", tmp_path / "data")
    assert run("check", *folders) == 0
    output = capsys.readouterr().out
    assert "background_images: ready (train 2, validation 1 clips or pictures)" in output
    assert "backgrounds has 3 pictures: add more" in output
    assert run("prepare", "all", *folders) == 0
    output = capsys.readouterr().out
    assert output.count("leaving out what is not there") == len(catalog.DATASETS) - 1
    assert output.splitlines()[-1].startswith("background_images: train 2 (2 frames), validation 1 (1 frames), ")
    assert run("check", "background_images", *folders) == 0
    assert "background_images: prepared - " in capsys.readouterr().out


def test_parts_that_are_there_are_shares_to_all(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("data_pipelines.tools.prepare.prepare", lambda name, *_, **__: f"made {name}")
    manual, folders = tmp_path / "manual", ("--manual", tmp_path / "manual", "--data-dir", tmp_path / "data")
    for part in (0, 1, 3):
        fake_free_archives.synthhuman(manual, part, 2)
    assert run("prepare", "all", *folders) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[-2:] == ["made synthhuman/0-1", "made synthhuman/3"]
    assert "faulty" not in output
    assert run("check", *folders) == 0
    assert "\nsynthhuman/0-1: ready (train 3, validation 1 " in capsys.readouterr().out
    assert run("check", "synthhuman", *folders) == 2
    assert "synthhuman lacks 57 of 60 zip files" in capsys.readouterr().out
    for share in ("0", "2-3", "5-7"):
        (tmp_path / "data" / "synthhuman" / share / "1.0.0" / "record").mkdir(parents=True)
    assert run("prepare", "all", *folders) == 0
    beside = [
        f"{line} train on one of them"
        for line in (
            "synthhuman/0-1 is made beside synthhuman/0, which has parts of it:",
            "synthhuman/3 is made beside synthhuman/2-3, which has parts of it:",
        )
    ]
    assert capsys.readouterr().out.splitlines()[-4:] == [*beside, "made synthhuman/0-1", "made synthhuman/3"]
    monkeypatch.setattr(check, "prepared_folder", lambda name, _: tmp_path if name == "synthhuman" else None)
    assert list(check.with_shares(["synthhuman"], manual, tmp_path)) == ["synthhuman"]


@pytest.mark.parametrize("there", [0, 60])
def test_all_parts_or_none_are_the_whole(there, tmp_path):
    (tmp_path / "synthhuman").mkdir()
    for number in range(there):
        (tmp_path / "synthhuman" / f"SynthHuman_{number:04d}.zip").touch()
    assert catalog.shares("synthhuman", tmp_path) == ["synthhuman"]


def test_a_bad_picture_is_one_line_and_leaves_nothing_that_looks_whole(backgrounds, tmp_path, capsys):
    data = tmp_path / "data"
    whole = (backgrounds / "backgrounds" / "1.png").read_bytes()
    (backgrounds / "backgrounds" / "1.png").write_bytes(whole[: len(whole) // 2])
    assert run("prepare", "background_images", "--manual", backgrounds, "--data-dir", data) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"rvm: {backgrounds}/backgrounds/1.png cannot be read as a picture, or it is damaged")
    assert list(data.rglob("dataset_info.json")) == []
    (backgrounds / "backgrounds" / "1.png").write_bytes(whole)
    assert run("prepare", "background_images", "--manual", backgrounds, "--data-dir", data) == 0


def test_a_mistake_costs_no_dataset(backgrounds, tmp_path, capsys):
    data = tmp_path / "data"
    command = ("prepare", "background_images", "--data-dir", data)
    assert run(*command, "--manual", backgrounds) == 0
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert run(*command, "--manual", f"{backgrounds}s", "--force") == 2
    assert f"{backgrounds}s/backgrounds has no pictures: " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    assert run(*command, "--manual", f"{backgrounds}s") == 0  # what is prepared needs its sources no more
    assert capsys.readouterr().out.startswith("background_images was there already: train 2 (2 frames), ")


def test_only_what_is_whole_passes_for_prepared(backgrounds, tmp_path, capsys):
    folders = ("--manual", backgrounds, "--data-dir", tmp_path / "data")
    version = tmp_path / "data" / "background_images" / "1.0.0"
    version.mkdir(parents=True)
    assert run("check", "background_images", *folders) == 0
    assert "background_images: ready " in capsys.readouterr().out
    assert run("prepare", "background_images", *folders) == 0
    assert capsys.readouterr().out.startswith("background_images: train 2 (2 frames), ")
    for name in ("dataset_info.json", "background_images-train.array_record-00000-of-00001"):
        (version / name).write_text("{")
        run("check", "background_images", *folders)
        output = capsys.readouterr().out
        assert "background_images: damaged - " in output
        assert f"  error: {version} is damaged (" in output
        for command in (("prepare", "background_images", *folders), ("preview", "background_images", *folders[2:])):
            assert run(*command) == 2
            error = capsys.readouterr().err
            assert error.startswith(f"rvm: {version} is damaged (")
            assert error.endswith("): build it anew with --force of `rvm data prepare`\n")
            assert error.count("\n") == 1
        assert run("prepare", "background_images", *folders, "--force") == 0
        assert capsys.readouterr().out.startswith("background_images: train 2 (2 frames), ")


def test_a_file_is_no_manual_folder(tmp_path, capsys):
    (tmp_path / "vid.mp4").touch()
    folders = ("--manual", tmp_path / "vid.mp4", "--data-dir", tmp_path / "data")
    for command in (("check",), ("check", "image_matte"), ("prepare", "video_matte_240k/sd"), ("prepare", "all")):
        assert run(*command, *folders) == 2
        assert capsys.readouterr() == (
            "",
            f"rvm: {tmp_path}/vid.mp4 is a file: give the folder in which the datasets lie, --manual DIR\n",
        )
    assert not (tmp_path / "data").exists()


PARTS = {
    "VideoMatte240K/train/fgr/0000/0.jpg": {"video_matte_240k/sd", "video_matte_240k/hd"},
    "VideoMatte240K_JPEG_SD/train/fgr/0000/0.jpg": {"video_matte_240k/sd"},
    "Combined_Dataset/Training_set/a.txt": {"image_matte"},
    "DVM/bg/tarin/0000.mp4": {"dvm_backgrounds"},
    "backgrounds/a.txt": {"background_images"},
    "youtube_vis_2021/train/JPEGImages/a.jpg": {"youtube_vis_2021"},
    "val2017.zip": {"coco_person", "coco_person/free"},
    "synthhuman/a.txt": {"synthhuman"},
    "pass/a.txt": {"pass_backgrounds"},
    "P3M-10k/a.txt": {"p3m_10k"},
    "BG-20k/a.txt": {"bg_20k"},
    "supervisely_person/a.txt": {"supervisely_person"},
}


@pytest.mark.parametrize("part", PARTS)
def test_what_is_there_in_part_is_not_absent(part, tmp_path):
    manual = tmp_path / "manual"

    def absent() -> set[str]:
        states = list(check.check(catalog.DATASETS, manual, tmp_path / "data"))
        assert {checked.state for checked in states} == {"not ready"}
        return {checked.name for checked in states if checked.absent}

    (manual / part).parent.mkdir(parents=True)
    (manual / part).touch()
    assert absent() == set(catalog.DATASETS) - PARTS[part]
    shutil.rmtree(manual)
    (manual / Path(part).parts[0]).mkdir(parents=True)  # with nothing in it
    assert absent() == set(catalog.DATASETS)


def test_what_is_ready_is_not_absent(backgrounds, tmp_path):
    [checked] = check.check(["background_images"], backgrounds, tmp_path / "data")
    assert (checked.state, checked.absent) == ("ready", False)


@pytest.mark.slow
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
    few_clips, few_pictures = done.stderr.splitlines()
    assert few_clips.startswith("warning: footage/shoot/1.0.0: alice is for training and for validation")
    told = f"warning: background_images/shoot/1.0.0: {shoot}/backgrounds has 2 pictures: add more"
    assert few_pictures.startswith(told)


def test_help_lists_a_line_a_command(capsys):
    with pytest.raises(SystemExit) as caught:
        app.cli(prog="rvm data", args=["--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [line.partition("•")[2].split()[0] for line in lines if "•" in line]
    assert commands == ["list", "show", "download", "check", "prepare", "preview", "testset", "bench"]
    first = next(number for number, line in enumerate(lines) if "•" in line)
    assert all("•" in line for line in lines[first : first + 8])


@pytest.mark.parametrize("command", ["list", "show", "download", "check", "prepare", "preview", "testset", "bench"])
def test_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as caught:
        run(command, "--help")
    assert caught.value.code == 0
    assert f"Example: rvm data {command} " in " ".join(capsys.readouterr().out.split())


def test_a_deep_check_finds_what_has_changed_since(shoot, tmp_path, capsys):
    data = ("--data-dir", tmp_path / "data")
    for number in range(3):
        fake_archives.write_picture(
            tmp_path / "manual" / "backgrounds" / f"{number}.png", fake_archives.stamped(number)
        )
    folders = ("--manual", tmp_path / "manual", *data)
    assert run("prepare", "background_images", *folders) == 0
    assert run("check", "background_images", "--deep", *folders) == 0
    [shard] = (tmp_path / "data").rglob("*train.array_record*")
    content = bytearray(shard.read_bytes())
    place = content.index(b"\xff\xd8") + 200  # inside the first JPEG
    content[place] ^= 255
    shard.write_bytes(content)
    capsys.readouterr()
    assert run("check", "background_images", *folders) == 0
    assert run("check", "--deep", *folders) == 2
    captured = capsys.readouterr()
    assert "is damaged: it cannot be read" in captured.out
    assert "not ready: background_images; see above for what is wrong" in captured.err


def test_prepared_footage_can_be_checked_by_its_name(shoot, tmp_path, capsys):
    data = ("--data-dir", tmp_path / "data")
    assert run("prepare", "footage", "--folder", shoot, *data) == 0
    names = ("footage/shoot", "background_images/shoot")
    capsys.readouterr()
    assert run("check", *names, "--deep", *data) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "footage/shoot: prepared - matting clips of your own",
        "background_images/shoot: prepared - background images: your own, without people",
    ]
    shard, *_ = sorted((tmp_path / "data" / "footage").rglob("*train.array_record*"))
    content = bytearray(shard.read_bytes())
    content[content.index(b"\xff\xd8") + 200] ^= 255
    shard.write_bytes(content)
    assert run("check", *names, "--deep", *data) == 2
    assert "not ready: footage/shoot; see above" in capsys.readouterr().err
    assert run("check", "footage/none", *data) == 2
    assert "there is no dataset 'footage/none'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--frames", 0), "--frames 0: expected more than 0"),
        (("--batch", 0), "--batch 0: expected more than 0"),
        (("--batches", -1), "--batches -1: expected more than 0"),
        (("--accelerator", -5), "--accelerator -5.0: expected more than 0"),
        (("--accelerators", 0), "--accelerators 0: expected more than 0"),
        (("--data-threads", 0), "--data-threads 0: expected 1 or more"),
        (("--data-processes", -1), "--data-processes -1: expected 0 or more"),
        (("--size", 0), "a square of 0 pixels: expected 16 or more"),
    ],
)
def test_a_bench_of_nothing_is_refused(prepared, arguments, message, capsys):
    names = ("synthetic/tiny_matting_clips", "synthetic/tiny_background_images")
    assert run("bench", *names, "--data-dir", prepared, "--frames", 2, "--size", 32, *arguments) == 2
    assert capsys.readouterr().err == f"rvm: {message}\n"


def test_what_is_there_but_faulty_is_not_passed_over(tmp_path, capsys):
    manual = tmp_path / "manual"
    for number in range(3):
        fake_archives.write_picture(manual / "backgrounds" / f"{number}.png", fake_archives.stamped(number))
    clips = manual / "VideoMatte240K_JPEG_SD" / "train"
    fake_archives.write_picture(clips / "fgr" / "0001" / "00000.jpg", fake_archives.stamped(1))
    assert run("prepare", "all", "--manual", manual, "--data-dir", tmp_path / "data") == 2
    captured = capsys.readouterr()
    assert "leaving out what is faulty:\nvideo_matte_240k/sd: not ready" in captured.out
    assert "\nbackground_images: train 2 (2 frames)" in captured.out  # what can be done is done
    assert captured.err.splitlines()[-1].startswith("rvm: video_matte_240k/sd could not be prepared: see above")


def test_datasets_are_listed_with_their_licences(prepared, capsys):
    assert run("list", "--data-dir", prepared) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["DATASET", "COMMERCIAL", "PREPARED", "FOR", "LICENCE"]
    first_words = {line.split()[0]: line.split()[1:3] for line in lines[1:-2]}
    assert first_words["synthhuman"] == ["yes", "-"]
    assert first_words["supervisely_person"] == ["no", "-"]
    assert lines[1].startswith("synthhuman ")
    assert lines[-3].split()[1] == "no"


def test_a_dataset_is_shown_with_what_its_owner_lets_people_do(shoot, tmp_path, capsys):
    data = ("--data-dir", tmp_path / "data")
    run("prepare", "footage", "--folder", shoot, *data)
    folder = tmp_path / "data/footage/shoot/1.0.0"
    (folder / "licence.json").write_text('{"name": "mine", "link": "", "commercial": "yes", "attribution": "me"}')
    run("prepare", "footage", "--folder", shoot, "--force", *data)
    capsys.readouterr()
    assert run("show", "footage/shoot", "coco_person", "youtubematte/512x288", *data) == 0
    mine, coco, test_set = capsys.readouterr().out.split("\n\n")
    assert "commercial use  yes" in mine
    assert f"prepared        train 2, validation 1 in {folder}" in mine
    assert "commercial use  no" in coco
    assert "`rvm data check coco_person` tells what to ask for" in coco
    assert "prepared        never: `rvm data testset youtubematte/512x288` writes it" in test_set
