"""Released networks: where they are published, and their download into the user's cache."""

import contextlib
import hashlib
import http.client
import math
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
        size: Its bytes, as a number or, of what was never seen here, in words.
        sha256: Of them; None if its owner does not tell, nor anybody else.
        licence: What its owner lets people do with it.
        licence_url: The whole of that.
    """

    about: str
    url: str
    size: int | str
    sha256: str | None
    licence: str
    licence_url: str

    @property
    def megabytes(self) -> str:
        return f"{self.size / 1e6:.0f} MB" if isinstance(self.size, int) else self.size

    @property
    def path(self) -> Path:
        """Where a copy lies, if there is one."""
        name = Path("weights", self.url.rpartition("/")[2])
        given = user_cache() / name
        return given if given.exists() else cache_folder() / name


class Elsewhere(NamedTuple):
    """Weights that no command can fetch: where a person finds them."""

    about: str
    size: str
    licence: str
    address: str


GPL = {"licence": "GPL-3.0", "licence_url": "https://www.gnu.org/licenses/gpl-3.0.html"}

APACHE = {"licence": "Apache-2.0", "licence_url": "https://www.apache.org/licenses/LICENSE-2.0"}
MIT = {"licence": "MIT", "licence_url": "https://github.com/PeterL1n/BackgroundMattingV2/blob/master/LICENSE"}

BGMV2 = "https://github.com/PeterL1n/BackgroundMattingV2/releases/download/v1.0.0"
MODNET = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2022.2"
REMBG = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"

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
    "modnet": Release(
        "MODNet for pictures",
        f"{MODNET}/modnet-photographic-portrait-matting/modnet_photographic_portrait_matting.ckpt",
        26_255_603,
        "7c22235f0925deba15d4d63e53afcb654c47055bbcd98f56e393ab2584007ed8",
        **APACHE,
    ),
    "modnet_webcam": Release(
        "MODNet for videos",
        f"{MODNET}/modnet-webcam-portrait-matting/modnet_webcam_portrait_matting.ckpt",
        26_255_603,
        "913b82b66558db39b6286c150f809017d7528c872b156eb14333c9c6cb52108b",
        **APACHE,
    ),
    "bgmv2_mobilenetv2": Release(
        "BackgroundMattingV2, fast; needs a clean plate", f"{BGMV2}/pytorch_mobilenetv2.pth", "20 MB", None, **MIT
    ),
    "bgmv2_resnet50": Release(
        "BackgroundMattingV2; needs a clean plate", f"{BGMV2}/pytorch_resnet50.pth", "161 MB", None, **MIT
    ),
    "bgmv2_resnet101": Release(
        "BackgroundMattingV2, largest; needs a clean plate", f"{BGMV2}/pytorch_resnet101.pth", "237 MB", None, **MIT
    ),
    "u2net": Release(
        "U²-Net for whatever is salient, as rembg has it",
        f"{REMBG}/u2net.onnx",
        175_997_641,
        "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
        **APACHE,
    ),
    "u2netp": Release(
        "U²-Net, small",
        f"{REMBG}/u2netp.onnx",
        4_574_861,
        "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
        **APACHE,
    ),
    "u2net_human_seg": Release(
        "U²-Net for people",
        f"{REMBG}/u2net_human_seg.onnx",
        175_997_641,
        "01eb6a29a5c4d8edb30b56adad9bb3a2a0535338e480724a213e0acfd2d1c73c",
        **APACHE,
    ),
}

_U2NET_PAGE = "https://github.com/xuebinqin/U-2-Net#usage-for-salient-object-detection"
_MODNET_PAGE = "https://drive.google.com/drive/folders/1umYmlCulvIFNaqPjwod1SayFmSRHziyR"

ELSEWHERE: Mapping[str, Elsewhere] = {
    "u2net.pth": Elsewhere("U²-Net as it was trained", "176 MB", "Apache-2.0", _U2NET_PAGE),
    "u2netp.pth": Elsewhere("its small sister", "4.7 MB", "Apache-2.0", _U2NET_PAGE),
    "u2net_human_seg.pth": Elsewhere("for people", "176 MB", "Apache-2.0", _U2NET_PAGE),
    "u2net_portrait.pth": Elsewhere("draws portraits, no mattes", "176 MB", "Apache-2.0", _U2NET_PAGE),
    "mobilenetv2_human_seg.ckpt": Elsewhere("what MODNet's training begins from", "9.1 MB", "Apache-2.0", _MODNET_PAGE),
}
"""On Google Drive, which asks a person before it gives large files."""


def existing(path: Path) -> Path:
    """The file or folder of weights that is called so, or else the file of a release of this name."""
    found = path if path.exists() else released_path(str(path)) or path
    if not found.exists():
        raise InputError(
            f"{path} does not exist: give a .pth or .safetensors file, a saved folder, or that of a training run, or a "
            f"name that `rvm weights` lists ({', '.join(RELEASES)})"
        )
    return found


def released_path(name: str) -> Path | None:
    """The file that a name stands for, None if it is not that of a release; one that is not there is refused."""
    release = RELEASES.get(name)
    if release is None:
        return None
    if not release.path.exists():
        raise InputError(
            f"{name} is not here yet: `rvm weights {name}` downloads it, {release.megabytes} under {release.licence}"
        )
    return release.path


def download(name: str, told: Callable[[int], object] = lambda done: None) -> Path:
    """Fetch a release, unless it is here; gives its path.

    What an interrupted download has left is gone on with. `told` is called with the bytes that are there.
    """
    release = RELEASES[name]

    def get(partial: Path) -> None:
        fetch(release.url, release.size if isinstance(release.size, int) else None, partial, told)
        _check(release, partial)

    download_once(release.path, name, get)
    return release.path


def download_once(path: Path, what: str, get: Callable[[Path], object]) -> None:
    """Let `get` fill a file beside `path`, which then takes its name, unless that is there; one process at a time.

    What it has left there when it is interrupted is given to it again.
    """
    partial = path.with_name(f"{path.name}.part")
    if path.exists():
        return
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path.with_name(f"{path.name}.lock"), remove=True):
                if not path.exists():
                    get(partial)
                    partial.replace(path)
    except HeldError as error:
        raise InputError(f"{error.owner} is downloading {what} already: wait for it") from error


def fetch(url: str, size: int | None, partial: Path, told: Callable[[int], object]) -> None:
    """Download a file to `partial`; of a known size, what an interrupted download has left there is gone on with."""
    there = partial.stat().st_size if partial.exists() and size is not None else 0
    if size is not None and there > size:  # of another file, which had this name before
        partial.unlink()
        there = 0
    if there >= (size or math.inf):
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-", "User-Agent": "rvm-jax"})
    done = there
    try:
        with urllib.request.urlopen(request, timeout=SECONDS_OF_SILENCE) as answer:
            goes_on = answer.status == http.client.PARTIAL_CONTENT
            done = there if goes_on else 0
            size = done + (answer.length or 0) if size is None else size
            expected = size - done
            if answer.length not in (None, expected):
                raise InputError(f"cannot download {url}: {answer.length} bytes come, not {expected}")
            with writing(partial):
                file = partial.open("ab" if goes_on and there else "wb")
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
    if done < (size or 1):
        of = f" after {done / 1e6:.1f} of {size / 1e6:.1f} MB: the same command goes on" if done and size else ""
        raise InputError(f"cannot download {url}: {' '.join(why.split())}{of}")


def _next(answer: http.client.HTTPResponse) -> bytes:
    """Of what comes; nothing at its end, or where it breaks off."""
    with contextlib.suppress(http.client.IncompleteRead, ConnectionError, TimeoutError):
        return answer.read1(PIECE)
    return b""


def _check(release: Release, partial: Path) -> None:
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if release.sha256 is not None and found != release.sha256:
        partial.unlink()
        raise InputError(
            f"{release.url} is not the file that is known: its SHA-256 is {found}, expected {release.sha256}; it was "
            "removed, so try again, or ask its owner"
        )
