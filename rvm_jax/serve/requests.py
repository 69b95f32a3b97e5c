"""Requests: a client's options, their validation, and how `matte_video` makes what they ask for."""

import re
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax import Array
from PIL import Image

from rvm_jax.baselines.matte import BaselineMatte
from rvm_jax.errors import InputError
from rvm_jax.matte import Matte, automatic_ratio
from rvm_jax.serve import uploads
from rvm_jax.serve.uploads import Limits, MediaFile, Upload
from rvm_jax.video import backgrounds, frames
from rvm_jax.video.matting import matte_video
from rvm_jax.video.plates import opening

DETAILS = {"faster": 384, "automatic": 512, "finer": 768, "finest": 1024}
"""How long the longest side of the frames is when the network looks at them."""

FORMATS = ("mp4", "webm", "mov", "gif", "png")
BACKGROUNDS = (backgrounds.TRANSPARENT, "green", backgrounds.BLUR)

LOOK_EVERY = 1.0  # seconds

WORDS = {
    "--start and --end": "start and end",
    "--end": "the end at",
    "give --align-plate": "ask for it to be aligned",
    "without --align-plate": "and do not ask for it to be aligned",
    "give --plate FILE": "send a picture as the plate",
    "--plate auto": "the plate auto",
}
"""What the messages of a command say, and what it is called here."""


@dataclass(frozen=True)
class Options:
    """What a client has chosen, not checked yet."""

    video: Upload
    background: str | Upload = "green"
    """One of `BACKGROUNDS`, #rrggbb, or a picture or video."""
    detail: str = "automatic"
    format: str = "mp4"
    start: float | None = None
    end: float | None = None
    preview: bool = False
    """Only a picture of the first frame."""
    plate: str | Upload | None = None
    """The same view without the person, for networks that want one, or "auto", the median of the video."""
    align_plate: bool = False
    """The camera was in a hand."""


@dataclass(frozen=True)
class Request:
    """What is to be made: options that were checked."""

    source: MediaFile
    background: str
    ratio: float | None
    format: str
    start: float
    end: float | None
    preview: bool
    plate: str | None
    align_plate: bool
    program: tuple[Any, ...]
    """All that decides which programs its frames need, as far as headers tell."""


def parse(given: Mapping[str, Any], upload: Callable[[str], Upload]) -> Options:
    """The options of a request as they were sent, where `upload` finds a file by its id."""
    known = ("video", "background", "plate", "align_plate", "detail", "format", "start", "end", "preview")
    for name in given:
        if name not in known:
            raise InputError(f"there is no option {uploads.display_name(str(name))}: expected {', '.join(known)}")

    def file(value: Any) -> Upload:
        return value if isinstance(value, Upload) else upload(str(value))

    def number(name: str) -> float | None:
        value = given.get(name)
        try:
            return None if value in (None, "") else float(value)
        except (OverflowError, TypeError, ValueError):
            raise InputError(f"{name} {uploads.display_name(str(value))}: expected seconds, such as 1.5") from None

    def yes(name: str) -> bool:
        return str(given.get(name)).lower() in ("true", "1", "yes")

    if not given.get("video"):
        raise InputError("no video was given: send one")
    form = str(given.get("format") or "mp4")
    background = given.get("background") or ("green" if form == "mp4" else backgrounds.TRANSPARENT)
    if isinstance(background, dict):
        background = file(background.get("upload"))
    plate = given.get("plate") or None
    if isinstance(plate, dict):
        plate = file(plate.get("upload"))
    return Options(
        file(given["video"]),
        background if isinstance(background, Upload) else str(background),
        str(given.get("detail") or "automatic"),
        form,
        number("start"),
        number("end"),
        yes("preview"),
        plate if plate is None or isinstance(plate, Upload) else str(plate),
        yes("align_plate"),
    )


def validate(options: Options, folder: Path, limits: Limits, matte: Matte | BaselineMatte) -> Request:
    """Take the files into `folder`, and refuse what cannot be done."""
    plate = _plate(options, folder, limits, matte)
    if options.detail != "automatic" and not matte.keeps_state:
        raise InputError("this network looks at pictures at a size of its own: leave the detail out")
    for what, value, choices in (("detail", options.detail, tuple(DETAILS)), ("format", options.format, FORMATS)):
        if value not in choices:
            raise InputError(f"{what} {uploads.display_name(value)}: expected one of {', '.join(choices)}")
    background = options.background
    behind: tuple[Any, ...] = (background if background in (backgrounds.BLUR, backgrounds.TRANSPARENT) else "color",)
    if isinstance(background, Upload):
        file = uploads.accept(background, folder / "behind", limits)
        background, behind = str(file.path), (file.picture, file.stored)
    elif background not in BACKGROUNDS and not re.fullmatch(r"#[0-9a-fA-F]{6}", background):
        known = ", ".join(BACKGROUNDS)
        raise InputError(f"background {uploads.display_name(background)}: expected {known}, #rrggbb or a file")
    source = uploads.accept(options.video, folder / "source", limits)
    if background == backgrounds.TRANSPARENT and options.format == "mp4" and not (source.picture or options.preview):
        raise InputError("an MP4 cannot be transparent: choose WebM, MOV, GIF or PNGs, or another background")
    start, end = uploads.part(source, options.start, options.end, limits)
    if plate == opening.AUTO and source.picture:
        raise InputError("the plate auto is made of the frames of a video: send a plate with a picture")
    ratio = automatic_ratio((source.height, source.width), DETAILS[options.detail]) if matte.keeps_state else None
    size = (source.height, source.width, source.stored)
    program = (*size, ratio, behind, options.format, options.preview, options.align_plate)
    rest = options.preview, plate, options.align_plate, program
    return Request(source, background, ratio, options.format, start, end, *rest)


