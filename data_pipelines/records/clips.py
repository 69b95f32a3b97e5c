"""Random access to prepared clips: which there are, and the encoded frames of any of them in any order.

Reading opens no video: a record is a frame, already encoded as JPEG or PNG. The files are TFDS's, but read without it:
its `as_data_source` with `SkipDecoding` gives 41,000 of these records a second of a core where this gives 73,000, and
checks nothing of what `open_prepared` does.
"""

import bisect
import contextlib
import functools
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow_datasets.proto import tf_example_generated_pb2  # the same without TensorFlow
from tqdm import tqdm

from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from rvm_jax.host.paths import Location, is_url

INFO = "dataset_info.json"
"""What TFDS calls the file that every dataset has. In a bucket it comes last: without it, others may be missing."""


@dataclass(frozen=True)
class Clips:
    """Clips, frame after frame: the frames of clip `i` have the numbers `firsts[i] .. firsts[i] + lengths[i] - 1`.

    Attributes:
        names: One for each clip.
        lengths: How many frames each has: int64 [clips].
        read: Gives the encoded pictures of the frame with this number. Threads call it at the same time.
    """

    names: Sequence[str]
    lengths: np.ndarray
    read: Callable[[int], Mapping[str, bytes]]
    firsts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "firsts", np.cumsum(self.lengths) - self.lengths)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def frames(self) -> int:
        return int(np.sum(self.lengths))


def _no_record(number: int) -> Mapping[str, bytes]:
    raise IndexError(number)


EMPTY = Clips((), np.zeros(0, np.int64), _no_record)


def open_clips(datasets: Sequence[str], split: str, data_dir: Location, *, otherwise: Sequence[str] = ()) -> Clips:
    """The clips of prepared datasets, such as `["video_matte_240k/hd", "footage/mine"]`, one after the other.

    A dataset without the split gives the first of the splits `otherwise` that it has.
    """
    return concatenate([_open(dataset, (split, *otherwise), data_dir) for dataset in datasets])


def features(dataset: str, data_dir: Location) -> frozenset[str]:
    """The names of the pictures in a record of a prepared dataset."""
    return _prepared(dataset, data_dir).features


def fingerprint(dataset: str, data_dir: Location) -> str:
    """A short digest of a prepared dataset: that of its clips' names and lengths, followed by that of their pixels.

    Runs of an earlier version know the first half alone.
    """
    tables = sorted(_prepared(dataset, data_dir).tables.items())
    listed = [[split, list(table["name"]), list(table["length"])] for split, table in tables]
    pixels = [[split, list(table["sha256"])] for split, table in tables]
    return "".join(hashlib.sha256(json.dumps(part).encode()).hexdigest()[:16] for part in (listed, pixels))


def concatenate(parts: Sequence[Clips]) -> Clips:
    """All clips of `parts`, in order."""
    if len(parts) == 1:
        return parts[0]
    read = _Concatenated([part.read for part in parts], [0, *accumulate(part.frames for part in parts)])
    names = [name for part in parts for name in part.names]
    return Clips(names, np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)]), read)


def prepared_folder(dataset: str, data_dir: Location) -> str | Path | None:
    """The newest version of a dataset below `data_dir`, or None. `open_prepared` tells whether all of it is there."""
    if is_url(data_dir):
        return _folder_in_bucket(dataset, os.fspath(data_dir))
    paths = Path(data_dir, dataset).glob("*")
    # While a dataset is built, its folder has another name; an empty one is of somebody who began to remove it.
    newest = _newest(path.name for path in paths if path.is_dir() and any(path.iterdir()))
    return newest and Path(data_dir, dataset, newest)


def _folder_in_bucket(dataset: str, data_dir: str) -> str | None:
    if not data_dir.startswith("gs://"):
        raise InputError(
            f"--data-dir {data_dir}: array_record reads gs:// and paths alone, so mount the bucket or copy it to this "
            "machine, and give that folder"
        )
    url = os.fspath(buckets.join(data_dir, dataset))
    found = [name.split("/") for name in buckets.list_files(url)]
    newest = _newest(version for version, *rest in found if rest == [INFO])
    return newest and f"{url}/{newest}"


