"""Validation of uploads: taken into a folder of the server's own, examined without decoding, within limits."""

import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import av

from rvm_jax.errors import InputError
from rvm_jax.video import demux, picture_files
from rvm_jax.video.reading.picture_decoding import is_animation

DEMUXERS = "asf,avi,flv,gif,matroska,mov,mp4,mpeg,mpegts,ogg,webm"
"""What FFmpeg may take a file for. It reads playlists, which name other files and addresses: none of them here."""

VIDEOS = {".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ogv", ".ts", ".webm", ".wmv"}
KINDS = "an MP4, MOV, WebM, MKV or AVI video, or a JPEG, PNG or WebP picture"

LONGEST_NAME = 60

RESERVE = 10**9
"""Nothing more is taken if fewer bytes than these are free on the disk."""


@dataclass(frozen=True)
class Limits:
    megabytes: float = 500
    seconds: float = 300
    """Of the part that is matted."""
    side: int = 4096
    """How many pixels the longer side may have."""
    waiting: int = 20
    """How many jobs may wait."""
    keep: float = 3600
    """For how many seconds files stay if nothing is done with them."""


@dataclass(frozen=True)
class Upload:
    """A file as it was sent, not checked yet."""

    path: Path
    name: str
    """What the person calls it: only ever shown, never a path."""


@dataclass(frozen=True)
class MediaFile:
    """A file that can be matted, or put behind people."""

    path: Path
    name: str
    picture: bool
    height: int
    width: int
    seconds: float | None
    """How long a video is, if it tells."""


def refuse_if_full(folder: Path, size: float = 0) -> None:
    """Refuse what has so many bytes if the disk of `folder` would be full with it."""
    if shutil.disk_usage(folder).free - size < RESERVE:
        raise InputError("the disk of this server is full: try again later")


def accept(upload: Upload, home: Path, target: Path, limits: Limits) -> MediaFile:
    """Give an upload, which lies in `home`, a name of the server's own, `target` with an ending, and examine it."""
    name = display_name(upload.name)
    path = upload.path.resolve()
    if not path.is_relative_to(home.resolve()) or not path.is_file():
        raise InputError(f"{name} is not here: send it (again), since files are removed after a while")
    suffix = Path(name).suffix.lower()
    target = target.with_suffix(suffix if suffix in picture_files.SUFFIXES | VIDEOS else "")
    try:
        os.utime(path.parent)  # in use, so it stays for another while
        os.link(path, target)
    except OSError:  # a file system without links
        shutil.copyfile(path, target)
    return examine(target, name, limits)


def examine(path: Path, name: str, limits: Limits) -> MediaFile:
    """Refuse what cannot be read or is too large, by what its header tells: nothing is decoded."""
    size = path.stat().st_size
    if not size:
        raise InputError(f"{name} is empty: choose another file")
    if size > limits.megabytes * 1e6:
        raise InputError(
            f"{name} has {size / 1e6:.0f} MB: expected at most {limits.megabytes:g} MB, so shorten or shrink it"
        )
    media = _picture(path, name) if picture_files.is_picture(path) else _video(path, name)
    if max(media.height, media.width) > limits.side:
        raise InputError(
            f"{name} has {media.width}×{media.height} pixels: expected at most {limits.side} on the longer side, "
            "so shrink it"
        )
    return media


def part(media: MediaFile, start: float | None, end: float | None, limits: Limits) -> tuple[float, float | None]:
    """The start and end that were asked for, in seconds, checked; of a picture all of it."""
    if media.picture:
        return 0, None
    start = start or 0
    if not start >= 0 or (end is not None and not end > start):
        asked = f"start {start:g}" + ("" if end is None else f", end {end:g}")
        raise InputError(f"{asked}: expected seconds from the start, and an end after the start")
    last = start + limits.seconds  # if it does not tell how long it is, no more is taken
    if media.seconds is not None:
        if start >= media.seconds:
            raise InputError(f"{media.name} lasts {media.seconds:.1f} s: start before that, not at {start:g} s")
        length = min(end or media.seconds, media.seconds) - start
        if length > limits.seconds + 0.5:
            raise InputError(
                f"{media.name}: {length:.0f} s are to be matted, expected at most {limits.seconds:g} s, so choose a "
                "shorter part with start and end"
            )
        last += 1  # headers are not exact
    return start, last if end is None else min(end, last)


def sweep(folder: Path, seconds: float, busy: set[Path]) -> None:
    """Remove what lies in `folder` and was not touched for so long, but not what is `busy`."""
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # somebody else removed it
            if path not in busy and time.time() - path.stat().st_mtime > seconds:
                remove(path)


def expire(path: Path, seconds: float, keep: float) -> None:
    """Let a sweep with `keep` remove it in so many seconds."""
    moment = time.time() - max(0, keep - seconds)
    with contextlib.suppress(FileNotFoundError):
        os.utime(path, (moment, moment))


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def display_name(name: str) -> str:
    """A name for people: its last part, in one line, not too long."""
    name = re.sub(r"[\x00-\x1f\x7f]", "", re.split(r"[/\\]", name)[-1]).strip() or "the file"
    if len(name) <= LONGEST_NAME:
        return name
    half = LONGEST_NAME // 2
    return f"{name[:half]}…{name[-half:]}"


def _picture(path: Path, name: str) -> MediaFile:
    try:
        with picture_files.open_picture(path) as picture:
            width, height = picture.size
    except picture_files.DAMAGED as error:
        raise InputError(f"{name} cannot be read as a picture: expected {KINDS}") from error
    return MediaFile(path, name, not is_animation(path), height, width, None)


def _video(path: Path, name: str) -> MediaFile:
    only = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        with av.open(str(path), options=only, **demux.LENIENT) as container:
            video = demux.video_stream(container)
            if video is None:
                raise InputError(f"{name} holds no video, only sound or the like: expected {KINDS}")
            height, width = (video.height, video.width) if demux.can_be_decoded(video) else (0, 0)
            seconds = _seconds(container)
    except av.FFmpegError as error:
        raise InputError(f"{name} cannot be read as a video: expected {KINDS}") from error
    if not height or not width:
        raise InputError(f"{name} holds a video that cannot be decoded: convert it to an MP4 with H.264")
    return MediaFile(path, name, False, height, width, seconds)


def _seconds(container: av.container.InputContainer) -> float | None:
    return None if container.duration is None else container.duration / av.time_base
