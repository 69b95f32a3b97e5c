"""Clips in the archives that owners ship: what a dataset's `archive.py` finds, and what worker processes encode.

Each folder of `data_pipelines.builders` has an `archive.py` that looks at the manual folder: see `Archive`. `rvm data
check` prints what it finds; the builder prepares it. Nothing here imports TensorFlow, so that worker processes start
fast.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Record = Mapping[str, bytes]
"""One frame: the encoded image of every feature, such as `{"foreground": <jpeg>, "alpha": <png>}`."""


@dataclass(frozen=True)
class ArchiveClip:
    """A clip (or a still: a clip of one frame) that can be prepared.

    Attributes:
        name: Unique in its split, and the same on every machine.
        files: Everything it is made from, files or folders; if one changes, the clip is prepared anew.
        encode: Makes its records, one a frame, in order. Runs in a worker process, so it must be picklable: a
            module-level function, or a `functools.partial` of one. Raises `InputError` that names the file at fault.
    """

    name: str
    files: tuple[Path, ...]
    encode: Callable[[], Iterator[Record]]


def split_clips(clips: Sequence[ArchiveClip], every: int) -> dict[str, Sequence[ArchiveClip]]:
    """The splits `train` and `validation`: the first clip and every `every`th after it are for validation.

    A single clip is for training. A split without clips is left out.
    """
    validation = clips[::every] if len(clips) > 1 else []
    train = [clip for index, clip in enumerate(clips) if index % every or not validation]
    return {name: chosen for name, chosen in (("train", train), ("validation", validation)) if chosen}


@dataclass
class Found:
    """What lies in the manual folder.

    Attributes:
        splits: The clips of every split, in the order in which they are stored.
        errors: What keeps the dataset from being built, a line each: what is wrong with which file, and the mend.
        warnings: What a person should know before building, a line each.
    """

    splits: Mapping[str, Sequence[ArchiveClip]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Archive(Protocol):
    """The module `archive.py` of a dataset that has a place in the manual folder: two pure functions.

    Both are given the manual folder, the config of the dataset ("sd"; "" if it has none) and the folder of prepared
    datasets, of which most need only the first.
    """

    def find(self, manual: Path, config: str, data_dir: Path, /) -> Found:
        """The clips that are there, and what is wrong with them."""

    def places(self, manual: Path, config: str, data_dir: Path, /) -> Sequence[Path]:
        """Where it is looked for. While nothing lies in any of these places, nobody meant to prepare it."""