def _newest(names: Iterable[str]) -> str | None:
    versions = (name for name in names if re.fullmatch(r"\d+\.\d+\.\d+", name))
    return max(versions, key=lambda name: [int(part) for part in name.split(".")], default=None)


@dataclass(frozen=True)
class PreparedDataset:
    """A prepared dataset, all of which is there.

    Attributes:
        folder: That of its version, or its URL.
        features: The names of the pictures in a record.
        tables: The name, length and sha256 of every clip, for each split.
        records: The records of each split in order: a frame each, to be read by its number.
        bytes: How large all records are.
        source_fingerprint: Tells apart what it can have been made from, where that was kept.
    """

    folder: str | Path
    features: frozenset[str]
    tables: Mapping[str, Mapping[str, Sequence[Any]]]
    records: Mapping[str, Any]
    bytes: int
    source_fingerprint: str | None


def open_prepared(folder: Location) -> PreparedDataset:
    """Open a prepared dataset, or say what is missing of it. Opens every file, but reads no record.

    It is opened once in a process, as long as its files stay as they are; those in a bucket are taken to.
    """
    if is_url(folder):
        return _open_in_bucket(os.fspath(folder))
    try:
        files = [(path.name, path.stat()) for path in sorted(Path(folder).iterdir())]
    except OSError:
        files = []  # TFDS will say what is wrong
    state = [(name, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns) for name, seen in files]
    return _open_here(Path(folder), tuple(state))


@functools.lru_cache(maxsize=32)  # what raises is not kept
def _open_here(folder: Path, state: Sequence[tuple[Any, ...]]) -> PreparedDataset:
    with _told_as_damage(folder, "build it anew with --force of `rvm data prepare`"):
        return _open_with(folder, folder, {name for name, *_ in state})


@functools.lru_cache(maxsize=32)
def _open_in_bucket(url: str) -> PreparedDataset:
    """TFDS reads a copy of the metadata, array_record the records where they are."""
    names = buckets.list_files(url)
    with tempfile.TemporaryDirectory(prefix="rvm-") as copy:
        buckets.download(url, Path(copy), [name for name in names if name.endswith(".json")])
        with _told_as_damage(url, "remove it there, and copy it anew with `rvm data prepare --copy-to`"):
            return _open_with(Path(copy), url, set(names))


@contextlib.contextmanager
def _told_as_damage(folder: Location, mend: str) -> Iterator[None]:
    """Tell whatever is raised as what it is to the user."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of the JSON in it, of TFDS and of array_record, which raise whatever comes
        reason = " ".join(str(error).split()).removesuffix(".")
        raise InputError(f"{folder} is damaged ({reason}): {mend}") from error


def _open_with(metadata_folder: Path, folder: str | Path, names: Set[str]) -> PreparedDataset:
    """Open the dataset in `folder`, which has files of these names."""
    import tensorflow_datasets as tfds

    info = tfds.builder_from_directory(metadata_folder).info
    metadata = dict(info.metadata.items())
    if "clips" not in metadata:
        raise InputError(f"{folder} has no table of clips: it was not made by `rvm data prepare`")
    if info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise InputError(f"{folder} holds {info.file_format.value} files, not array_record: prepare it again")
    tables = metadata["clips"]
    if not tables or tables.keys() != info.splits.keys():
        raise ValueError(f"it has a table of clips for {_listed(tables)}, but records for {_listed(info.splits)}")
    missing = [path.name for split in info.splits.values() for path in split.filepaths if path.name not in names]
    if missing:
        raise ValueError(f"{len(missing)} of its files are missing, such as {missing[0]}")
    records = {split: _records(folder, info.splits[split], table) for split, table in tables.items()}
    features = frozenset(info.features)
    return PreparedDataset(folder, features, tables, records, info.dataset_size, metadata.get("sources"))


def verify(dataset: str, data_dir: Location) -> Iterator[str]:
    """Read every record of a prepared dataset; a line for each clip that is not as it was when it was prepared."""
    opened = _prepared(dataset, data_dir)
    frames = sum(sum(table["length"]) for table in opened.tables.values())
    with tqdm(total=frames, desc=f"reading {dataset}", unit="frame", disable=None) as bar:  # None: only on a terminal
        for split, table in opened.tables.items():
            first = 0
            for name, length, expected in zip(table["name"], table["length"], table["sha256"], strict=True):
                try:
                    digest = _digest(opened.records[split], range(first, first + length))
                    fault = None if digest == expected else "it has other pictures than when it was prepared"
                except Exception as error:  # damaged bytes make array_record and protobuf raise whatever comes
                    fault = f"it cannot be read ({' '.join(str(error).split())})"
                first += length
                bar.update(length)
                if fault:
                    yield f"{opened.folder}: the clip {name!r} of the split {split!r} is damaged: {fault}"


def _digest(records: Any, numbers: Sequence[int]) -> str:
    """The checksum of a clip, as `builders.shards` makes it."""
    digest = hashlib.sha256()
    for number in numbers:
        pictures = _pictures(records[number])
        for name in sorted(pictures):
            digest.update(pictures[name])
    return digest.hexdigest()


def _records(folder: Location, split: Any, table: Mapping[str, Sequence[Any]]) -> Any:
    """The records of a split, as many as the table has frames."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    records = ArrayRecordDataSource([os.fspath(buckets.join(folder, path.name)) for path in split.filepaths])
    frames = sum(table["length"])
    if not frames == split.num_examples == len(records):
        raise ValueError(
            f"the clips of the split {split.name!r} have {frames} frames, but {split.num_examples} records were "
            f"written and {len(records)} are there"
        )
    if not len(table["name"]) == len(table["length"]) == len(table["sha256"]):
        raise ValueError(f"the table of clips of the split {split.name!r} is cut short")
    return records


