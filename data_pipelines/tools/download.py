"""Downloads of archives that can be had without asking, by plain HTTPS: resumed, and with their checksums kept."""

import contextlib
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.archives import parts
from data_pipelines.builders.pass_backgrounds import archive as pass_backgrounds
from data_pipelines.builders.synthhuman import archive as synthhuman
from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing
from rvm_jax.host.locks import HeldError, locked
from rvm_jax.weights import released

SUMS = "SHA256SUMS"
"""Beside the files: the checksums of those that were downloaded, as `sha256sum` writes and reads them."""
SECONDS_BETWEEN_TRIES = 0.05
"""Of taking the lock of the checksums."""


@dataclass(frozen=True)
class Source:
    """A dataset that comes as several files of one folder of a server.

    Attributes:
        url: Of that folder, with its last slash.
        folder: In the manual folder.
        name: Of the file with a number.
        sha256: Of those files of which it is known, by their names.
    """

    url: str
    folder: str
    name: Callable[[int], str]
    sha256: Mapping[str, str]


SOURCES: Mapping[str, Source] = {
    "synthhuman": Source(synthhuman.URL, synthhuman.FOLDER, synthhuman.file_name, {}),
    "pass_backgrounds": Source(
        pass_backgrounds.URL,
        pass_backgrounds.FOLDER,
        pass_backgrounds.file_name,
        {pass_backgrounds.file_name(number): digest for number, digest in enumerate(pass_backgrounds.SHA256)},
    ),
}


@dataclass(frozen=True)
class File:
    """A file to be downloaded, and its checksum if that is known."""

    url: str
    path: Path
    sha256: str | None


def files(dataset: str, manual: Path) -> list[File]:
    """The files of a dataset, or of a share of it."""
    kind, _, config = dataset.partition("/")
    source = SOURCES.get(kind)
    if source is None:
        raise InputError(
            f"{dataset} cannot be downloaded: `rvm data check {dataset}` tells where to ask for it; to be had without "
            f"asking are {' and '.join(SOURCES)}"
        )
    names = [source.name(number) for number in parts.chosen(kind, config)]
    return [File(source.url + name, manual / source.folder / name, source.sha256.get(name)) for name in names]


def fetch(file: File, told: Callable[[int, int], object] = lambda done, total: None) -> str:
    """Download a file, unless it is there; gives a line about it. `told` is called with the bytes there, and of all."""
    if file.path.exists():
        return f"{file.path} was there already"

    def get(partial: Path) -> None:
        size = _size(file.url)
        released.fetch(file.url, size, partial, lambda done: told(done, size))
        _keep_sum(file, partial)

    released.download_once(file.path, str(file.path), get)
    return f"{file.path}: {file.path.stat().st_size / 1e9:.2f} GB"


def _size(url: str) -> int:
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "rvm-jax"})
    try:
        with urllib.request.urlopen(request, timeout=released.SECONDS_OF_SILENCE) as answer:
            size = answer.headers["Content-Length"]
    except urllib.error.HTTPError as error:
        raise InputError(f"cannot download {url}: {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"cannot download {url}: {getattr(error, 'reason', None) or error}") from error
    if size is None:
        raise InputError(f"cannot download {url}: the server does not tell how large it is")
    return int(size)


def _keep_sum(file: File, partial: Path) -> None:
    """Note the checksum of a file; it must be the known one, and that which an earlier download of it had."""
    with partial.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    sums = file.path.with_name(SUMS)
    with contextlib.ExitStack() as stack:
        _wait_for_lock(stack, sums.with_name(f"{SUMS}.lock"))  # others download other files of the folder
        lines = sums.read_text().splitlines() if sums.exists() else []
        kept = {name.lstrip(" *"): digest for digest, _, name in (line.partition(" ") for line in lines)}
        expected = file.sha256 or kept.get(file.path.name)
        if found != (expected or found):
            partial.unlink()
            raise InputError(
                f"{file.url} is not the file that is known: its SHA-256 is {found}, expected {expected}; it was "
                f"removed, so try again, or ask its owner; {sums} holds what earlier downloads had"
            )
        kept[file.path.name] = found
        with replacing(sums, overwrite=True) as new:
            new.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(kept.items())))


def _wait_for_lock(stack: contextlib.ExitStack, path: Path) -> None:
    """Hold a lock that nobody holds for long, until the stack is closed."""
    while True:
        try:
            stack.enter_context(locked(path, remove=True))
            return
        except HeldError:
            time.sleep(SECONDS_BETWEEN_TRIES)
