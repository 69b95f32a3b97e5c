"""Building: whole or not at all, and an interrupted build goes on where it was."""

import contextlib
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipelines.builders import clip_builder, worker_pool
from data_pipelines.builders.background_images import archive as background_images
from data_pipelines.builders.background_images.background_images_dataset_builder import Builder as Backgrounds
from data_pipelines.builders.clip_builder import FolderConfig
from data_pipelines.builders.footage.footage_dataset_builder import Builder
from data_pipelines.records import clips
from data_pipelines.tools import prepare
from rvm_jax.errors import InputError
from tests.data_pipelines import fake_archives
from tests.data_pipelines.building import build, numbers, opened


@pytest.fixture
def folder(tmp_path) -> Path:
    for first in (0, 10, 20):
        fake_archives.write_pair(tmp_path / "footage", f"clip{first}", range(first, first + 4))
    return tmp_path / "footage"


def builder(folder: Path, data: Path, **options) -> Builder:
    return Builder(config=FolderConfig(name="mine", folder=folder), data_dir=data, **options)


def left(data: Path) -> list[str]:
    """What lies beside the versions of the dataset, and these."""
    return sorted(path.name for path in (data / "footage" / "mine").iterdir())


def assert_whole(data: Path) -> None:
    built = builder(Path("nowhere"), data)
    assert numbers(opened(built, "train"), "foreground") == {
        "footage/mine/clip10": [10, 11, 12, 13],
        "footage/mine/clip20": [20, 21, 22, 23],
    }
    assert numbers(opened(built, "validation"), "alpha") == {"footage/mine/clip0": [0, 1, 2, 3]}
    assert left(data) == ["1.0.0"]


def test_nothing_is_left_beside_a_whole_dataset(folder, tmp_path):
    build(builder(folder, tmp_path / "data"))
    assert_whole(tmp_path / "data")
    build(builder(Path("nowhere"), tmp_path / "data"))  # it is there, so nothing is to be done
    assert_whole(tmp_path / "data")


def test_clips_stay_in_order_over_several_shards(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_builder, "SHARD_BYTES", 1)
    for first in (30, 40, 50):
        fake_archives.write_pair(folder, f"clip{first}", range(first, first + 4))
    built = builder(folder, tmp_path / "data")
    build(built)
    assert built.info.splits["train"].shard_lengths == [4] * 5
    shown = numbers(opened(built, "train"), "foreground")
    assert list(shown.values()) == [list(range(first, first + 4)) for first in (10, 20, 30, 40, 50)]


def test_shards_are_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(clip_builder, "SHARD_BYTES", 6)
    files = [tmp_path / str(place) for place in range(6)]
    for file, size in zip(files, (3, 3, 1, 10, 4, 2), strict=True):
        file.write_bytes(bytes(size))
    assert clip_builder._shards(files) == [files[:2], files[2:3], files[3:4], files[4:]]
    assert clip_builder._shards([]) == []


def test_an_error_leaves_no_half_dataset_and_keeps_finished_clips(folder, tmp_path, monkeypatch):
    data = tmp_path / "data"
    bad = folder / "pha" / "clip20" / "00002.jpg"
    good = bad.read_bytes()
    bad.write_bytes(good[:-200])
    monkeypatch.setenv("RVM_WORKERS", "1")
    attempt = builder(folder, data)
    with pytest.raises(InputError, match=rf"^{bad} cannot be read as a picture, or it is damaged"):
        build(attempt)
    assert left(data) == [".clips-1.0.0"]
    finished = {path: path.stat().st_mtime_ns for path in (data / "footage/mine/.clips-1.0.0").iterdir()}
    assert finished
    bad.write_bytes(good)
    kept = {}
    prepare = worker_pool.prepare

    def observed(*args, **options):
        files = prepare(*args, **options)
        kept.update({path: path.stat().st_mtime_ns for paths in files.values() for path in paths})
        return files

    monkeypatch.setattr(worker_pool, "prepare", observed)
    build(attempt)  # the same builder can be used again
    assert finished.items() <= kept.items()
    assert_whole(data)


def test_an_error_while_packing_leaves_no_half_dataset(folder, tmp_path, monkeypatch):
    """TFDS adds to the message of what a generator raises; it is still an InputError."""
    read = worker_pool.read

    def broken(file):
        yield from read(file)
        raise InputError("the scratch file is gone")

    with monkeypatch.context() as patch:
        patch.setattr(worker_pool, "read", broken)
        with pytest.raises(InputError, match="the scratch file is gone"):
            build(builder(folder, tmp_path / "data"))
    assert left(tmp_path / "data") == [".clips-1.0.0"]
    build(builder(folder, tmp_path / "data"))
    assert_whole(tmp_path / "data")


BUILD = """
import sys, time
from pathlib import Path

folder, data = map(Path, sys.argv[1:3])

def slow(file):
    yield from read(file)
    (data / "packing").touch()
    time.sleep(60)

if __name__ == "__main__":  # workers come here too, and need nothing of this
    from data_pipelines.builders import scratch
    from data_pipelines.builders.clip_builder import FolderConfig
    from data_pipelines.builders.footage.footage_dataset_builder import Builder
    from tests.data_pipelines.building import build
    read, scratch.read = scratch.read, slow
    build(Builder(config=FolderConfig(name="mine", folder=folder), data_dir=data, anew=sys.argv[3] == "anew"))
"""


