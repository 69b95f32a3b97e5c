"""Clips that are decoded and encoded, waiting to be packed into a dataset.

A pool of worker processes writes groups of clips, each into a zip file of its own: uncompressed, so that a person can
look at `CLIP/00000.foreground.jpg` inside. A file gets its name when it is whole, and the name is a digest of what it
was made from, so that an interrupted run goes on where it was. Workers must start fast and stay small: this module
imports no TensorFlow, and records go to the file one by one.
"""

import collections
import contextlib
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from data_pipelines.layout import Clip, Record
from rvm_jax.errors import InputError
from rvm_jax.files import replacing

TABLE = "clips.json"  # the last entry of a file
SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class Picture:
    """An encoded image in a file that is open; TFDS takes whatever has `read`. Many of them need no memory."""

    archive: zipfile.ZipFile
    name: str

    def read(self) -> bytes:
        return self.archive.read(self.name)


@dataclass(frozen=True)
class Prepared:
    """A clip in a file.

    Attributes:
        name: That of the clip.
        length: How many frames it has.
        sha256: The checksum of all its images in order, those of a frame sorted by the names of their features.
        records: The pictures of every frame, to be read before the next clip is asked for.
    """

    name: str
    length: int
    sha256: str
    records: Iterator[Mapping[str, Picture]]


