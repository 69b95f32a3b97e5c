"""Preparing in worker processes: what is finished stays, what fails leaves nothing, and errors say which file."""

import functools
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf
from array_record.python.array_record_data_source import ArrayRecordDataSource
from PIL import Image

from data_pipelines.archives.clip import ArchiveClip
from data_pipelines.builders import shards, worker_pool
from data_pipelines.builders.shards import Shard
from data_pipelines.records.clips import _pictures
from rvm_jax.errors import InputError
from rvm_jax.host import progress
from tests.data_pipelines import workers
from tests.data_pipelines.building import pixels
from tests.data_pipelines.fake_archives import digest, number_in
from tests.full_disk import fill, room_again


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "source"
    path.write_text("as it was")
    return path


def clip(name: str, encode, *args, files: tuple[Path, ...] = (), **options) -> ArchiveClip:
    return ArchiveClip(name, files, functools.partial(encode, *args, **options))


def prepare(folder: Path, splits, clips_per_shard: int, **options) -> dict[str, list[Shard]]:
    return shards.prepare(folder, splits, clips_per_shard, functools.partial(worker_pool.run, **options))


def written_to(folder: Path) -> list[Shard]:
    return [Shard(path, ()) for path in folder.glob("*.array_record")]


def numbers(written: list[Shard]) -> dict[str, list[int]]:
    """What the frames of each clip show."""
    shown = {}
    for shard in written:
        records = iter(ArrayRecordDataSource([str(shard.path)]))
        table = shard.table()
        for name, length in zip(table["name"], table["length"], strict=True):
            frames = itertools.islice(records, length)
            shown[name] = [number_in(pixels(_pictures(record)["foreground"])) for record in frames]
        assert not list(records)
    return shown


def test_clips_come_back_in_order_whatever_is_ready_first(tmp_path):
    lengths = [30, 1, 7, 2, 11]  # the first takes the longest
    clips = [clip(f"set/{i}", workers.encode, range(10 * i, 10 * i + n)) for i, n in enumerate(lengths)]
    made = prepare(tmp_path / "scratch", {"train": clips, "test": clips[:1], "empty": []}, 2, workers=2)
    assert {split: len(written) for split, written in made.items()} == {"train": 3, "test": 1, "empty": 0}
    shown = numbers(made["train"])
    assert list(shown) == [f"set/{i}" for i in range(5)]
    assert shown == {f"set/{i}": list(range(10 * i, 10 * i + n)) for i, n in enumerate(lengths)}
    paths = [shard.path for shard in (*made["train"], *made["test"])]
    assert sorted((tmp_path / "scratch").iterdir()) == sorted(paths + [path.with_suffix(".json") for path in paths])


def test_a_record_is_what_tensorflow_makes_of_it(tmp_path):
    """Features of many lengths, each in as many bytes as protobuf needs; and the checksum of a clip."""
    for size in (0, 1, 127, 128, 300, 2**14, 2**21 + 1):
        record = {"image": bytes(size), "alpha": b"other"}
        message = tf.train.Example()
        for name, content in record.items():
            message.features.feature[name].bytes_list.value.append(content)
        assert shards.example(record) == message.SerializeToString(deterministic=True)
    [shard] = prepare(tmp_path, {"train": [clip("a", workers.encode, [3, 4])]}, 1)["train"]
    assert shard.table() == {"name": ["a"], "length": [2], "sha256": [digest(workers.encode([3, 4]))]}


def test_there_are_not_too_many_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARDS", 4)

    def sizes(count: int, clips_per_shard: int) -> list[int]:
        clips = [clip(str(number), workers.encode, [number]) for number in range(count)]
        return [len(shard.clips) for shard in shards._plan(tmp_path, {"train": clips}, clips_per_shard)["train"]]

    assert sizes(3, 1) == [1, 1, 1]
    assert sizes(7, 3) == [3, 3, 1]
    assert sizes(9, 1) == [3, 3, 3]
    assert sizes(13, 1) == [4, 4, 4, 1]
    assert sizes(0, 1) == []


