"""The TFDS builder that all datasets share: clips in, one record a frame out.

A subclass says which features a record has and what lies in the manual folder. Preparing has two phases. First every
clip is decoded and encoded by a pool of worker processes into a file beside the dataset (`scratch.py`); what is there
from an earlier, interrupted run is used again. Then TFDS packs these files, in order, into shards. The clip table
(name, length and checksum of each) goes into the metadata, so that `data_pipelines.clips` can read any frame of any
clip.

TFDS's usual builder would sort the records of a split in memory, all of them at once if they are to stay in order; one
that makes the shards itself holds none. A folder with the version of a dataset as its name is whole: TFDS gives it that
name at the end.
"""

import contextlib
import fcntl
import functools
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_pipelines.builders import scratch
from data_pipelines.layout import Found
from rvm_jax.errors import InputError

JPEG = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
GRAY_PNG = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
MATTING = tfds.features.FeaturesDict({"foreground": JPEG, "alpha": GRAY_PNG})
BACKGROUND = tfds.features.FeaturesDict({"image": JPEG})
SEGMENTATION = tfds.features.FeaturesDict({"image": JPEG, "mask": GRAY_PNG})


SHARD_BYTES = 2**29
"""How large a shard gets, unless a single prepared file is larger."""

Examples = Iterator[tuple[int, Mapping[str, scratch.Picture]]]


@dataclass(eq=False)
class FolderConfig(tfds.core.BuilderConfig):
    """A dataset of the user's own: made from `folder`, under a name of its own. Once prepared, it needs no folder."""

    folder: Path | None = None


class ClipBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Prepares clips, a record a frame, in order. The description is the README.md beside the builder."""

    FEATURES: ClassVar[tfds.features.FeaturesDict]
    HOMEPAGE: ClassVar[str | None] = None
    CLIPS_PER_FILE: ClassVar[int] = 1
    """How many clips are prepared together: one for videos, a few dozen for stills."""

    def find(self, manual: Path) -> Found:
        """The clips of every split, and what is wrong with the manual folder."""
        raise NotImplementedError

    def download_and_prepare(self, **options: Any) -> None:
        """Build the dataset, unless it is there already; see TFDS for the options."""
        version = Path(self.data_dir)
        try:
            with _alone(version.parent, self.info.full_name):
                for leftover in version.parent.glob(f"incomplete.*_{version.name}"):  # of a run that was killed
                    shutil.rmtree(leftover)
                super().download_and_prepare(**options)
                shutil.rmtree(self._scratch, ignore_errors=True)
        except OSError as error:
            raise InputError(f"cannot prepare {version}: {error.strerror or error}") from error
        except RuntimeError as error:
            if "write() failed" not in str(error):  # what array_record makes of a full disk
                raise
            raise InputError(f"cannot prepare {version}: {error}") from error

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=self.FEATURES,
            homepage=self.HOMEPAGE,
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(clips={}),
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> Mapping[str, Sequence[Callable[[], Examples]]]:
        found = self.find(self._manual(dl_manager))
        for warning in found.warnings:
            logging.getLogger(__name__).warning("%s: %s", self.info.full_name, warning)
        if found.errors:
            raise InputError("\n".join([f"{self.info.full_name} cannot be prepared:", *found.errors]))
        splits = {split: clips for split, clips in found.splits.items() if clips}  # TFDS takes no empty ones
        prepared = scratch.prepare(self._scratch, splits, self.CLIPS_PER_FILE)
        generators = {}
        for split, files in prepared.items():
            clips: dict[str, list[Any]] = {"name": [], "length": [], "sha256": []}
            self.info.metadata["clips"][split] = clips
            generators[split] = [functools.partial(_examples, shard, clips) for shard in _shards(files)]
        return generators

    def _manual(self, dl_manager: tfds.download.DownloadManager) -> Path:
        """The folder that `find` looks at."""
        if isinstance(self.builder_config, FolderConfig):
            if self.builder_config.folder is None:
                raise InputError(f"{self.info.full_name} is not prepared: say from which folder it is to be made")
            return Path(self.builder_config.folder)
        try:
            return Path(dl_manager.manual_dir)
        except AssertionError as error:  # it is not there, or empty
            raise InputError(str(error)) from error

    @property
    def _scratch(self) -> Path:
        """Where prepared clips wait to be packed: beside the versions of the dataset, removed once it is whole."""
        version = Path(self.data_dir)  # while TFDS builds, this is its own temporary folder
        return version.parent / f".clips-{self.info.version}"


def _shards(files: Sequence[Path]) -> list[list[Path]]:
    """Files in order, those together that make up a shard."""
    shards: list[list[Path]] = []
    size = 0
    for file in files:
        size += file.stat().st_size
        if not shards or size > SHARD_BYTES:
            shards.append([])
            size = file.stat().st_size
        shards[-1].append(file)
    return shards


def _examples(files: Sequence[Path], clips: dict[str, list[Any]]) -> Examples:
    """Every frame of every clip, for TFDS; adds the clips to the table `clips` on the way."""
    for file in files:
        for clip in scratch.read(file):
            yield from enumerate(clip.records)  # TFDS wants a key; nothing depends on it
            clips["name"].append(clip.name)
            clips["length"].append(clip.length)
            clips["sha256"].append(clip.sha256)


@contextlib.contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes from preparing the same dataset, whose unfinished files would be taken for leftovers."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{name} is being prepared by another process: wait until it is done") from error
        yield
