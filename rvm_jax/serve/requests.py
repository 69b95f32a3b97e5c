"""What somebody asks for, checked; and how it is made, by `matte_video`."""

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
from rvm_jax.serve.uploads import Given, Limits, Upload
from rvm_jax.video import backgrounds
from rvm_jax.video.matting import matte_video

DETAILS = {"faster": 384, "automatic": 512, "finer": 768, "finest": 1024}
"""How long the longest side of the frames is when the network looks at them."""

KINDS = ("mp4", "webm", "mov", "png")
BACKGROUNDS = (backgrounds.TRANSPARENT, "green", "color", "file", backgrounds.BLUR)

NUMBER = r"(\d+(?:\.\d+)?)"

OPTIONS = {"--start and --end": "start and end", "--end": "the end at"}
"""What the messages of a command say, and what they are to say here."""


@dataclass(frozen=True)
class Options:
    """What somebody asks for."""

    source: Given
    background: str = "green"
    """One of `BACKGROUNDS`."""
    color: str = "#00ff00"
    """For "color": #rrggbb, or rgb(…) or rgba(…), of which alpha is left out."""
    behind: Given | None = None
    """For "file": a picture or video."""
    detail: str = "automatic"
    kind: str = "mp4"
    start: float | None = None
    end: float | None = None
    look: bool = False
    """Only a picture of the first frame."""


@dataclass(frozen=True)
class Request:
    """The same, checked."""

    source: Upload
    background: str
    ratio: float
    kind: str
    start: float
    end: float | None
    look: bool


def request(wishes: Options, home: Path, folder: Path, limits: Limits) -> Request:
    """Take the files into `folder`, and refuse what cannot be done."""
    for what, value, choices in (
        ("background", wishes.background, BACKGROUNDS),
        ("detail", wishes.detail, tuple(DETAILS)),
        ("kind", wishes.kind, KINDS),
    ):
        if value not in choices:
            raise InputError(f"{what} {uploads.shown(str(value))}: expected one of {', '.join(choices)}")
    background = wishes.background
    if background == "color":
        background = _color(wishes.color)
    elif background == "file":
        if wishes.behind is None:
            raise InputError("no background was given: choose a picture or a video to put behind people")
        behind = uploads.take(wishes.behind, home, folder / "behind", limits)
        background = str(behind.path)
    source = uploads.take(wishes.source, home, folder / "source", limits)
    if background == backgrounds.TRANSPARENT and wishes.kind == "mp4" and not (source.picture or wishes.look):
        raise InputError("an MP4 cannot be transparent: choose WebM, MOV or PNGs, or another background")
    start, end = uploads.part(source, wishes.start, wishes.end, limits)
    ratio = automatic_ratio((source.height, source.width), DETAILS[wishes.detail])
    return Request(source, background, ratio, wishes.kind, start, end, wishes.look)


def look(matte: Matte, order: Request, folder: Path) -> dict[str, Path]:
    """The first frame."""
    background = backgrounds.CHECKERED if order.background == backgrounds.TRANSPARENT else order.background
    files = {"view": folder / "view.png", "alpha": folder / "alpha.png"}
    matte_video(
        order.source.path,
        files["view"],
        weights=matte,
        alpha=files["alpha"],
        background=background,
        downsample_ratio=order.ratio,
        start=order.start,
        end=order.end,
        chunk=1,
        stop=lambda: True,
    )
    return files


def whole(
    matte: Matte,
    order: Request,
    folder: Path,
    progress: Callable[[int, int | None], None],
    stop: Callable[[], bool],
) -> dict[str, Path]:
    """All of it, with its alpha, and with what browsers can show of it."""
    ending = ".png" if order.source.picture else f".{order.kind}"
    pictures = ending == ".png" and not order.source.picture
    target = folder / ("matte" if pictures else f"matte{ending}")
    shown = ".png" if order.source.picture else ".mp4"
    view = None if ending == ".mp4" else folder / f"view{shown}"
    alpha = folder / f"alpha{shown}"
    done = matte_video(
        order.source.path,
        target,
        weights=matte,
        alpha=alpha,
        view=view,
        background=order.background,
        downsample_ratio=order.ratio,
        start=order.start,
        end=order.end,
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


def told(error: Exception, order: Request, folder: Path) -> str:
    """Why a job failed, for somebody who knows neither the server's folders nor the options of commands."""
    if isinstance(error, InputError):
        message = str(error)
        for path, name in ((order.source.path, order.source.name), (order.background, "the background")):
            message = message.replace(str(path), name)
        for option, words in OPTIONS.items():
            message = message.replace(option, words)
        return message.replace(f"{folder}/", "")
    return broken(error)


def broken(error: Exception) -> str:
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
        raise InputError(f"color {uploads.shown(text)}: expected #rrggbb, such as #1e90ff")
    return "#" + "".join(f"{round(float(part)):02x}" for part in match.groups())
