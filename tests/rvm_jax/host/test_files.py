"""Replacing files and folders: all or nothing."""

import shutil
from pathlib import Path

import pytest

from rvm_jax.errors import InputError
from rvm_jax.host.files import recording, replacing


def fill(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "note").write_text(text)
    return path


def test_files_and_folders_take_their_name_at_the_end(tmp_path):
    with replacing(tmp_path / "a" / "file") as partial:
        partial.write_text("new")
        assert not (tmp_path / "a" / "file").exists()
    assert (tmp_path / "a" / "file").read_text() == "new"
    old = fill(tmp_path / "folder", "old")
    with replacing(old, overwrite=True) as partial:
        fill(partial, "new")
        assert (old / "note").read_text() == "old"
    assert (old / "note").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    folder = fill(tmp_path / "folder", "kept")
    refused = pytest.raises(InputError, match="folder is a folder: give the name of a file")
    with refused, replacing(folder, overwrite=True) as partial:
        partial.write_text("new")
    assert (folder / "note").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_threads_still_write_after_a_failure_is_removed_too(tmp_path, monkeypatch):
    """TensorStore's do, when a disk is full: a folder is not empty again at the moment when it is to be removed."""
    remove, calls = shutil.rmtree, 0

    def remove_at_last(path, ignore_errors):
        nonlocal calls
        calls += 1
        if calls > 2:
            remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", remove_at_last)

    def fail():
        with replacing(tmp_path / "new") as partial:
            fill(partial, "half")
            raise KeyError("full")

    with pytest.raises(KeyError, match="full"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_replaced_stays(tmp_path):
    old = fill(tmp_path / "folder", "old")
    with pytest.raises(InputError, match="cannot write"), replacing(old, overwrite=True):
        pass  # nothing was written, so there is nothing to take the name
    assert (old / "note").read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]


def test_other_errors_pass_and_leave_nothing(tmp_path):
    def interrupted() -> None:
        with replacing(tmp_path / "a" / "b" / "file") as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with replacing(tmp_path / "link", overwrite=True) as partial:
        partial.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_what_failed_takes_its_name_if_it_is_to_be_kept(tmp_path):
    def fail(keep: bool) -> None:
        with replacing(tmp_path / "a", overwrite=True, keep=lambda: keep) as path:
            path.write_text("half")
            raise KeyError

    (tmp_path / "a").write_text("old")
    for keep, text in ((False, "old"), (True, "half")):
        with pytest.raises(KeyError):
            fail(keep)
        assert (tmp_path / "a").read_text() == text
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("keep", [True, False])
def test_a_recording_is_there_from_the_beginning(tmp_path, keep):
    def fail() -> None:
        with recording(tmp_path / "new" / "a", keep=lambda: keep) as path:
            path.write_text("first")
            assert (tmp_path / "new" / "a").read_text() == "first"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (tmp_path / "new" / "a").exists() == keep


def test_a_recording_replaces_only_what_it_may(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").touch()
    with pytest.raises(InputError, match="exists already"), recording(tmp_path / "a", keep=lambda: True):
        pass
    assert (tmp_path / "a" / "b").exists()
    with recording(tmp_path / "a", overwrite=True, keep=lambda: True) as path:
        assert not path.exists()
        path.mkdir()
    assert list((tmp_path / "a").iterdir()) == []
