"""Buckets of cloud storage: what gs:// and s3:// URLs name, through fsspec.

An object of a bucket is whole or not there, but a folder is nothing but a beginning of names: whoever copies one says
by a last object that all of it is there.
"""

import base64
import contextlib
import hashlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from rvm_jax.errors import InputError
from rvm_jax.host.paths import Location, expanded, is_url

SCHEMES = {"gs": "gcsfs", "s3": "s3fs"}
"""Which URLs name a bucket, and the package of fsspec that reaches it."""
SECONDS_OF_SILENCE = 10.0
"""After which a person is told that a bucket has not answered; libraries try for a minute or more."""
TRANSFERS = 16
"""Files that are copied at a time; most are small, and each waits for the network."""


def in_bucket(location: Location) -> bool:
    """Whether this is the URL of something in a bucket, and not that of a stream."""
    return is_url(location) and os.fspath(location).partition("://")[0] in SCHEMES


def local_path(location: Location) -> Path:
    """The path, with its ~ replaced; a URL is refused."""
    if is_url(location):
        raise InputError(
            f"{location}: expected a path on this machine, not a URL; mount the bucket, or copy from it and to it"
        )
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
        raise InputError(f"cannot {doing} {url}: there is no bucket or file of that name") from error
    except Exception as error:  # of aiohttp, google.auth, botocore …
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise InputError(f"cannot {doing} {url}: {lines[0].strip()}") from error


@contextlib.contextmanager
def _asking(url: Location) -> Iterator[None]:
    """As `reaching`, for a question that is answered at once where all is well."""
    line = f"rvm: {url} has not answered for {SECONDS_OF_SILENCE:.0f} s; still trying"
    teller = threading.Timer(SECONDS_OF_SILENCE, print, [line], {"file": sys.stderr, "flush": True})
    teller.start()
    try:
        with reaching(url):
            yield
    finally:
        teller.cancel()


class StoredFile(NamedTuple):
    """What a store tells of a file.

    Attributes:
        size: In bytes.
        md5: Of what is in it. None if that is not told, or is not certain to be that.
    """

    size: int
    md5: bytes | None


def stored_files(url: Location) -> dict[str, StoredFile]:
    """All files below a folder, by their names relative to it; none if there is no such folder."""
    system, top = file_system(url)
    with _asking(url):
        found = system.find(top, detail=True)
    return {
        name.removeprefix(f"{top}/"): StoredFile(int(told["size"]), _md5(told))
        for name, told in sorted(found.items())
        if name.startswith(f"{top}/")
    }


def _md5(told: Mapping[str, Any]) -> bytes | None:
    return base64.b64decode(told["md5Hash"]) if "md5Hash" in told else None  # as Google Cloud Storage calls it


def list_files(url: Location) -> list[str]:
    """The names of all files below a folder, relative to it; of none if there is no such folder."""
    return list(stored_files(url))


def md5(url: Location) -> bytes:
    """The MD5 of a file, for which all of it is read."""
    system, name = file_system(url)
    with reaching(url), system.open(name, "rb") as file:
        return hashlib.file_digest(file, "md5").digest()


def read(url: Location) -> bytes | None:
    """What a file holds; None if there is none."""
    system, name = file_system(url)
    with reaching(url):
        try:
            return system.cat_file(name)
        except FileNotFoundError:
            return None


def exists(url: Location) -> bool:
    """Whether there is a file of that name."""
    system, name = file_system(url)
    with _asking(url):
        try:
            return system.info(name)["type"] == "file"
        except FileNotFoundError:
            return False


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


def download_file(url: Location, path: Path) -> None:
    """Copy a file to `path`, if there is one."""
    system, name = file_system(url)
    with reaching(url):
        try:
            system.get_file(name, str(path))
        except FileNotFoundError:
            path.unlink(missing_ok=True)


def upload(folder: Path, url: Location, names: Iterable[str], done: Callable[[str], None] = lambda name: None) -> None:
    """Copy these files from below a local folder to below `url`, several at a time; `done` is called after each."""
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
        _at_once(one, names, done)


def remove(url: Location, names: Iterable[str]) -> None:
    """Remove these files from below `url`, one after the other; those that are gone already are no matter."""
    system, top = file_system(url)
    with reaching(url, "write"):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                system.rm_file(f"{top}/{name}")


def replace_folder(folder: Path, url: Location, *, last: str) -> None:
    """Make what lies below `url` a copy of a local folder. Meanwhile it has no file `last`, by which it is whole."""
    there = list_files(url)
    remove(url, [name for name in there if name == last])
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    upload(folder, url, names - {last})
    remove(url, [name for name in there if name not in names])
    if last in names:
        upload(folder, url, [last])
    else:
        write(join(url, last), b"copied\n")


def _pipe(system: Any, name: str, content: bytes) -> None:
    """Write a file. If it ends in a carriage return it is a chunk of its own: in the request that gcsfs makes of other
    small files a newline comes next, so that the last byte can be taken for the beginning of the line's end, and lost.
    """
    system.pipe_file(name, content, **({"chunksize": len(content)} if content.endswith(b"\r") else {}))


def _at_once(
    function: Callable[[str], None], names: Iterable[str], done: Callable[[str], None] = lambda name: None
) -> None:
    names = list(names)
    with ThreadPoolExecutor(TRANSFERS) as pool:
        for name, _ in zip(names, pool.map(function, names), strict=True):
            done(name)
