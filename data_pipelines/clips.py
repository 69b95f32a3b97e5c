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


def open_clips(datasets: Sequence[str], split: str, data_dir: Path) -> Clips:
    """The clips of prepared datasets, such as `["video_matte_240k/hd", "footage/mine"]`, one after the other."""
    return concatenate([_open(dataset, split, data_dir) for dataset in datasets])


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


def _open(dataset: str, split: str, data_dir: Path) -> Clips:
    import tensorflow_datasets as tfds
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    folder = prepared_folder(dataset, data_dir)
    if folder is None:
        raise InputError(
            f"{dataset} is not prepared in {data_dir}: run `rvm data prepare {dataset}`, or give --data-dir"
        )
    info = tfds.builder_from_directory(folder).info
    if "clips" not in (info.metadata or {}):
        raise InputError(f"{folder} has no table of clips: it was not made by `rvm data prepare`")
    if split not in info.metadata["clips"]:
        raise InputError(f"{dataset} has no split {split!r}: it has {', '.join(info.metadata['clips'])}")
    if info.file_format.value != "array_record":
        raise InputError(
            f"{folder} holds {info.file_format.value} files, which cannot be read in any order: prepare it again"
        )
    table = info.metadata["clips"][split]
    records = ArrayRecordDataSource([str(path) for path in info.splits[split].filepaths])
    names = [f"{dataset}/{name}" for name in table["name"]]

    def read(number: int) -> Mapping[str, bytes]:
        return _pictures(records[number])

    return Clips(names, np.array(table["length"], np.int64), read)


def _pictures(record: bytes) -> dict[str, Any]:
    features = tf.train.Example.FromString(record).features.feature
    return {name: feature.bytes_list.value[0] for name, feature in features.items()}