def test_what_is_finished_is_used_again_until_its_source_changes(tmp_path, source, monkeypatch):
    log = tmp_path / "log"
    folder = tmp_path / "scratch"
    others = tmp_path / "others"
    others.mkdir()
    clips = [
        clip("a", workers.encode, [1, 2], files=(source,), log=log),
        clip("b", workers.encode, [3], files=(others,), log=log),
    ]

    def encoded() -> list[str]:
        log.write_text("")
        made = prepare(folder, {"train": clips}, 1, workers=1)
        assert numbers(made["train"]) == {"a": [1, 2], "b": [3]}
        assert len(list(folder.iterdir())) == 4
        return log.read_text().split()

    assert encoded() == ["1", "3"]
    assert encoded() == []
    os.utime(source, ns=(1, 1))
    assert encoded() == ["1"]
    source.write_text("as it is now")
    os.utime(source, ns=(1, 1))
    assert encoded() == ["1"]
    (others / "picture").touch()
    assert encoded() == ["3"]
    clips[0] = clip("a", workers.encode, (1, 2), files=(source,), log=log)  # made in another way, from the same
    assert encoded() == ["1"]
    monkeypatch.setattr(shards, "FORMAT", shards.FORMAT + 1)  # encoded in another way
    assert encoded() == ["1", "3"]
    (folder / ".rvm-killed").mkdir()
    (folder / ".rvm-killed" / "new").touch()
    (folder / "train-0.zip").touch()  # of an earlier version
    assert encoded() == []
    next(folder.glob("*.json")).unlink()  # it was killed before the shard was finished
    assert len(encoded()) == 1


def test_workers_import_nothing_slow(tmp_path):
    prepare(tmp_path, {"train": [clip("a", workers.encode_modules)]}, 1)


@pytest.mark.parametrize(("per_file", "kept"), [(1, {"good": [1], "late": [2]}), (2, {"late": [2]})])
def test_a_bad_clip_keeps_no_other_from_being_finished(tmp_path, per_file, kept):
    clips = [
        clip("good", workers.encode, [1]),
        clip("bad", workers.fail, "video.mp4 is damaged"),
        clip("late", workers.encode, [2]),
    ]
    with pytest.raises(InputError, match=r"^video\.mp4 is damaged$"):
        prepare(tmp_path, {"train": clips}, per_file, workers=2)
    assert numbers(written_to(tmp_path)) == kept
    assert len(list(tmp_path.iterdir())) == 2 * len(kept)


@pytest.mark.parametrize(("count", "last"), [(20, "19 is damaged"), (25, "... and more of this kind")])
def test_all_bad_clips_are_told_of_in_order(tmp_path, count, last):
    clips = [clip(str(i), workers.fail, f"{i} is damaged") for i in range(count)]
    with pytest.raises(InputError) as caught:
        prepare(tmp_path, {"train": clips}, 3, workers=2)
    lines = str(caught.value).splitlines()
    assert lines[:20] == [f"{i} is damaged" for i in range(20)]
    assert lines[-1] == last
    assert len(lines) <= 21


def test_an_error_of_encoding_is_not_taken_for_one_of_writing(tmp_path, source):
    with pytest.raises(InputError, match=rf"^{source} cannot be read or encoded: broken data stream"):
        prepare(tmp_path / "s", {"train": [clip("a", workers.encode_too_wide, files=(source,))]}, 1)
    assert list((tmp_path / "s").iterdir()) == []


def test_large_pictures_are_no_reason_to_warn(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8 * 6 - 1)
    assert len(list(shards._checked(clip("a", workers.encode_sizes, [(8, 6)])))) == 1


