"""Folders of videos, patterns, and names with dots."""

from pathlib import Path

import pytest

from rvm_jax.cli import matte_names
from rvm_jax.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_a_folder_of_videos_is_its_videos(tmp_path):
    clips = touch(tmp_path / "clips", "b.MP4", "a.mov", ".hidden.mp4", "notes.txt")
    assert matte_names.inputs([str(clips), "webcam"]) == [str(clips / "a.mov"), str(clips / "b.MP4"), "webcam"]


def test_a_folder_of_pictures_is_one_input(tmp_path):
    frames = touch(tmp_path / "frames", "0001.png", "0002.png")
    assert matte_names.inputs([str(frames)]) == [str(frames)]
    assert matte_names.inputs([str(tmp_path / "none")]) == [str(tmp_path / "none")]


def test_a_folder_of_both_is_refused(tmp_path):
    card = touch(tmp_path / "card", "a.mp4", "b.jpg")
    with pytest.raises(InputError, match=r"card holds pictures and videos: name the videos, as in .*card/\*.mp4"):
        matte_names.inputs([str(card)])


def test_patterns_are_looked_up_where_no_shell_has(tmp_path):
    clips = touch(tmp_path / "clips", "b.mp4", "a.mp4", "c.mov", "odd[1].mp4")
    assert matte_names.inputs([f"{clips}/[ab].mp4"]) == [str(clips / "a.mp4"), str(clips / "b.mp4")]
    assert matte_names.inputs([f"{clips}/*.mkv"]) == [f"{clips}/*.mkv"]
    assert matte_names.inputs([f"{clips}/odd[1].mp4"]) == [f"{clips}/odd[1].mp4"]
    assert matte_names.inputs(["http://127.0.0.1/live?a=1"]) == ["http://127.0.0.1/live?a=1"]


def test_names_with_dots_are_whole(tmp_path):
    takes = [str(touch(tmp_path / name)) for name in ("take1.1", "take1.2", "take3.mp4")]
    given = [*takes, "shot.v2.mov", "still.tif", "photo.heic", "-"]
    outs = [Path(matte_names.output("mattes/{name}.mov", name, given)).name for name in given]
    assert outs == ["take1.1.mov", "take1.2.mov", "take3.mp4.mov", "shot.v2.mov", "still.mov", "photo.mov", "stdin.mov"]
