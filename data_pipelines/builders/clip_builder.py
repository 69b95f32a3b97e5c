"""The TFDS builder that all datasets share: clips in, one record a frame out.

A subclass says which features a record has; `archive.py` beside it says what lies in the manual folder. Worker
processes here, or those of Apache Beam, decode and encode the clips into the final shards (`shards`), which wait beside
the dataset until all are there; those of an earlier, interrupted run are used again. The clip table (name, length and
checksum of each) goes into the metadata, so that `data_pipelines.records.clips` can read any frame of any clip.

A folder with the version of a dataset as its name is whole. It is put together under another name: TFDS writes its
metadata there, the shards are moved into it, and it takes the place of an old one when it is whole, not before.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder

from data_pipelines.archives.clip import ArchiveClip, Found
from data_pipelines.builders import beam_workers, catalog, shards, worker_pool
from data_pipelines.builders.shards import Table
from data_pipelines.records import licences
from data_pipelines.records.licences import Licence
from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing
from rvm_jax.host.locks import HeldError, locked

JPEG = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
GRAY_PNG = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
MATTING = tfds.features.FeaturesDict({"foreground": JPEG, "alpha": GRAY_PNG})
BACKGROUND = tfds.features.FeaturesDict({"image": JPEG})
SEGMENTATION = tfds.features.FeaturesDict({"image": JPEG, "mask": GRAY_PNG})

NAMES = "names.json"
"""Says which shards were given their final names, so that this can be undone."""


@dataclass(eq=False)
class FolderConfig(tfds.core.BuilderConfig):
    """A dataset of the user's own: made from `folder`, under a name of its own. Once prepared, it needs no folder."""

    folder: Path | None = None


