"""Requests: a client's options, their validation, and how `matte_video` makes what they ask for."""

import re
import sys
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rvm_jax.errors import InputError
from rvm_jax.matte import Matte, automatic_ratio
from rvm_jax.serve import uploads
from rvm_jax.serve.uploads import Limits, MediaFile, Upload
from rvm_jax.video import backgrounds
from rvm_jax.video.matting import matte_video

DETAILS = {"faster": 384, "automatic": 512, "finer": 768, "finest": 1024}
"""How long the longest side of the frames is when the network looks at them."""

KINDS = ("mp4", "webm", "mov", "png")
BACKGROUNDS = (backgrounds.TRANSPARENT, "green", "color", "file", backgrounds.BLUR)

NUMBER = r"(\d+(?:\.\d+)?)"

WORDS = {"--start and --end": "start and end", "--end": "the end at"}
"""What the messages of a command say, and what it is called here."""


@dataclass(frozen=True)
class Options:
    """What a client has chosen, not checked yet."""

    source: Upload
    background: str = "green"
    """One of `BACKGROUNDS`."""
    color: str = "#00ff00"
    """For "color": #rrggbb, or rgb(…) or rgba(…), of which alpha is left out."""
    behind: Upload | None = None
    """For "file": a picture or video."""
    detail: str = "automatic"
    kind: str = "mp4"
    start: float | None = None
    end: float | None = None
    preview: bool = False
    """Only a picture of the first frame."""


@dataclass(frozen=True)
class Request:
    """What is to be made: options that were checked."""

    source: MediaFile
    background: str
    ratio: float
    kind: str
    start: float
    end: float | None
    preview: bool


def validate(options: Options, home: Path, folder: Path, limits: Limits) -> Request:
    """Take the files into `folder`, and refuse what cannot be done."""
    for what, value, choices in (
        ("background", options.background, BACKGROUNDS),
        ("detail", options.detail, tuple(DETAILS)),
        ("kind", options.kind, KINDS),
    ):
        if value not in choices:
            raise InputError(f"{what} {uploads.display_name(str(value))}: expected one of {', '.join(choices)}")
    background = options.background
    if background == "color":
        background = _color(options.color)
    elif background == "file":
        if options.behind is None:
            raise InputError("no background was given: choose a picture or a video to put behind people")
        behind = uploads.accept(options.behind, home, folder / "behind", limits)
        background = str(behind.path)
    source = uploads.accept(options.source, home, folder / "source", limits)
    if background == backgrounds.TRANSPARENT and options.kind == "mp4" and not (source.picture or options.preview):
        raise InputError("an MP4 cannot be transparent: choose WebM, MOV or PNGs, or another background")
    start, end = uploads.part(source, options.start, options.end, limits)
    ratio = automatic_ratio((source.height, source.width), DETAILS[options.detail])
    return Request(source, background, ratio, options.kind, start, end, options.preview)


def make_preview(matte: Matte, request: Request, folder: Path) -> dict[str, Path]:
    """The matte of the first frame."""
    background = backgrounds.CHECKERED if request.background == backgrounds.TRANSPARENT else request.background
    files = {"view": folder / "view.png", "alpha": folder / "alpha.png"}
    matte_video(
        request.source.path,
        files["view"],
        weights=matte,
        alpha=files["alpha"],
        background=background,
        downsample_ratio=request.ratio,
        start=request.start,
        end=request.end,
        chunk=1,
        stop=lambda: True,
    )
    return files


def make_matte(
    matte: Matte,
    request: Request,
    folder: Path,
    progress: Callable[[int, int | None], None],
    stop: Callable[[], bool],
) -> dict[str, Path]:
    """The matte of all of it, its alpha, and what browsers can show of it; nothing if it was stopped."""
    ending = ".png" if request.source.picture else f".{request.kind}"
    pictures = ending == ".png" and not request.source.picture
    target = folder / ("matte" if pictures else f"matte{ending}")
    viewable = ".png" if request.source.picture else ".mp4"
    view = None if ending == ".mp4" else folder / f"view{viewable}"
    alpha = folder / f"alpha{viewable}"
    done = matte_video(
        request.source.path,
        target,
        weights=matte,
        alpha=alpha,
        view=view,
        background=request.background,
        downsample_ratio=request.ratio,
        start=request.start,
        end=request.end,
        progress=progress,
        stop=stop,
    )
    if not done.complete:
        return {}
    if pictures:
        target = _zipped(target)
    return {"matte": target, "view": view or target, "alpha": alpha}


def _zipped(folder: Path) -> Path:
    """The pictures of a folder, which are compressed already, as one file in its place."""
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
            path.unlink()
    folder.rmdir()
    return target


def error_message(error: Exception, request: Request, folder: Path) -> str:
    """Why a job failed, for somebody who knows neither the server's folders nor the options of commands."""
    if isinstance(error, InputError):
        message = str(error)
        for path, name in ((request.source.path, request.source.name), (request.background, "the background")):
            message = message.replace(str(path), name)
        for option, words in WORDS.items():
            message = message.replace(option, words)
        return message.replace(f"{folder}/", "")
    return server_error(error)


def server_error(error: Exception) -> str:
    """The same for what the server is to blame for, which its owner sees in full."""
    traceback.print_exception(error, file=sys.stderr)
    reason = str(error).splitlines() or [""]
    return f"the server could not do it: {type(error).__name__}: {reason[0][:200]}".rstrip(": ")


def _color(text: str) -> str:
    """What browsers call a colour, as #rrggbb."""
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return text
    match = re.fullmatch(rf"rgba?\(\s*{NUMBER}\s*,\s*{NUMBER}\s*,\s*{NUMBER}\s*(?:,.*)?\)", text)
    if match is None or max(map(float, match.groups())) > 255:
        raise InputError(f"color {uploads.display_name(text)}: expected #rrggbb, such as #1e90ff")
    return "#" + "".join(f"{round(float(part)):02x}" for part in match.groups())
