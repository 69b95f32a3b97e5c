"""A pool of worker processes that decodes and encodes clips, which then wait to be packed into a dataset.

Each writes groups of clips, a group into a zip file of its own: uncompressed, so that a person can look at
`CLIP/00000.foreground.jpg` inside. A file gets its name when it is whole, and the name is a digest of what it was made
from, so that an interrupted run goes on where it was. Workers must start fast and stay small: this module imports no
TensorFlow, and records go to the file one by one.
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
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from data_pipelines.archives.clip import ArchiveClip, Record
from data_pipelines.archives.error_messages import first_errors, sized
from rvm_jax.errors import InputError
from rvm_jax.host.cores import cores
from rvm_jax.host.files import replacing, writing
from rvm_jax.host.progress import Progress, with_progress
from rvm_jax.video.picture_files import open_picture

TABLE = "clips.json"  # the last entry of a file
FORMAT = 1
"""To be increased when what a clip is encoded to changes: `encode_jpeg`, `encode_png`, or how a record is made."""


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
    folder: Path, splits: Mapping[str, Sequence[ArchiveClip]], clips_per_file: int, *, workers: int | None = None
) -> dict[str, list[Path]]:
    """Encode all clips into files in `folder`, and give the files of each split in the order of its clips.

    What is finished there, from the same sources, is used again. There are as many worker processes as cores, unless
    `workers` or the environment variable RVM_WORKERS says otherwise. Clips that cannot be encoded are told of at the
    end, when all others are done.
    """
    for split, clips in splits.items():
        for name, count in collections.Counter(clip.name for clip in clips).items():
            if count > 1:
                raise InputError(f"{count} clips of the split {split!r} are called {name!r}: rename all but one")
    batches = [(split, group) for split, clips in splits.items() for group in _batched(clips, clips_per_file)]
    groups = {folder / _file_name(split, group): group for split, group in with_progress(batches, "sources")}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for stale in set(folder.iterdir()) - groups.keys():  # of changed sources, or of a run that was killed
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    missing = {file: group for file, group in groups.items() if not file.exists()}
    if missing:
        done = sum(len(group) for file, group in groups.items() if file not in missing)
        total = done + sum(map(len, missing.values()))
        with (
            _pool(min(workers or worker_count(), len(missing))) as submit,
            Progress("preparing", "clips", total, reused=done) as progress,
        ):
            jobs = {submit(file, group): len(group) for file, group in missing.items()}
            frames = 0
            unsound: dict[Future[int], list[str]] = {}
            for job in as_completed(jobs):
                try:
                    frames += job.result()
                except _Unsound as error:
                    unsound[job] = error.args[0]
                done += jobs[job]
                progress.update(done, frames=frames)
        if unsound:
            in_order = itertools.chain.from_iterable(unsound[job] for job in jobs if job in unsound)
            raise InputError("\n".join(first_errors(in_order)))
    files = iter(groups)
    return {split: list(itertools.islice(files, -(-len(clips) // clips_per_file))) for split, clips in splits.items()}


def read(file: Path) -> Iterator[Prepared]:
    """The clips in a file."""
    with zipfile.ZipFile(file) as archive:
        for entry in json.loads(archive.read(TABLE)):
            names = (_entry(entry["name"], number, entry["features"]) for number in range(entry["length"]))
            records = ({feature: Picture(archive, name) for feature, name in frame.items()} for frame in names)
            yield Prepared(entry["name"], entry["length"], entry["sha256"], records)


def _file_name(split: str, group: Sequence[ArchiveClip]) -> str:
    """A name that says what is in the file and how it is made."""
    digest = hashlib.sha256(f"format {FORMAT}".encode())
    for clip in group:
        files = list(itertools.chain.from_iterable(map(file_stats, clip.files)))
        digest.update(json.dumps([clip.name, files]).encode())
        digest.update(pickle.dumps(clip.encode, protocol=4))
    return f"{split}-{digest.hexdigest()[:32]}.zip"


def file_stats(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of a file, or of all files in a folder."""
    try:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            status = file.stat()
            yield file.name, status.st_size, status.st_mtime_ns
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _batched(clips: Sequence[ArchiveClip], size: int) -> Iterator[Sequence[ArchiveClip]]:
    return (clips[start : start + size] for start in range(0, len(clips), size))


def worker_count() -> int:
    """What RVM_WORKERS says, or as many as there are cores."""
    given = os.environ.get("RVM_WORKERS")
    if given is None:
        return cores()
    if not given.isdecimal() or int(given) == 0:
        raise InputError(f"RVM_WORKERS is {given!r}: expected the number of worker processes, 1 or more")
    return int(given)


Submit = Callable[[Path, Sequence[ArchiveClip]], "Future[int]"]


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[Submit]:
    """Worker processes. If the block raises, Ctrl-C included, they stop within a frame and remove what is half done."""
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads of TensorFlow, dead
    stop = context.Event()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(stop,)) as executor:

        def submit(file: Path, group: Sequence[ArchiveClip]) -> "Future[int]":
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


class _Unsound(Exception):  # noqa: N818 - named for what it holds
    """What is wrong with clips of a group, a line each. Of a file that cannot be written, `InputError` tells."""


def _write(file: Path, group: Sequence[ArchiveClip]) -> int:
    """Encode clips into a file; the number of frames. Runs in a worker process."""
    table, errors = [], []
    with replacing(file) as partial, zipfile.ZipFile(partial, "w") as archive:
        for clip in group:
            try:
                table.append(_add(archive, clip))
            except InputError as error:
                errors.append(str(error))
        if errors:
            raise _Unsound(errors)
        archive.writestr(zipfile.ZipInfo(TABLE), json.dumps(table))
    return sum(entry["length"] for entry in table)


def _add(archive: zipfile.ZipFile, clip: ArchiveClip) -> dict[str, Any]:
    """Encode a clip into an archive; its entry in the table."""
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
    return {"name": clip.name, "length": length, "sha256": digest.hexdigest(), "features": features}


def _checked(clip: ArchiveClip) -> Iterator[Record]:
    """The records of a clip, none missing, all pictures of one size."""
    size = None
    for number, record in enumerate(_encoded(clip)):
        for feature, encoded in record.items():
            with open_picture(io.BytesIO(encoded)) as image:
                width_height = image.size
            size = size or width_height
            if width_height != size:
                raise InputError(
                    f"{_source(clip)}: {feature} of frame {number} has {sized(width_height)} where {sized(size)} are "
                    "expected: all frames of a clip, and the pictures of a frame, must be of one size"
                )
        yield record
    if size is None:
        raise InputError(f"{_source(clip)} has no frames: remove it, or get it again")


def _encoded(clip: ArchiveClip) -> Iterator[Record]:
    """The records of a clip. Its own errors of input and output must not be taken for those of the file written to."""
    try:
        yield from clip.encode()
    except OSError as error:
        raise InputError(f"{_source(clip)} cannot be read or encoded: {error.strerror or error}") from error


def _source(clip: ArchiveClip) -> str:
    return " and ".join(map(str, clip.files)) or clip.name


def _entry(clip: str, number: int, features: Mapping[str, str]) -> dict[str, str]:
    return {feature: f"{clip}/{number:05d}.{feature}.{suffix}" for feature, suffix in features.items()}


def _suffix(encoded: bytes) -> str:
    return "jpg" if encoded.startswith(b"\xff\xd8") else "png"