def _plate(options: Options, folder: Path, limits: Limits, matte: Matte | BaselineMatte) -> str | None:
    """What `matte_video` takes as the clean plate, if the network wants one."""
    plate = options.plate
    if plate is not None and not matte.needs:
        raise InputError("this network takes no clean plate: leave the plate out")
    if plate is None and matte.needs:
        raise InputError("this network needs a clean plate: send the same view without the person as plate, or auto")
    if options.align_plate and not isinstance(plate, Upload):
        raise InputError("only a plate that was sent can be aligned: send one, or leave align_plate out")
    if isinstance(plate, Upload):
        return str(uploads.accept(plate, folder / "plate", limits).path)
    if plate not in (None, opening.AUTO):
        raise InputError(f"plate {uploads.display_name(plate)}: expected an uploaded file, or auto")
    return plate


def make_preview(matte: Matte | BaselineMatte, request: Request, folder: Path) -> dict[str, Path]:
    """The matte of the first frame."""
    background = backgrounds.CHECKERED if request.background == backgrounds.TRANSPARENT else request.background
    lossless, alpha = folder / "view.png", folder / "alpha.png"
    done = 0

    def progress(count: int, _: int | None) -> None:
        nonlocal done
        done = count

    matte_video(
        request.source.path,
        lossless,
        weights=matte,
        plate=request.plate,
        align_plate=request.align_plate,
        alpha=alpha,
        background=background,
        downsample_ratio=request.ratio,
        start=request.start,
        end=request.end,
        chunk=1,
        progress=progress,
        stop=lambda: done,
    )
    with Image.open(lossless) as picture:
        shown = write_jpeg(folder, np.asarray(picture.convert("RGB")))
    return {"preview": shown, "alpha": alpha}


def write_jpeg(folder: Path, pixels: np.ndarray) -> Path:
    """Write a picture to show, in the place of the one before."""
    unfinished = folder / "unfinished.jpg"
    Image.fromarray(pixels).save(unfinished, quality=90)
    return unfinished.replace(folder / "look.jpg")


def make_matte(
    matte: Matte | BaselineMatte,
    request: Request,
    folder: Path,
    progress: Callable[[int, int | None], None],
    stop: Callable[[], bool],
    look: Callable[[np.ndarray], None],
) -> dict[str, Path]:
    """The matte of all of it, its alpha, and what browsers can show of it; nothing if it was stopped.

    `look` gets the newest frame from time to time, uint8 [H, W, 3].
    """
    looked = time.monotonic()

    def newest(made: Mapping[str, Array]) -> None:
        nonlocal looked
        if time.monotonic() - looked > LOOK_EVERY:
            look(frames.at_depth(np.asarray(made["view" if "view" in made else "composite"])[-1], np.uint8))
            looked = time.monotonic()

    ending = ".png" if request.source.picture else f".{request.format}"
    pictures = ending == ".png" and not request.source.picture
    target = folder / ("matte" if pictures else f"matte{ending}")
    viewable = ".png" if request.source.picture else ".mp4"
    view = None if ending == ".mp4" else folder / f"view{viewable}"
    alpha = folder / f"alpha{viewable}"
    done = matte_video(
        request.source.path,
        target,
        weights=matte,
        plate=request.plate,
        align_plate=request.align_plate,
        alpha=alpha,
        view=view,
        background=request.background,
        downsample_ratio=request.ratio,
        start=request.start,
        end=request.end,
        progress=progress,
        stop=stop,
        look=newest,
    )
    if not done.complete:
        return {}
    if pictures:
        target = _zipped(target)
    return {"matte": target, "preview": view or target, "alpha": alpha}


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
    if not isinstance(error, InputError):
        return server_error(error)
    message = str(error)
    names = {str(request.source.path): request.source.name, request.background: "the background"}
    if request.plate is not None:
        names[f"--plate {request.plate}"] = "the plate"
    for path, name in names.items():
        message = message.replace(path, name)
    for option, words in WORDS.items():
        message = message.replace(option, words)
    return message.replace(f"{folder}/", "")


def server_error(error: Exception) -> str:
    """The same for what the server is to blame for, which its owner sees in full."""
    traceback.print_exception(error, file=sys.stderr)
    reason = str(error).splitlines() or [""]
    return f"the server could not do it: {type(error).__name__}: {reason[0][:200]}".rstrip(": ")
