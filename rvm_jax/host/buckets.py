"""Buckets of cloud storage: what gs:// and s3:// URLs name, through fsspec.

An object of a bucket is whole or not there, but a folder is nothing but a beginning of names: whoever copies one says
by a last object that all of it is there.
"""

import contextlib
import importlib.util
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rvm_jax.errors import InputError
from rvm_jax.host.paths import Location, expanded, is_url

SCHEMES = {"gs": "gcsfs", "s3": "s3fs"}
"""Which URLs name a bucket, and the package of fsspec that reaches it."""
TRANSFERS = 16
"""Files that are copied at a time; most are small, and each waits for the network."""


def local_path(option: str, location: Location, instead: str) -> Path:
    """The path, with its ~ replaced. A URL is refused: `instead` is what to do with a bucket."""
    if is_url(location):
        raise InputError(f"{option} {location}: expected a path on this machine, not a URL; {instead}")
    return expanded(location)


def join(location: Location, *parts: str) -> Location:
    """What lies below a bucket's folder or a local one."""
    if is_url(location):
        return "/".join([os.fspath(location).rstrip("/"), *parts])
    return Path(location, *parts)


def file_system(url: Location) -> tuple[Any, str]:
    """The fsspec file system that reaches a bucket, and the name that it has there for what the URL names.

    What goes wrong when it is used is for `reaching` to tell. It is not an `epath.Path`, since that takes for missing
    what it cannot reach.
    """
    scheme, _, name = os.fspath(url).partition("://")
    package = SCHEMES.get(scheme)
    if package is None or not name.strip("/"):
        raise InputError(f"{url}: expected {' or '.join(f'{known}://BUCKET/…' for known in SCHEMES)}, or a path")
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{url} needs {package}: run `pip install 'rvm-jax[{scheme}]'`")
    import fsspec

    logging.getLogger(package).setLevel(logging.CRITICAL)  # what it would print of an error is raised too
    # Other hosts write there too: what was listed a minute ago tells nothing.
    return fsspec.filesystem(scheme, use_listings_cache=False), name.rstrip("/")


@contextlib.contextmanager
def reaching(url: Location, doing: str = "read") -> Iterator[None]:
    """Tell what goes wrong on the way to a bucket as what it is to the user: it cannot be read, or written."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"cannot {doing} {url}: there is nothing of that name") from error
    except Exception as error:  # of aiohttp, google.auth, botocore …
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise InputError(f"cannot {doing} {url}: {lines[0].strip()}") from error


def list_files(url: Location) -> list[str]:
    """The names of all files below a folder, relative to it; of none if there is no such folder."""
    system, top = file_system(url)
    with reaching(url):
        found = system.find(top)
    return sorted(name.removeprefix(f"{top}/") for name in found if name.startswith(f"{top}/"))


def read(url: Location) -> bytes | None:
    """What a file holds; None if there is none."""
    system, name = file_system(url)
    with reaching(url):
        try:
            return system.cat_file(name)
        except FileNotFoundError:
            return None


def write(url: Location, content: bytes) -> None:
    """Make a file of this, in place of what was there."""
    system, name = file_system(url)
    with reaching(url, "write"):
        _pipe(system, name, content)


def download(url: Location, folder: Path, names: Iterable[str]) -> None:
    """Copy these files from below `url` to below a local folder, several at a time."""
    system, top = file_system(url)

    def one(name: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(f"{top}/{name}", str(path))

    with reaching(url):
        _at_once(one, names)


def upload(folder: Path, url: Location, names: Iterable[str]) -> None:
    """Copy these files from below a local folder to below `url`, several at a time."""
    system, top = file_system(url)

    def one(name: str) -> None:
        path = folder / name
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 1))
            returns = file.read() == b"\r"
        if returns:
            _pipe(system, f"{top}/{name}", path.read_bytes())
        else:
            system.put_file(str(path), f"{top}/{name}")

    with reaching(url, "write"):
        _at_once(one, names)


def remove(url: Location, names: Iterable[str]) -> None:
    """Remove these files from below `url`, one after the other; those that are gone already are no matter."""
    system, top = file_system(url)
    with reaching(url, "write"):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                system.rm_file(f"{top}/{name}")


@contextlib.contextmanager
def fetched(location: Location) -> Iterator[Path]:
    """A file or a folder on this machine: that of a path, or a copy of what a URL names, as long as the block runs."""
    if not is_url(location):
        yield expanded(location)
        return
    system, name = file_system(location)
    names = list_files(location)
    with tempfile.TemporaryDirectory(prefix="rvm-") as made:
        copy = Path(made, name.rpartition("/")[2])
        if names:
            download(location, copy, names)
        else:
            with reaching(location):
                system.get_file(name, str(copy))
        yield copy


def _pipe(system: Any, name: str, content: bytes) -> None:
    """Write a file. If it ends in a carriage return it is a chunk of its own: in the request that gcsfs makes of other
    small files a newline comes next, so that the last byte can be taken for the beginning of the line's end, and lost.
    """
    system.pipe_file(name, content, **({"chunksize": len(content)} if content.endswith(b"\r") else {}))


def _at_once(function: Any, names: Iterable[str]) -> None:
    with ThreadPoolExecutor(TRANSFERS) as pool:
        for _ in pool.map(function, names):
            pass