@contextlib.contextmanager
def packing(folder: Path, data: Path, how: str = "first"):
    """A process that packs the dataset, and is killed at the end of the block."""
    script = data.parent / "build.py"
    script.write_text(BUILD)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, script, folder, data, how]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not (data / "packing").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_killed_build_can_be_run_again(folder, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with (
        packing(folder, data),
        pytest.raises(InputError, match=r"footage/mine/1\.0\.0 is being prepared by another process"),
    ):
        build(builder(folder, data))
    finished, lock, incomplete = left(data)
    assert (finished, lock) == (".clips-1.0.0", ".lock")
    assert incomplete.startswith("incomplete.")
    assert not builder(folder, data).info.splits
    build(builder(folder, data))
    assert_whole(data)


def test_a_full_disk_is_named_while_packing(folder, tmp_path, monkeypatch):
    prepare = worker_pool.prepare
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def then_full(*args, **options):
        files = prepare(*args, **options)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
        return files

    monkeypatch.setattr(worker_pool, "prepare", then_full)
    try:
        with pytest.raises(InputError, match=rf"cannot prepare {tmp_path}/data/footage/mine/1\.0\.0.*: File too large"):
            build(builder(folder, tmp_path / "data"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left(tmp_path / "data") == [".clips-1.0.0"]


def test_a_folder_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "data").write_text("a file")
    named = rf"cannot prepare {tmp_path}/data/footage/mine/1\.0\.0: {tmp_path}/data/footage.*: Not a directory$"
    with pytest.raises(InputError, match=named):
        build(builder(folder, tmp_path / "data"))


def test_two_builds_at_the_same_time_are_refused(folder, tmp_path):
    lock = tmp_path / "data" / "footage" / "mine" / ".lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="is being prepared by another process: wait"):
            build(builder(folder, tmp_path / "data"))
    build(builder(folder, tmp_path / "data"))
    assert_whole(tmp_path / "data")


def test_the_lock_of_a_process_that_ended_meanwhile_is_not_taken(folder, tmp_path, monkeypatch):
    """Between opening the lock and locking it, its owner may remove it, and another process make a new one."""
    lock = tmp_path / "data" / "footage" / "mine" / ".lock"
    flock = fcntl.flock

    def late(file, operation):
        lock.unlink()
        lock.touch()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(InputError, match="is being prepared by another process: wait"):
        build(builder(folder, tmp_path / "data"))
    assert left(tmp_path / "data") == [".lock"]


def test_an_empty_folder_is_no_dataset(folder, tmp_path):
    (tmp_path / "data" / "footage" / "mine" / "1.0.0").mkdir(parents=True)
    build(builder(folder, tmp_path / "data"))
    assert_whole(tmp_path / "data")


# Building anew


def other(folder: Path) -> Path:
    """Footage of two clips, which are too few for a split of validation."""
    for name, first in (("dora", 30), ("erik", 40)):
        fake_archives.write_pair(folder, name, [first, first + 1])
    return folder


def assert_other(data: Path) -> None:
    again = builder(Path("nowhere"), data)
    assert numbers(opened(again, "train"), "foreground") == {
        "footage/mine/dora": [30, 31],
        "footage/mine/erik": [40, 41],
    }
    assert list(again.info.splits) == list(again.info.metadata["clips"]) == ["train"]
    assert left(data) == ["1.0.0"]


def test_a_new_dataset_takes_the_place_of_the_old_one(folder, tmp_path):
    data = tmp_path / "data"
    build(builder(folder, data))
    made = builder(other(tmp_path / "other"), data, anew=True)
    build(made)
    assert_other(data)
    assert Path(made.data_dir).name == "1.0.0"
    assert all(path.exists() for path in made.info.splits["train"].filepaths)
    assert len(made.as_data_source("train")) == 4
    build(made)  # it is there now
    assert_other(data)


def test_one_is_built_anew_though_there_is_none_or_it_is_damaged(folder, tmp_path):
    data = tmp_path / "data"
    build(builder(folder, data, anew=True))
    assert_whole(data)
    (data / "footage" / "mine" / "1.0.0" / "dataset_info.json").write_text("{")
    build(builder(folder, data, anew=True))
    assert_whole(data)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, InputError("the scratch file is gone"), OSError(28, "full")])
def test_the_old_one_stays_if_the_new_one_fails(folder, tmp_path, monkeypatch, fault):
    data = tmp_path / "data"
    build(builder(folder, data))
    with pytest.raises(InputError, match="nowhere has no folder fgr"):
        build(builder(tmp_path / "nowhere", data, anew=True))
    assert_whole(data)

    def broken(file):
        raise fault

    other(tmp_path / "other")
    with monkeypatch.context() as patch:
        patch.setattr(worker_pool, "read", broken)
        with pytest.raises(KeyboardInterrupt if fault is KeyboardInterrupt else InputError):
            build(builder(tmp_path / "other", data, anew=True))
    shutil.rmtree(data / "footage" / "mine" / ".clips-1.0.0")  # what was finished
    assert_whole(data)
    build(builder(tmp_path / "other", data, anew=True))
    assert_other(data)


