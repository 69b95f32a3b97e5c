"""Building: whole or not at all, and an interrupted build goes on where it was.

RVM_KILLS is how many kills there are; `make campaign` asks for many.
"""

import contextlib
import fcntl
import itertools
import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.builders import clip_builder, worker_pool
from data_pipelines.builders.background_images import archive as background_images
from data_pipelines.builders.background_images.background_images_dataset_builder import Builder as Backgrounds
from data_pipelines.records import clips
from data_pipelines.tools import prepare
from rvm_jax.errors import InputError
from tests.data_pipelines import fake_archives
from tests.data_pipelines.builders.footage import assert_whole, builder, contents, left, moving, start, wait_for
from tests.data_pipelines.building import build, numbers, opened
from tests.full_disk import fill, room_again

KILLS = int(os.environ.get("RVM_KILLS", "2"))


def test_nothing_is_left_beside_a_whole_dataset(folder, tmp_path):
    build(builder(folder, tmp_path / "data"))
    assert_whole(tmp_path / "data")
    build(builder(Path("nowhere"), tmp_path / "data"))  # it is there, so nothing is to be done
    assert_whole(tmp_path / "data")


def test_clips_stay_in_order_over_several_shards(folder, tmp_path):
    for first in (30, 40, 50):
        fake_archives.write_pair(folder, f"clip{first}", range(first, first + 4))
    built = builder(folder, tmp_path / "data")
    build(built)
    assert built.info.splits["train"].shard_lengths == [4] * 5
    shown = numbers(opened(built, "train"), "foreground")
    assert list(shown.values()) == [list(range(first, first + 4)) for first in (10, 20, 30, 40, 50)]


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
    finished = contents(data)
    assert len(finished) == 2
    bad.write_bytes(good)
    build(attempt)  # the same builder can be used again
    assert set(finished) < set(contents(data))
    assert_whole(data)


def test_an_end_after_the_last_clip_loses_none(folder, tmp_path, monkeypatch):
    """Whichever of the files and folders was to be moved, forwards or back, when everything stopped."""
    data = tmp_path / "data"
    build(builder(folder, data))
    old = contents(data)
    rename = Path.rename
    finished: list[tuple[int, int]] = []
    for moves in itertools.count():
        left_to_move = itertools.repeat(None, moves)

        def stopped(path, target):
            if next(left_to_move, "no more"):  # noqa: B023 - it is of this turn
                raise KeyboardInterrupt
            return rename(path, target)

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(Path, "rename", stopped)
            build(builder(folder, data, anew=True))
            break
        finished = finished or sorted(set(contents(data)) - set(old))
        assert contents(data) == sorted(old + finished)
    assert moves >= len(finished) + 2
    assert contents(data) == finished
    assert_whole(data)


@pytest.mark.slow
def test_a_killed_build_can_be_run_again(folder, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with (
        moving(folder, data),
        pytest.raises(InputError, match=r"^footage/mine/1\.0\.0 is being prepared by process \d+ on .*: wait until"),
    ):
        build(builder(folder, data))
    finished = contents(data)
    assert left(data) == [".clips-1.0.0", ".lock", ".new-1.0.0"]
    assert not builder(folder, data).info.splits
    build(builder(folder, data))
    assert contents(data) == finished
    assert_whole(data)


def tables(home: Path) -> set[Path]:
    """Those of finished shards."""
    return set(home.glob(".clips-*/*-*.json"))


@pytest.mark.slow
def test_kills_lose_no_finished_clip(tmp_path):
    """However often and whenever it is killed, the same command ends with what was finished before."""
    folder, data = tmp_path / "footage", tmp_path / "data"
    for number in range(40):
        fake_archives.write_pair(folder, f"clip{number:02d}", [number] * 20)
    home = data / "footage" / "mine"
    draw = random.Random(0)
    finished: set[tuple[int, int]] = set()
    seen = tables(home)
    for kill in range(KILLS + 1):
        process = start(folder, data, "plain")
        if kill < KILLS:
            more = len(seen)
            wait_for(process, lambda: len(tables(home)) > more or (home / "1.0.0").exists())  # noqa: B023
            time.sleep(draw.uniform(0, 0.3))
            process.kill()
        assert process.wait() in ((0, -signal.SIGKILL) if kill < KILLS else (0,))
        assert finished <= set(contents(data))
        seen = tables(home)
        shards = [path.with_suffix(".array_record") for path in seen]
        finished |= {(path.stat().st_ino, path.stat().st_mtime_ns) for path in shards if path.exists()}
        print(f"kill {kill}: {len(finished)} shards")
    assert left(data) == ["1.0.0"]
    prepared = clips.open_prepared(home / "1.0.0")
    assert sum(map(len, prepared.records.values())) == 40 * 20
    assert list(clips.verify("footage/mine", data)) == []


def test_the_disk_holds_little_more_than_what_is_made(tmp_path):
    noise = np.random.default_rng(0)
    folder, data = tmp_path / "footage", tmp_path / "data"
    for number, frame in itertools.product(range(8), range(4)):
        for half, channels in (("fgr", 3), ("pha", 1)):
            pixels = noise.integers(0, 256, (256, 256, channels), np.uint8).squeeze()
            fake_archives.write_picture(folder / half / str(number) / f"{frame}.jpg", pixels)
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.is_set():
            peak = max(peak, size(data))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        build(builder(folder, data))
    finally:
        ended.set()
        watcher.join()
    assert size(data) > 4_000_000
    assert peak <= 1.1 * size(data)


def size(folder: Path) -> int:
    """Of all files below it, some of which may vanish while one looks."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(parent, name).stat().st_size
    return total


def test_a_full_disk_is_named_while_the_metadata_are_written(folder, tmp_path, monkeypatch):
    run = worker_pool.run

    def then_full(*args, **options):
        run(*args, **options)
        fill(100)

    monkeypatch.setattr(worker_pool, "run", then_full)
    data = tmp_path / "data"
    message = rf"cannot prepare {data}/footage/mine/1\.0\.0.*: File too large"
    with room_again(), pytest.raises(InputError, match=message):
        build(builder(folder, data))
    assert left(data) == [".clips-1.0.0"]
    finished = contents(data)
    build(builder(folder, data))
    assert contents(data) == finished


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
        return clip_builder.source_fingerprint(builder(folder, tmp_path / "data").find(folder).splits)

    build(builder(folder, tmp_path / "data"))
    kept = clips.open_prepared(tmp_path / "data" / "footage" / "mine" / "1.0.0").source_fingerprint
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
    assert clips.open_prepared(tmp_path / "data" / "background_images" / "1.0.0").source_fingerprint is None