def prepare(
    folder: Path, splits: Mapping[str, Sequence[Clip]], clips_per_file: int, *, workers: int | None = None
) -> dict[str, list[Path]]:
    """Encode all clips into files in `folder`, and give the files of each split in the order of its clips.

    What is finished there, from the same sources, is used again. There are as many worker processes as cores, unless
    `workers` or the environment variable RVM_WORKERS says otherwise.
    """
    for split, clips in splits.items():
        for name, count in collections.Counter(clip.name for clip in clips).items():
            if count > 1:
                raise InputError(f"{count} clips of the split {split!r} are called {name!r}: rename all but one")
    groups = {
        folder / _file_name(split, group): group
        for split, clips in splits.items()
        for group in _batched(clips, clips_per_file)
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in set(folder.iterdir()) - groups.keys():  # of changed sources, or of a run that was killed
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    missing = {file: group for file, group in groups.items() if not file.exists()}
    if missing:
        done = sum(len(group) for file, group in groups.items() if file not in missing)
        with _pool(min(workers or _workers(), len(missing))) as submit:
            jobs = {submit(file, group): len(group) for file, group in missing.items()}
            progress = _progress(done, done + sum(jobs.values()))
            for job in as_completed(jobs):
                progress(jobs[job], job.result())
    files = iter(groups)
    return {split: list(itertools.islice(files, -(-len(clips) // clips_per_file))) for split, clips in splits.items()}


def read(file: Path) -> Iterator[Prepared]:
    """The clips in a file."""
    with zipfile.ZipFile(file) as archive:
        for entry in json.loads(archive.read(TABLE)):
            names = (_entry(entry["name"], number, entry["features"]) for number in range(entry["length"]))
            records = ({feature: Picture(archive, name) for feature, name in frame.items()} for frame in names)
            yield Prepared(entry["name"], entry["length"], entry["sha256"], records)


def _file_name(split: str, group: Sequence[Clip]) -> str:
    """A name that says what is in the file and how it is made."""
    digest = hashlib.sha256()
    for clip in group:
        sources = list(itertools.chain.from_iterable(map(_sources, clip.files)))
        digest.update(json.dumps([clip.name, sources]).encode())
        digest.update(pickle.dumps(clip.encode, protocol=4))
    return f"{split}-{digest.hexdigest()[:32]}.zip"


def _sources(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of a file, or of all files in a folder."""
    try:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            status = file.stat()
            yield file.name, status.st_size, status.st_mtime_ns
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _batched(clips: Sequence[Clip], size: int) -> Iterator[Sequence[Clip]]:
    return (clips[start : start + size] for start in range(0, len(clips), size))


def _workers() -> int:
    given = os.environ.get("RVM_WORKERS")
    if given is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not given.isdecimal() or int(given) == 0:
        raise InputError(f"RVM_WORKERS is {given!r}: expected the number of worker processes, 1 or more")
    return int(given)


Submit = Callable[[Path, Sequence[Clip]], "Future[int]"]


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[Submit]:
    """Worker processes. If the block raises, Ctrl-C included, they stop within a frame and remove what is half done."""
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads of TensorFlow, dead
    stop = context.Event()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(stop,)) as executor:

        def submit(file: Path, group: Sequence[Clip]) -> "Future[int]":
            # Ctrl-C goes to all processes. The workers, which start here, inherit that it is not for them.
            usual = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            try:
                return executor.submit(_write, file, group)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, usual)

        try:
            yield submit
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process was killed, perhaps because the memory is full: try fewer, such as RVM_WORKERS=1"
            ) from error
        except BaseException:
            stop.set()
            executor.shutdown(cancel_futures=True)
            raise


_stop: Event | None = None


def _start(stop: Event) -> None:
    """What a worker process does first."""
    global _stop
    _stop = stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this, the workers of a killed parent would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class _Stopped(Exception):  # noqa: N818 - no error
    pass


def _write(file: Path, group: Sequence[Clip]) -> int:
    """Encode clips into a file; the number of frames. Runs in a worker process."""
    table, frames = [], 0
    with replacing(file) as partial, zipfile.ZipFile(partial, "w") as archive:
        for clip in group:
            digest, length = hashlib.sha256(), 0
            features: dict[str, str] = {}
            for record in _checked(clip):
                if _stop is not None and _stop.is_set():
                    raise _Stopped
                features = features or {feature: _suffix(record[feature]) for feature in sorted(record)}
                for feature, name in _entry(clip.name, length, features).items():
                    digest.update(record[feature])
                    archive.writestr(zipfile.ZipInfo(name), record[feature])
                length += 1
            table.append({"name": clip.name, "length": length, "sha256": digest.hexdigest(), "features": features})
            frames += length
        archive.writestr(zipfile.ZipInfo(TABLE), json.dumps(table))
    return frames


def _checked(clip: Clip) -> Iterator[Record]:
    """The records of a clip, none missing, all pictures of one size."""
    size = None
    for number, record in enumerate(clip.encode()):
        for feature, encoded in record.items():
            with Image.open(io.BytesIO(encoded)) as image:
                width_height = image.size
            size = size or width_height
            if width_height != size:
                raise InputError(
                    f"{_source(clip)}: {feature} of frame {number} is {_times(width_height)} where {_times(size)} is "
                    "expected: all frames of a clip, and the pictures of a frame, must be of one size"
                )
        yield record
    if size is None:
        raise InputError(f"{_source(clip)} has no frames: remove it, or get it again")


def _source(clip: Clip) -> str:
    return " and ".join(map(str, clip.files)) or clip.name


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _entry(clip: str, number: int, features: Mapping[str, str]) -> dict[str, str]:
    return {feature: f"{clip}/{number:05d}.{feature}.{suffix}" for feature, suffix in features.items()}


def _suffix(encoded: bytes) -> str:
    return "jpg" if encoded.startswith(b"\xff\xd8") else "png"


def _progress(done: int, total: int) -> Callable[[int, int], None]:
    """A bar on a terminal, a line now and then in a log. To be called with how many more clips and frames are done."""
    bar = tqdm(initial=done, total=total, desc="preparing", unit="clip", disable=None)  # None: only on a terminal
    begin = last = time.monotonic()
    reused, frames = done, 0

    def add(clips: int, more: int) -> None:
        nonlocal done, frames, last
        done, frames = done + clips, frames + more
        now = time.monotonic()
        spent = max(now - begin, 1e-3)
        rate = f"{frames / spent:.1f} frames/s"
        bar.set_postfix_str(rate, refresh=False)
        bar.update(clips)
        if done == total:
            bar.close()
        if bar.disable and (now - last > SECONDS_BETWEEN_LINES or done == total):
            last = now
            left = tqdm.format_interval(spent * (total - done) / max(done - reused, 1))
            print(f"preparing: {done} of {total} clips, {rate}, {left} left", file=sys.stderr, flush=True)

    return add
