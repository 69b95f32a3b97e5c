"""Prepared clips: which there are, and the encoded frames of any of them in any order.

Reading opens no video: a record is a frame, already encoded as JPEG or PNG.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rvm_jax.errors import InputError


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


EMPTY = Clips((), np.zeros(0, np.int64), lambda number: {})


def open_clips(datasets: Sequence[str], split: str, data_dir: Path, *, otherwise: Sequence[str] = ()) -> Clips:
    """The clips of prepared datasets, such as `["video_matte_240k/hd", "footage/mine"]`, one after the other.

    A dataset without the split gives the first of the splits `otherwise` that it has.
    """
    return concatenate([_open(dataset, (split, *otherwise), data_dir) for dataset in datasets])


def features(dataset: str, data_dir: Path) -> frozenset[str]:
    """The names of the pictures in a record of a prepared dataset."""
    return frozenset(_info(dataset, data_dir).features)


def concatenate(parts: Sequence[Clips]) -> Clips:
    """All clips of `parts`, in order."""
    if len(parts) == 1:
        return parts[0]
    ends = list(accumulate(part.frames for part in parts))

    def read(number: int) -> Mapping[str, bytes]:
        which = int(np.searchsorted(ends, number, side="right"))
        return parts[which].read(number - (ends[which] - parts[which].frames))

    names = [name for part in parts for name in part.names]
    return Clips(names, np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)]), read)


def prepared_folder(dataset: str, data_dir: Path) -> Path | None:
    """The newest version of a dataset below `data_dir` that was prepared to the end, or None."""

    def number(folder: Path) -> tuple[int, ...]:
        return tuple(int(part) for part in folder.name.split("."))

    whole = (Path(data_dir) / dataset).glob("[0-9]*.[0-9]*.[0-9]*/dataset_info.json")
    return max((file.parent for file in whole), key=number, default=None)


def _open(dataset: str, splits: Sequence[str], data_dir: Path) -> Clips:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    info = _info(dataset, data_dir)
    tables = info.metadata["clips"]
    split = next((name for name in splits if name in tables), None)
    if split is None:
        raise InputError(f"{dataset} has no split {splits[0]!r}: it has {', '.join(tables)}")
    records = ArrayRecordDataSource([str(path) for path in info.splits[split].filepaths])
    names = [f"{dataset}/{name}" for name in tables[split]["name"]]

    def read(number: int) -> Mapping[str, bytes]:
        return _pictures(records[number])

    return Clips(names, np.array(tables[split]["length"], np.int64), read)


def _info(dataset: str, data_dir: Path) -> Any:
    """What TFDS knows of a prepared dataset that can be read in any order."""
    import tensorflow_datasets as tfds

    folder = prepared_folder(dataset, data_dir)
    if folder is None:
        raise InputError(f"{dataset} is not prepared in {data_dir}: run `rvm data prepare`, or give another --data-dir")
    info = tfds.builder_from_directory(folder).info
    if "clips" not in (info.metadata or {}):
        raise InputError(f"{folder} has no table of clips: it was not made by `rvm data prepare`")
    if info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise InputError(f"{folder} holds {info.file_format.value} files, not array_record: prepare it again")
    return info


def _pictures(record: bytes) -> dict[str, Any]:
    features = tf.train.Example.FromString(record).features.feature
    return {name: feature.bytes_list.value[0] for name, feature in features.items()}
