"""The TFDS builder that all datasets share: clips in, one record a frame out.

A subclass says which features a record has and what lies in the manual folder. Preparing has two phases. First every
clip is decoded and encoded by a pool of worker processes into a file beside the dataset (`worker_pool`); what is there
from an earlier, interrupted run is used again. Then TFDS packs these files, in order, into shards. The clip table
(name, length and checksum of each) goes into the metadata, so that `data_pipelines.records.clips` can read any frame of
any clip.

TFDS's usual builder would sort the records of a split in memory, all of them at once if they are to stay in order; one
that makes the shards itself holds none. A folder with the version of a dataset as its name is whole: TFDS gives it that
name at the end. One that is built anew takes the place of the old one when it is whole, not before.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_pipelines.archives.clip import ArchiveClip, Found
from data_pipelines.builders import worker_pool
from rvm_jax.errors import InputError
from rvm_jax.host.locks import HeldError, locked

JPEG = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
GRAY_PNG = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
MATTING = tfds.features.FeaturesDict({"foreground": JPEG, "alpha": GRAY_PNG})
BACKGROUND = tfds.features.FeaturesDict({"image": JPEG})
SEGMENTATION = tfds.features.FeaturesDict({"image": JPEG, "mask": GRAY_PNG})


SHARD_BYTES = 2**29
"""How large a shard gets, unless a single prepared file is larger."""

Examples = Iterator[tuple[int, Mapping[str, worker_pool.Picture]]]


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

    def __init__(self, *, anew: bool = False, **options: Any) -> None:
        """See TFDS for the options; with `anew`, the dataset is built whether or not it is there, sound or damaged."""
        self._anew = anew
        super().__init__(**options)

    def find(self, manual: Path) -> Found:
        """The clips of every split, and what is wrong with the manual folder."""
        raise NotImplementedError

    def download_and_prepare(self, **options: Any) -> None:
        """Build the dataset, unless it is there already; see TFDS for the options."""
        version = Path(self._version_folder)
        try:
            with _alone(version.parent, self.info.full_name):
                _tidy(version)
                try:
                    super().download_and_prepare(**options)
                finally:
                    with contextlib.suppress(OSError):
                        self._clip_files.rmdir()  # if nothing was finished
                if self._anew:
                    _exchange(Path(self.data_dir), version)
                    self._anew, self._data_dir = False, self._version_folder
                    self.info.update_data_dir(self._data_dir)
                shutil.rmtree(self._clip_files, ignore_errors=True)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise InputError(f"cannot prepare {version}: {place}{error.strerror or error}") from error
        except RuntimeError as error:
            if "write() failed" not in str(error):  # what array_record makes of a full disk
                raise
            raise InputError(f"cannot prepare {version}: {error}") from error

    def _build_data_dir(self, given_data_dir: str | None) -> tuple[str, str]:
        """The folders of all datasets and of this one; what is to be replaced is not even looked at."""
        root, self._version_folder = super()._build_data_dir(given_data_dir)
        return root, os.fspath(_new(Path(self._version_folder))) if self._anew else self._version_folder

    def _make_download_manager(self, **options: Any) -> tfds.download.DownloadManager:
        """What TFDS calls first: whatever is wrong is told before it writes anything."""
        manager = super()._make_download_manager(**options)
        self._found = self._sound(self._manual(manager))
        self._workers = worker_pool.worker_count()
        return manager

    def _log_download_bytes(self) -> None:
        """TFDS prints here that it begins, whatever its settings; `rvm data prepare` says what is worth saying."""

    def _log_download_done(self) -> None:
        """Likewise at the end."""

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
        # There are no clips yet if their source, another dataset, was only made since.
        found = self._found if any(self._found.splits.values()) else self._sound(self._manual(dl_manager))
        splits = {split: clips for split, clips in found.splits.items() if clips}  # TFDS takes no empty ones
        self.info.metadata["clips"] = {}
        if isinstance(self.builder_config, FolderConfig):  # nobody asks for it of other datasets
            self.info.metadata["sources"] = source_fingerprint(splits)
        prepared = worker_pool.prepare(self._clip_files, splits, self.CLIPS_PER_FILE, workers=self._workers)
        generators = {}
        for split, files in prepared.items():
            clips: dict[str, list[Any]] = {"name": [], "length": [], "sha256": []}
            self.info.metadata["clips"][split] = clips
            generators[split] = [functools.partial(_examples, shard, clips) for shard in _shards(files)]
        return generators

    def _sound(self, manual: Path) -> Found:
        """What `find` finds, nothing of which is wrong."""
        found = self.find(manual)
        for warning in found.warnings:
            print(f"warning: {self.info.full_name}: {warning}", file=sys.stderr, flush=True)
        if found.errors:
            raise InputError("\n".join([f"{self.info.full_name} cannot be prepared:", *found.errors]))
        return found

    def _manual(self, dl_manager: tfds.download.DownloadManager) -> Path:
        """The folder that `find` looks at."""
        if isinstance(self.builder_config, FolderConfig):
            if self.builder_config.folder is None:
                raise InputError(f"{self.info.full_name} is not prepared: say from which folder it is to be made")
            return Path(self.builder_config.folder)
        try:
            return Path(dl_manager.manual_dir)
        except AssertionError:  # it is not there, or empty: `find` says what that means
            return Path(dl_manager._manual_dir)

    @property
    def _clip_files(self) -> Path:
        """Where prepared clips wait to be packed: beside the versions of the dataset, removed once it is whole."""
        version = Path(self.data_dir)  # while TFDS builds, this is its own temporary folder
        return version.parent / f".clips-{self.info.version}"


def source_fingerprint(splits: Mapping[str, Sequence[ArchiveClip]]) -> str:
    """A digest of what a dataset is made from: the clips, and the files of each; not where they lie."""
    digest = hashlib.sha256()
    for split, clips in splits.items():
        for clip in clips:
            files = [list(worker_pool.file_stats(path)) for path in clip.files]
            digest.update(json.dumps([split, clip.name, files]).encode())
    return digest.hexdigest()


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
        for clip in worker_pool.read(file):
            yield from enumerate(clip.records)  # TFDS wants a key; nothing depends on it
            clips["name"].append(clip.name)
            clips["length"].append(clip.length)
            clips["sha256"].append(clip.sha256)


def _new(version: Path) -> Path:
    """Where a dataset is built that is to take the place of another."""
    return version.parent / f".new-{version.name}"


def _old(version: Path) -> Path:
    return version.parent / f".old-{version.name}"


def _exchange(new: Path, version: Path) -> None:
    """Let a new dataset take the place of the old one, which stays if that fails."""
    there = version.exists()
    if there:
        version.rename(_old(version))
    try:
        new.rename(version)
    except BaseException:
        if there:
            _old(version).rename(version)
        raise
    shutil.rmtree(_old(version), ignore_errors=True)


def _tidy(version: Path) -> None:
    """Put back or remove what a run left that was killed."""
    if not version.exists() and _old(version).exists():
        _old(version).rename(version)
    unfinished = [path for end in (version, _new(version)) for path in version.parent.glob(f"incomplete.*_{end.name}")]
    for leftover in (*unfinished, _new(version), _old(version)):
        if leftover.exists():
            shutil.rmtree(leftover)
    with contextlib.suppress(OSError):
        version.rmdir()  # only if it is empty, which TFDS would take for the dataset


@contextlib.contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes from preparing the same dataset, whose unfinished files would be taken for leftovers.

    If nothing else is left in folders that were made for this, they are removed.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, made)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(locked(folder / ".lock", remove=True))
        except HeldError as held:
            raise InputError(f"{name} is being prepared by {held.owner}: wait until it is done") from held
        yield


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, each in the one that follows, as long as they are empty."""
    with contextlib.suppress(OSError):
        for path in folders:
            path.rmdir()
