"""The shards of a dataset, as workers write them: clips in, a file of records and the table of its clips out.

A shard holds a few clips in order, and is named after a digest of what it was made from until all of them are there, so
that an interrupted run goes on where it was. Its table comes last: without it, the shard is not finished. Who runs the
workers is another matter: `worker_pool` or `beam_workers`. They must start fast and stay small: this module imports no
TensorFlow, and records go to the file one by one.
"""

import collections
import contextlib
import hashlib
import io
import itertools
import json
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from array_record.python.array_record_module import ArrayRecordWriter

from data_pipelines.archives.clip import ArchiveClip, Record
from data_pipelines.archives.error_messages import first_errors, sized
from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing, writing
from rvm_jax.host.progress import Progress, with_progress
from rvm_jax.video.picture_files import open_picture

FORMAT = 2
"""To be increased when what a clip is encoded to changes: `encode_jpeg`, `encode_png`, or how a record is made."""

SHARDS = 256
"""How many a split has at most: a process that reads it may hold all of them open."""

Table = dict[str, list[Any]]
"""The `name`, `length` and `sha256` of clips: the checksum is that of all images in order, those of a frame sorted by
the names of their features."""


@dataclass(frozen=True)
class Shard:
    """A file of records, and what is to be in it."""

    path: Path
    clips: Sequence[ArchiveClip]

    def table(self) -> Table | None:
        """That of its clips, if it is finished."""
        return _read(self.path.with_suffix(".json")) if self.path.exists() else None

    def failed(self) -> bool:
        """Whether its clips were found to be unsound."""
        return self._errors.exists()

    def fail(self, errors: Sequence[str]) -> None:
        """Note what is wrong with its clips, a line each, for whoever looks at the folder."""
        _write_json(self._errors, errors)

    def take_errors(self) -> list[str]:
        """What was noted, which is forgotten then."""
        errors: list[str] = _read(self._errors) or []
        self._errors.unlink(missing_ok=True)
        return errors

    @property
    def _errors(self) -> Path:
        return self.path.with_suffix(".errors")


Run = Callable[[Sequence[Shard], Callable[[Shard], None]], None]
"""Has workers `write` shards, and calls a function with each that is done: finished, or with its errors noted."""


def prepare(
    folder: Path, splits: Mapping[str, Sequence[ArchiveClip]], clips_per_shard: int, run: Run
) -> dict[str, list[Shard]]:
    """Write the shards of all splits to `folder`, and give those of each split in the order of its clips.

    What is finished there, from the same sources, is used again. Clips that cannot be encoded are told of at the end,
    when all others are done.
    """
    shards = _plan(folder, splits, clips_per_shard)
    planned = list(itertools.chain.from_iterable(shards.values()))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        keep = {path for shard in planned for path in (shard.path, shard.path.with_suffix(".json"))}
        for stale in set(folder.iterdir()) - keep:  # of changed sources, or of a run that was killed
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    missing = [shard for shard in planned if shard.table() is None]
    if missing:
        total = sum(len(shard.clips) for shard in planned)
        done, frames = total - sum(len(shard.clips) for shard in missing), 0
        with Progress("preparing", "clips", total, reused=done) as progress:

            def count(shard: Shard) -> None:
                nonlocal done, frames
                done += len(shard.clips)
                frames += sum((shard.table() or {"length": []})["length"])
                progress.update(done, frames=frames)

            run(missing, count)
    failed = [shard for shard in missing if shard.table() is None]
    if errors := [line for shard in failed for line in shard.take_errors()]:
        raise InputError("\n".join(first_errors(errors)))
    if failed:
        raise InputError(
            f"{len(failed)} of {len(planned)} shards did not come to {folder}: all workers must write there"
        )
    return shards


def write(shard: Shard, stop: Callable[[], bool] = lambda: False) -> None:
    """Encode the clips of a shard into its file, or note what is wrong with them. Runs in a worker."""
    try:
        with replacing(shard.path, overwrite=True) as partial:
            table = _write_clips(partial, shard.clips, stop)
    except _Unsound as unsound:
        shard.fail(unsound.args[0])
    except _Stopped:
        pass
    else:
        _write_json(shard.path.with_suffix(".json"), table)


def example(record: Record) -> bytes:
    """A record as a serialized `tf.train.Example`, its features in alphabetical order: the same bytes everywhere.

    TensorFlow is much to import for this, and protobuf may write a map in any order.
    """
    features = (_field(1, name.encode()) + _field(2, _field(1, _field(1, record[name]))) for name in sorted(record))
    return _field(1, b"".join(_field(1, feature) for feature in features))


def file_stats(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of a file, or of all files in a folder."""
    try:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            status = file.stat()
            yield file.name, status.st_size, status.st_mtime_ns
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _plan(folder: Path, splits: Mapping[str, Sequence[ArchiveClip]], clips_per_shard: int) -> dict[str, list[Shard]]:
    """What each shard is to hold; the same on every machine."""
    groups = []
    for split, clips in splits.items():
        for name, count in collections.Counter(clip.name for clip in clips).items():
            if count > 1:
                raise InputError(f"{count} clips of the split {split!r} are called {name!r}: rename all but one")
        size = max(clips_per_shard, -(-len(clips) // SHARDS))
        groups += [(split, clips[start : start + size]) for start in range(0, len(clips), size)]
    shards: dict[str, list[Shard]] = {split: [] for split in splits}
    for split, group in with_progress(groups, "sources"):
        shards[split].append(Shard(folder / _file_name(split, group), group))
    return shards


def _file_name(split: str, group: Sequence[ArchiveClip]) -> str:
    """A name that says what is in the file and how it is made."""
    digest = hashlib.sha256(f"format {FORMAT}".encode())
    for clip in group:
        files = list(itertools.chain.from_iterable(map(file_stats, clip.files)))
        digest.update(json.dumps([clip.name, files]).encode())
        digest.update(pickle.dumps(clip.encode, protocol=4))
    return f"{split}-{digest.hexdigest()[:32]}.array_record"


class _Stopped(Exception):  # noqa: N818 - no error
    pass


class _Unsound(Exception):  # noqa: N818 - named for what it holds
    """What is wrong with clips of a shard, a line each. Of a file that cannot be written, `InputError` tells."""


def _write_clips(path: Path, clips: Sequence[ArchiveClip], stop: Callable[[], bool]) -> Table:
    """Write all records of clips to a file; their table."""
    table: Table = {"name": [], "length": [], "sha256": []}
    errors = []
    with _errors_of_writing():
        writer = ArrayRecordWriter(str(path), "group_size:1")
    for clip in clips:
        digest, length = hashlib.sha256(), 0
        try:
            for record in _checked(clip):
                if stop():
                    raise _Stopped
                for feature in sorted(record):
                    digest.update(record[feature])
                with _errors_of_writing():
                    writer.write(example(record))
                length += 1
        except InputError as error:
            errors.append(str(error))
        for column, value in zip(table.values(), (clip.name, length, digest.hexdigest()), strict=True):
            column.append(value)
    with _errors_of_writing():
        writer.close()
    if errors:
        raise _Unsound(errors)
    return table


@contextlib.contextmanager
def _errors_of_writing() -> Iterator[None]:
    """What array_record raises where a disk is full, as `replacing` expects it."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(" ".join(str(error).split())) from error


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that has a length."""
    left, length = len(content), bytearray()
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    return bytes([number << 3 | 2, *length, left]) + content


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def _write_json(path: Path, content: Any) -> None:
    with replacing(path, overwrite=True) as partial:
        partial.write_text(json.dumps(content))


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