def _listed(splits: Any) -> str:
    return ", ".join(splits) or "no split"


@dataclass(frozen=True)
class _Reader:
    """Reads the pictures of a frame by its number. It can be pickled, and opens the files anew where it gets."""

    records: Any
    folder: str | Path

    def __call__(self, number: int) -> Mapping[str, bytes]:
        # What is in a bucket may be damaged too; what is raised tells.
        with buckets.reaching(self.folder) if is_url(self.folder) else contextlib.nullcontext():
            return _pictures(self.records[number])


@dataclass(frozen=True)
class _Concatenated:
    """Reads a frame of what stands one after the other: `firsts` are the numbers of their first frames, and the end."""

    parts: Sequence[Callable[[int], Mapping[str, bytes]]]
    firsts: Sequence[int]

    def __call__(self, number: int) -> Mapping[str, bytes]:
        which = bisect.bisect_right(self.firsts, number) - 1
        return self.parts[which](number - self.firsts[which])


def _open(dataset: str, splits: Sequence[str], data_dir: Location) -> Clips:
    opened = _prepared(dataset, data_dir)
    split = next((name for name in splits if name in opened.tables), None)
    if split is None:
        raise InputError(f"{dataset} has no split {splits[0]!r}: it has {', '.join(opened.tables)}")
    records, table = opened.records[split], opened.tables[split]
    names = [f"{dataset}/{name}" for name in table["name"]]
    return Clips(names, np.array(table["length"], np.int64), _Reader(records, opened.folder))


def _prepared(dataset: str, data_dir: Location) -> PreparedDataset:
    folder = prepared_folder(dataset, data_dir)
    if folder is None:
        raise InputError(f"{dataset} is not prepared in {data_dir}: {how_to_prepare(dataset, data_dir)}")
    return open_prepared(folder)


def how_to_prepare(dataset: str, data_dir: Location) -> str:
    """What to do about a dataset that is not there."""
    kind, _, name = dataset.partition("/")
    footage = kind == "footage" or (kind == "background_images" and name)
    what = f"footage --folder DIR --name {name}" if footage else dataset
    copied = f" --copy-to {data_dir}" if is_url(data_dir) else ""
    return f"run `rvm data prepare {what}{copied}`, or give another --data-dir"


def _pictures(record: bytes) -> dict[str, Any]:
    features = tf_example_generated_pb2.Example.FromString(record).features.feature
    return {name: feature.bytes_list.value[0] for name, feature in features.items()}
