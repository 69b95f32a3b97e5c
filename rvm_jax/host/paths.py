"""The user's folders: where prepared data and caches lie unless something else is said."""

import os
import re
import tempfile
from pathlib import Path

Location = str | os.PathLike[str]
"""A path of this machine, or the URL of something in a bucket (see `buckets`)."""
TFDS_FOLDER = "~/tensorflow_datasets"


def is_url(location: Location) -> bool:
    """Whether this is a URL and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", os.fspath(location)) is not None


def located(location: Location) -> str | Path:
    """A URL as it is, a path with its ~ replaced."""
    return os.fspath(location) if is_url(location) else expanded(location)


def data_folder() -> str | Path:
    """Of prepared datasets: $TFDS_DATA_DIR, or TFDS's own."""
    return located(os.environ.get("TFDS_DATA_DIR") or TFDS_FOLDER)


def cache_folder() -> Path:
    """Of what may be deleted at any time: in $XDG_CACHE_HOME or ~/.cache, or for users without a home in $TMPDIR."""
    caches = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return (caches if caches.is_absolute() else Path(tempfile.gettempdir())) / "rvm-jax"


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with its ~ replaced; as it is for a user without a home, for whom `Path.expanduser` raises."""
    return Path(os.path.expanduser(path))  # noqa: PTH111
