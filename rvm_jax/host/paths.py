"""The user's folders: where prepared data and caches lie unless something else is said."""

import os
import re
import tempfile
from pathlib import Path

Location = str | os.PathLike[str]
"""A path of this machine, or the URL of something in a bucket (see `buckets`)."""


def is_url(location: Location) -> bool:
    """Whether this is a URL and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", os.fspath(location)) is not None


def located(location: Location) -> str | Path:
    """A URL as it is, a path with its ~ replaced."""
    return os.fspath(location) if is_url(location) else expanded(location)


def data_folder() -> str | Path:
    """Of prepared datasets: $TFDS_DATA_DIR, or TFDS's own."""
    given = os.environ.get("TFDS_DATA_DIR")
    return located(given) if given else tfds_folder()


def tfds_folder() -> Path:
    """Where TFDS keeps what it has prepared."""
    return user_folder() / "tensorflow_datasets"


def user_folder() -> Path:
    """The user's home, or a folder in $TMPDIR for users without one."""
    home = expanded("~")
    return home if home.is_absolute() else _temporary_folder()


def cache_folder() -> Path:
    """Of what may be deleted at any time: the user's, or in $TMPDIR if nothing is written there."""
    folder = user_cache()
    return folder if folder.is_absolute() and writable(folder) else _temporary_folder()


def user_cache() -> Path:
    """The user's own, in $XDG_CACHE_HOME or ~/.cache, which may be for reading alone."""
    return Path(os.environ.get("XDG_CACHE_HOME") or user_folder() / ".cache") / "rvm-jax"


def writable(folder: Path) -> bool:
    """Whether this user may write in a folder, or make it."""
    there = next((path for path in (folder, *folder.parents) if os.access(path, os.F_OK)), folder)
    return os.access(there, os.W_OK | os.X_OK)


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with its ~ replaced; as it is for a user without a home, for whom `Path.expanduser` raises."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def _temporary_folder() -> Path:
    """This user's alone, in $TMPDIR."""
    return Path(tempfile.gettempdir()) / f"rvm-jax-{os.getuid() if hasattr(os, 'getuid') else ''}"