class ClipBuilder(FileReaderBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Prepares clips, a record a frame, in order. The description is the README.md beside the builder."""

    FEATURES: ClassVar[tfds.features.FeaturesDict]
    HOMEPAGE: ClassVar[str | None] = None
    CLIPS_PER_SHARD: ClassVar[int] = 1
    """How many clips make a shard, if these are not too many shards: one for videos, a few dozen for stills."""

    def __init__(self, *, anew: bool = False, **options: Any) -> None:
        """See TFDS for the options; with `anew`, the dataset is built whether or not it is there, sound or damaged."""
        self._anew = anew
        super().__init__(**options)

    def find(self, manual: Path) -> Found:
        """The clips of every split, and what is wrong with the manual folder: what `archive.py` beside it says."""
        return catalog.find(self._catalog_name, manual, self._shared_data_dir)

    def download_and_prepare(self, **options: Any) -> None:
        """Build the dataset, unless it is there already; see TFDS for the options."""
        version = Path(self._version_folder)
        try:
            with _alone(version.parent, self.info.full_name):
                _tidy(version)
                if self._anew or not version.exists():
                    self._data_dir = os.fspath(_new(version))
                try:
                    super().download_and_prepare(**options)
                    if Path(self.data_dir) == _new(version):
                        self._move_shards()
                        licences.write(self._licence(version), _new(version))
                        _exchange(_new(version), version)
                        self._anew = False
                        self.info.update_data_dir(os.fspath(version))
                finally:
                    self._data_dir = self._version_folder
                    _tidy(version)
                    with contextlib.suppress(OSError):
                        _unfinished(version).rmdir()  # if nothing was finished
                shutil.rmtree(_unfinished(version), ignore_errors=True)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise InputError(f"cannot prepare {version}: {place}{error.strerror or error}") from error

    @property
    def config_name(self) -> str:
        """What stands behind the slash in the name of the dataset, if anything does."""
        return self.builder_config.name if self.builder_config else ""

    @property
    def _catalog_name(self) -> str:
        """What `catalog` calls the dataset, without its version."""
        return "/".join(filter(None, (self.name, self.config_name)))

    @property
    def _shared_data_dir(self) -> Path:
        """The data_dir of all datasets: without the name, config and version (or temporary folder) of this one."""
        return Path(self.data_dir).parents[2 if self.config_name else 1]

    def _licence(self, version: Path) -> Licence:
        """The owner's; of what is the user's own, what the user wrote beside the dataset that this one replaces."""
        owners = catalog.licence(self._catalog_name)
        return owners if owners.link else licences.read(version) or owners

    def _build_data_dir(self, given_data_dir: str | None) -> tuple[str, str]:
        """The folders of all datasets and of this one; what is to be replaced is not even looked at."""
        root, self._version_folder = super()._build_data_dir(given_data_dir)
        return root, f"{self._version_folder}-not-read" if self._anew else self._version_folder

    def _make_download_manager(self, **options: Any) -> tfds.download.DownloadManager:
        """What TFDS calls first: whatever is wrong is told before it writes anything."""
        manager = super()._make_download_manager(**options)
        self._found = self._sound(self._manual(manager))
        worker_pool.worker_count()
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

    def _download_and_prepare(
        self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig
    ) -> None:
        """Have all shards written, and say in `info` what is in them."""
        self.info.set_file_format("array_record", override=True)  # whatever was asked for
        # There are no clips yet if their source, another dataset, was only made since.
        found = self._found if any(self._found.splits.values()) else self._sound(self._manual(dl_manager))
        splits = {split: clips for split, clips in found.splits.items() if clips}  # TFDS takes no empty ones
        if isinstance(self.builder_config, FolderConfig):  # nobody asks for it of other datasets
            self.info.metadata["sources"] = source_fingerprint(splits)
        runner, options = download_config.beam_runner, download_config.beam_options
        run = partial(beam_workers.run, runner=runner, options=options) if runner else worker_pool.run
        folder = _unfinished(Path(self._version_folder))
        self._shards = shards.prepare(folder, splits, self.CLIPS_PER_SHARD, run)
        tables = {split: [shard.table() or {} for shard in written] for split, written in self._shards.items()}
        self.info.metadata["clips"] = {split: _joined(parts) for split, parts in tables.items()}
        self.info.set_splits(tfds.core.SplitDict([self._split_info(split, parts) for split, parts in tables.items()]))

    def _split_info(self, split: str, tables: Sequence[Table]) -> tfds.core.SplitInfo:
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[sum(table["length"]) for table in tables],
            num_bytes=sum(shard.path.stat().st_size for shard in self._shards[split]),
            filename_template=self._get_filename_template(split),
        )

    def _move_shards(self) -> None:
        """Give all shards their final names, in the folder of the metadata."""
        names: dict[Path, Path] = {}
        for split, written in self._shards.items():
            final = self._get_filename_template(split).sharded_filepaths(len(written))
            names |= {shard.path: Path(path) for shard, path in zip(written, final, strict=True)}
        with replacing(_unfinished(Path(self._version_folder)) / NAMES) as partial_file:
            partial_file.write_text(json.dumps({path.name: final.name for path, final in names.items()}))
        for path, final in names.items():
            path.rename(final)

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


def source_fingerprint(splits: Mapping[str, Sequence[ArchiveClip]]) -> str:
    """A digest of what a dataset is made from: the clips, and the files of each; not where they lie."""
    digest = hashlib.sha256()
    for split, clips in splits.items():
        for clip in clips:
            files = [list(shards.file_stats(path)) for path in clip.files]
            digest.update(json.dumps([split, clip.name, files]).encode())
    return digest.hexdigest()


def _joined(tables: Sequence[Table]) -> Table:
    """The table of all clips, from those of the shards."""
    return {column: [value for table in tables for value in table[column]] for column in tables[0]}


def _unfinished(version: Path) -> Path:
    """Where shards wait until all of them are there."""
    return version.parent / f".clips-{version.name}"


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
    if (names := _unfinished(version) / NAMES).exists():
        for shard, name in json.loads(names.read_text()).items():
            if (_new(version) / name).exists():
                (_new(version) / name).rename(names.parent / shard)
        names.unlink()
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
