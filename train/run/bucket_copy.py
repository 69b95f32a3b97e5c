"""A run's folder on this machine, and its copy in a bucket.

Of the copy counts what was copied to its end: checkpoints whose marker is there. Wherever a copy is cut off, the newest
of them is whole, and the metrics reach as far as it does.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from rvm_jax.host.compilation_cache import IN_RUN
from rvm_jax.host.files import writing
from rvm_jax.weights.orbax_folders import CHECKPOINTS, MARKER, VALIDATION, marked_folder, whole_files
from train.run.checkpoint import UNFINISHED
from train.run.run_folder import IDENTITY, LOCK, refuse_others

SESSIONS = "sessions.jsonl"
RESULTS = f"{CHECKPOINTS}/{VALIDATION}"
STAYS = (LOCK, "wandb/", "profile/", f"{IN_RUN}/", f"{CHECKPOINTS}/damaged-")
"""How the names of files begin that a run does not need to go on. They stay in the bucket."""


class Version(NamedTuple):
    """By which a file is seen to have changed."""

    size: int
    changed: int


class BucketCopy:
    """A folder and its copy below `url`. There is one process at a time that uses either."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self._there: set[str] = set()  # all names in the bucket
        self._copied: dict[str, Version] = {}

    def fetch(self) -> bool:
        """Make the folder what the bucket has; gives whether it has more.

        It has if the last session of the run left it here without an end. If another one has worked in the bucket
        since, or somebody has removed the run there, what is here is removed.
        """
        names = buckets.list_files(self.url)
        if IDENTITY not in names:
            refuse_others(self.url, [name for name in names if not name.startswith(STAYS)])
        whole = whole_files(names)
        self._refuse_unmarked(names, whole)
        buckets.remove(self.url, set(names) - set(whole))
        self._there = set(whole)
        with writing(self.folder):
            goes_on = IDENTITY in names and self._is_newer(buckets.read(f"{self.url}/{SESSIONS}"))
            if not goes_on:
                shutil.rmtree(self.folder, ignore_errors=True)
            needed = [name for name in whole if not name.startswith(STAYS)]
            missing = [name for name in needed if not (self.folder / name).exists()]
            self._download(missing)
        known = {*missing, *(name for name in whole if name.startswith(CHECKPOINTS) and marked_folder(name))}
        self._copied = {name: version for name, version in _files(self.folder).items() if name in known}
        return goes_on

    def push(self) -> None:
        """Copy what has changed, and remove checkpoints that are gone."""
        files = _files(self.folder)
        changed = {name: version for name, version in files.items() if self._copied.get(name) != version}
        single = {name: version for name, version in changed.items() if marked_folder(name) is None}
        first, last = ({name: single.pop(name) for name in (which,) if name in single} for which in (IDENTITY, RESULTS))
        self._upload_snapshot(first)  # without it the others are no run
        self._upload_snapshot(single)
        for folder in sorted({folder for name in changed if (folder := marked_folder(name))}):
            self._upload_folder(folder, {name: files[name] for name in files if marked_folder(name) == folder})
        self._upload_snapshot(last)
        kept = {None, *map(marked_folder, files)}
        self._remove({name for name in self._there if marked_folder(name) not in kept})

    def _is_newer(self, sessions: bytes | None) -> bool:
        """Whether the folder holds the run of the bucket with every session that the bucket knows."""
        path = self.folder / SESSIONS
        ours = path.read_bytes() if path.exists() else b""
        return (self.folder / IDENTITY).exists() and ours.startswith(sessions or b"")

    def _refuse_unmarked(self, names: Collection[str], whole: Collection[str]) -> None:
        """Refuse a run that somebody has copied there by other means, before all its checkpoints are removed."""
        unmarked = sorted({folder for name in set(names) - set(whole) if (folder := marked_folder(name))})
        if len(unmarked) > 1 and not any(map(marked_folder, whole)):
            raise InputError(
                f"{self.url} does not say which of its checkpoints are whole: put a file {MARKER} into "
                f"{', '.join(unmarked)}, if they are"
            )

    def _download(self, names: Collection[str]) -> None:
        """Whoever is killed meanwhile leaves whole files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as scratch:
            buckets.download(self.url, Path(scratch), names)
            for name in names:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                Path(scratch, name).rename(self.folder / name)

    def _upload_folder(self, folder: str, files: Mapping[str, Version]) -> None:
        marker = f"{folder}/{MARKER}"
        before = {name for name in self._there if marked_folder(name) == folder}
        self._remove(before & {marker})
        self._upload(self.folder, {name: version for name, version in files.items() if name != marker})
        self._remove(before - files.keys() - {marker})
        buckets.write(f"{self.url}/{marker}", b"")
        self._there.add(marker)
        self._copied |= files

    def _upload_snapshot(self, files: Mapping[str, Version]) -> None:
        """Of files that may grow while they are uploaded, which not every bucket takes."""
        with writing(self.folder), tempfile.TemporaryDirectory(dir=self.folder.parent) as scratch:
            for name in files:
                Path(scratch, name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / name, Path(scratch, name))
            self._upload(Path(scratch), files)

    def _upload(self, folder: Path, files: Mapping[str, Version]) -> None:
        buckets.upload(folder, self.url, sorted(files))
        self._copied |= files
        self._there |= files.keys()

    def _remove(self, names: Collection[str]) -> None:
        buckets.remove(self.url, sorted(names, key=lambda name: (not name.endswith(MARKER), name)))
        self._there -= set(names)


def _files(folder: Path) -> dict[str, Version]:
    """The files of a run by their names, without those that are not finished, which have others for now."""
    found = {}
    for place, folders, names in os.walk(folder):  # which does not mind folders that vanish meanwhile
        folders[:] = [name for name in folders if not (name.startswith(".rvm-") or UNFINISHED in name)]
        for path in (Path(place, name) for name in names):
            name = path.relative_to(folder).as_posix()
            if name == LOCK or ".rvm-" in name or UNFINISHED in name or path.is_symlink():
                continue
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found[name] = Version(stat.st_size, stat.st_mtime_ns)
    return found