def test_the_old_one_stays_if_the_new_one_cannot_take_its_place(folder, tmp_path, monkeypatch):
    data = tmp_path / "data"
    build(builder(folder, data))
    other(tmp_path / "other")
    rename = Path.rename

    def interrupted(path, target):
        if path.name.startswith(".new"):
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(builder(tmp_path / "other", data, anew=True))
    assert left(data) == [".clips-1.0.0", ".new-1.0.0", "1.0.0"]
    build(builder(folder, data))
    assert left(data) == ["1.0.0"]
    assert_whole(data)


@pytest.mark.slow
def test_the_old_one_stays_if_the_process_is_killed(folder, tmp_path):
    data = tmp_path / "data"
    build(builder(folder, data))
    with packing(other(tmp_path / "other"), data, "anew"):
        assert "1.0.0" in left(data)
    assert set(clips.open_prepared(data / "footage" / "mine" / "1.0.0").tables) == {"train", "validation"}
    build(builder(folder, data))
    assert_whole(data)


def test_the_old_one_is_put_back_after_a_kill_in_the_exchange(folder, tmp_path):
    data = tmp_path / "data"
    build(builder(folder, data))
    home = data / "footage" / "mine"
    (home / "1.0.0").rename(home / ".old-1.0.0")
    shutil.copytree(home / ".old-1.0.0", home / ".new-1.0.0")
    build(builder(Path("nowhere"), data))
    assert_whole(data)


# Before anything is written


def test_a_mistake_leaves_nothing_behind(tmp_path, monkeypatch):
    data = tmp_path / "made" / "data"
    with pytest.raises(InputError, match="nowhere has no folder VideoMatte240K"):
        prepare.prepare("video_matte_240k/sd", tmp_path / "nowhere", data)
    monkeypatch.setenv("RVM_WORKERS", "abc")
    with pytest.raises(InputError, match="RVM_WORKERS is 'abc'"):
        prepare.prepare("synthetic/background_images", tmp_path, data)
    monkeypatch.delenv("RVM_WORKERS")
    for number in range(2):
        picture = fake_archives.write_picture(tmp_path / "backgrounds" / f"{number}.png", fake_archives.stamped(number))
        picture.write_bytes(picture.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"0\.png cannot be read as a picture"):
        prepare.prepare("background_images", tmp_path, data)
    assert not data.parent.exists()


def test_the_builder_says_whether_an_empty_manual_folder_will_do(tmp_path, monkeypatch):
    for number in range(2):
        fake_archives.write_picture(
            tmp_path / "elsewhere" / "backgrounds" / f"{number}.png", fake_archives.stamped(number)
        )
    manual = tmp_path / "manual"
    for make in (lambda: None, manual.mkdir):
        make()
        with pytest.raises(InputError) as caught:
            build(Backgrounds(data_dir=tmp_path / "data"), manual)
        first, second = str(caught.value).splitlines()
        assert first == "background_images/1.0.0 cannot be prepared:"
        assert second.startswith(f"{manual}/backgrounds has no pictures: put pictures")
    monkeypatch.setattr(Backgrounds, "find", lambda self, manual: background_images.find(tmp_path / "elsewhere"))
    build(Backgrounds(data_dir=tmp_path / "data"), manual)
    assert clips.open_prepared(tmp_path / "data" / "background_images" / "1.0.0").tables["train"]["length"] == [1]


def test_a_dataset_keeps_a_fingerprint_of_what_it_was_made_from(folder, tmp_path):
    def fingerprint(folder):
        return clip_builder.fingerprint(builder(folder, tmp_path / "data").find(folder).splits)

    build(builder(folder, tmp_path / "data"))
    kept = clips.open_prepared(tmp_path / "data" / "footage" / "mine" / "1.0.0").sources
    assert kept == fingerprint(folder)
    moved = folder.rename(tmp_path / "moved")
    assert fingerprint(moved) == kept
    picture = moved / "pha" / "clip20" / "00002.jpg"
    status = picture.stat()
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprint(moved) != kept
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(moved) == kept
    (moved / "fgr" / "clip20").rename(moved / "fgr" / "clip21")
    (moved / "pha" / "clip20").rename(moved / "pha" / "clip21")
    assert fingerprint(moved) != kept


def test_only_what_is_made_from_a_folder_of_ones_own_keeps_one(tmp_path):
    for number in range(2):
        fake_archives.write_picture(
            tmp_path / "manual" / "backgrounds" / f"{number}.png", fake_archives.stamped(number)
        )
    build(Backgrounds(data_dir=tmp_path / "data"), tmp_path / "manual")
    assert clips.open_prepared(tmp_path / "data" / "background_images" / "1.0.0").sources is None
