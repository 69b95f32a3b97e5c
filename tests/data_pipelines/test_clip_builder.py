"""Building: whole or not at all, and an interrupted build goes on where it was."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipelines.builders import clip_builder, scratch
from data_pipelines.builders.clip_builder import FolderConfig
from data_pipelines.builders.footage.footage_dataset_builder import Builder
from rvm_jax.errors import InputError
from tests.data_pipelines import archives
from tests.data_pipelines.building import build, numbers, opened


@pytest.fixture
def folder(tmp_path) -> Path:
    for first in (0, 10, 20):
        archives.write_pair(tmp_path / "footage", f"clip{first}", range(first, first + 4))
    return tmp_path / "footage"


def builder(folder: Path, data: Path) -> Builder:
    return Builder(config=FolderConfig(name="mine", folder=folder), data_dir=data)


def left(data: Path) -> list[str]:
    """What lies beside the versions of the dataset, and these."""
    return sorted(path.name for path in (data / "footage" / "mine").iterdir() if path.name != ".lock")


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


def test_clips_stay_in_order_over_several_shards(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_builder, "SHARD_BYTES", 1)
    for first in (30, 40, 50):
        archives.write_pair(folder, f"clip{first}", range(first, first + 4))
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
    prepare = scratch.prepare

    def observed(*args, **options):
        files = prepare(*args, **options)
        kept.update({path: path.stat().st_mtime_ns for paths in files.values() for path in paths})
        return files

    monkeypatch.setattr(scratch, "prepare", observed)
    build(attempt)  # the same builder can be used again
    assert finished.items() <= kept.items()
    assert_whole(data)


def test_an_error_while_packing_leaves_no_half_dataset(folder, tmp_path, monkeypatch):
    """TFDS adds to the message of what a generator raises; it is still an InputError."""
    read = scratch.read

    def broken(file):
        yield from read(file)
        raise InputError("the scratch file is gone")

    with monkeypatch.context() as patch:
        patch.setattr(scratch, "read", broken)
        with pytest.raises(InputError, match="the scratch file is gone"):
            build(builder(folder, tmp_path / "data"))
    assert left(tmp_path / "data") == [".clips-1.0.0"]
    build(builder(folder, tmp_path / "data"))
    assert_whole(tmp_path / "data")


BUILD = """
import sys, time
from pathlib import Path

folder, data = map(Path, sys.argv[1:])

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
    build(Builder(config=FolderConfig(name="mine", folder=folder), data_dir=data))
"""


def test_a_killed_build_can_be_run_again(folder, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, script, folder, data], env=environment, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not (data / "packing").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        with pytest.raises(InputError, match=r"footage/mine/1\.0\.0 is being prepared by another process"):
            build(builder(folder, data))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    names = left(data)
    assert len(names) == 2
    assert names[0] == ".clips-1.0.0"
    assert names[1].startswith("incomplete.")
    assert not builder(folder, data).info.splits
    build(builder(folder, data))
    assert_whole(data)


def test_a_full_disk_is_named_while_packing(folder, tmp_path, monkeypatch):
    prepare = scratch.prepare
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def then_full(*args, **options):
        files = prepare(*args, **options)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
        return files

    monkeypatch.setattr(scratch, "prepare", then_full)
    try:
        with pytest.raises(InputError, match=rf"cannot prepare {tmp_path}/data/footage/mine/1\.0\.0.*: File too large"):
            build(builder(folder, tmp_path / "data"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left(tmp_path / "data") == [".clips-1.0.0"]


def test_a_folder_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(InputError, match=rf"cannot prepare {tmp_path}/data/footage/mine/1\.0\.0: "):
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