def test_a_worker_that_is_killed_is_reported(tmp_path):
    with pytest.raises(InputError, match="a worker process was killed, perhaps because the memory is full"):
        prepare(tmp_path, {"train": [clip("a", workers.end_process)]}, 1)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], "has no frames"),
        ([(8, 6), (8, 6), (6, 8)], r"image of frame 2 has 6x8 pixels where 8x6 pixels are expected"),
    ],
)
def test_clips_of_no_frames_or_several_sizes_are_refused(tmp_path, source, sizes, message):
    with pytest.raises(InputError, match=rf"{source}.*{message}"):
        prepare(tmp_path / "s", {"train": [clip("a", workers.encode_sizes, sizes, files=(source,))]}, 1)
    assert list((tmp_path / "s").iterdir()) == []


def test_two_clips_of_one_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="2 clips of the split 'train' are called 'a'"):
        prepare(tmp_path, {"train": [clip("a", workers.encode, [1]), clip("a", workers.encode, [2])]}, 1)


def test_a_missing_source_is_named(tmp_path):
    missing = tmp_path / "missing.mp4"
    with pytest.raises(InputError, match=rf"cannot read {missing}: No such file"):
        prepare(tmp_path / "s", {"train": [clip("a", workers.encode, [1], files=(missing,))]}, 1)


def test_a_full_disk_is_named(tmp_path):
    """The limit on the size of a file is inherited by the workers; Python turns its signal into an error."""
    message = rf"cannot write {tmp_path}.*train-.*array_record: .*File too large"
    with room_again():
        fill(20_000)
        with pytest.raises(InputError, match=message):
            prepare(tmp_path, {"train": [clip("a", workers.encode, range(40))]}, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["0", "-1", "many", ""])
def test_a_wrong_number_of_workers_is_refused(tmp_path, monkeypatch, given):
    monkeypatch.setenv("RVM_WORKERS", given)
    with pytest.raises(InputError, match=f"RVM_WORKERS is {given!r}: expected the number"):
        prepare(tmp_path, {"train": [clip("a", workers.encode, [1])]}, 1)


def test_progress_is_a_line_in_a_log(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    clips = [clip(str(i), workers.encode, [i, i]) for i in range(3)]
    prepare(tmp_path, {"train": clips[:1]}, 1)
    capfd.readouterr()
    prepare(tmp_path, {"train": clips}, 1)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(", ")[0] for line in lines] == ["preparing: 2 of 3 clips", "preparing: 3 of 3 clips"]


PREPARE = """
import functools, signal, sys
from pathlib import Path
from data_pipelines.builders import shards, worker_pool
from data_pipelines.archives.clip import ArchiveClip
from tests.data_pipelines import workers

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    folder = Path(sys.argv[1])
    clips = [ArchiveClip("a", (), functools.partial(workers.encode, [1])),
             ArchiveClip("b", (), functools.partial(workers.encode_slowly, folder / "started"))]
    shards.prepare(folder / "scratch", {"train": clips}, 1, functools.partial(worker_pool.run, workers=2))
"""


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_ends_its_workers_and_keeps_what_is_finished(tmp_path, by):
    script = tmp_path / "prepare.py"
    script.write_text(PREPARE)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # A process group of its own, which Ctrl-C on a terminal goes to.
    command = [sys.executable, script, tmp_path]
    with subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        try:
            wait_for(lambda: (tmp_path / "started").exists() and list((tmp_path / "scratch").glob("train-*.json")))
            if by == signal.SIGINT:
                os.killpg(process.pid, by)
            else:
                process.send_signal(by)
            _, messages = process.communicate(timeout=60)  # all of its processes have let go of stderr
        finally:
            process.kill()
    assert process.returncode == -by
    assert numbers(written_to(tmp_path / "scratch")) == {"a": [1]}
    if by == signal.SIGINT:
        assert messages.count("KeyboardInterrupt") == 1  # the workers keep silent
        assert len(list((tmp_path / "scratch").iterdir())) == 2


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
