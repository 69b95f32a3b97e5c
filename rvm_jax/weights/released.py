"""Released networks: where they are published, and their download into the user's cache."""

import contextlib
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from rvm_jax.errors import InputError
from rvm_jax.host.files import writing
from rvm_jax.host.locks import HeldError, locked
from rvm_jax.host.paths import cache_folder, user_cache

SECONDS_OF_SILENCE = 30.0
PIECE = 1 << 18
RELEASED_BY_RVM = "https://github.com/PeterL1n/RobustVideoMatting/releases/download/v1.0.0"


class Release(NamedTuple):
    """A file that somebody else has published.

    Attributes:
        about: A few words for who chooses.
        url: Of the file.
        size: Its bytes.
        sha256: Of them.
        licence: What its owner lets people do with it.
        licence_url: The whole of that.
    """

    about: str
    url: str
    size: int
    sha256: str
    licence: str
    licence_url: str

    @property
    def path(self) -> Path:
        """Where a copy lies, if there is one."""
        name = Path("weights", self.url.rpartition("/")[2])
        given = user_cache() / name
        return given if given.exists() else cache_folder() / name


GPL = {"licence": "GPL-3.0", "licence_url": "https://www.gnu.org/licenses/gpl-3.0.html"}

RELEASES: Mapping[str, Release] = {
    "mobilenetv3": Release(
        "RVM's own, fast",
        f"{RELEASED_BY_RVM}/rvm_mobilenetv3_fp32.onnx",
        14_975_696,
        "88d4531297118f595bf2fd60f6f566aec2e559393802d1f436c380f0cbbd2828",
        **GPL,
    ),
    "resnet50": Release(
        "RVM's own, larger and a little better",
        f"{RELEASED_BY_RVM}/rvm_resnet50_fp32.onnx",
        107_479_165,
        "25db300fcb6ee27f941a1b52c97856e8d1f13c7f35817f81a612f89af0e8a85c",
        **GPL,
    ),
}


def released_path(name: str) -> Path | None:
    """The file that a name stands for, None if it is not that of a release; one that is not there is refused."""
    release = RELEASES.get(name)
    if release is None:
        return None
    if not release.path.exists():
        raise InputError(
            f"{name} is not here yet: `rvm weights {name}` downloads it, {release.size / 1e6:.0f} MB under "
            f"{release.licence}"
        )
    return release.path


def download(name: str, told: Callable[[int], object] = lambda done: None) -> Path:
    """Fetch a release, unless it is here; gives its path.

    What an interrupted download has left is gone on with. `told` is called with the bytes that are there.
    """
    release = RELEASES[name]
    path = release.path
    partial = path.with_name(f"{path.name}.part")
    if path.exists():
        return path
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path.with_name(f"{path.name}.lock"), remove=True):
                if not path.exists():
                    fetch(release.url, release.size, partial, told)
                    _check(release, partial)
                    partial.replace(path)
    except HeldError as error:
        raise InputError(f"{error.owner} is downloading {name} already: wait for it") from error
    return path


def fetch(url: str, size: int, partial: Path, told: Callable[[int], object]) -> None:
    """Download a file of a known size to `partial`; what an interrupted download has left there is gone on with."""
    there = partial.stat().st_size if partial.exists() else 0
    if there >= size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-", "User-Agent": "rvm-jax"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS_OF_SILENCE) as answer:
            goes_on = answer.status == http.client.PARTIAL_CONTENT
            done = there if goes_on else 0
            expected = size - done
            if answer.length not in (None, expected):
                raise InputError(f"cannot download {url}: {answer.length} bytes come, not {expected}")
            with writing(partial):
                file = partial.open("ab" if goes_on else "wb")
            with file:
                while done < size and (piece := _next(answer)):
                    with writing(partial):
                        file.write(piece)
                    done += len(piece)
                    told(done)
        why = "the connection broke off"
    except urllib.error.HTTPError as error:
        why = f"{error.code} {error.reason}"
    except (OSError, http.client.HTTPException) as error:
        why = str(getattr(error, "reason", None) or error)
    there = partial.stat().st_size if partial.exists() else 0
    if there < size:
        of = f" after {there / 1e6:.1f} of {size / 1e6:.1f} MB: the same command goes on" if there else ""
        raise InputError(f"cannot download {url}: {' '.join(why.split())}{of}")


def _next(answer: http.client.HTTPResponse) -> bytes:
    """Of what comes; nothing at its end, or where it breaks off."""
    with contextlib.suppress(http.client.IncompleteRead, ConnectionError, TimeoutError):
        return answer.read1(PIECE)
    return b""


def _check(release: Release, partial: Path) -> None:
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != release.sha256:
        partial.unlink()
        raise InputError(
            f"{release.url} is not the file that is known: its SHA-256 is {found}, expected {release.sha256}; it was "
            "removed, so try again, or ask its owner"
        )
