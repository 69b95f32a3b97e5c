"""Uploads: taken in pieces into a folder of the server's own, within limits of disk, then examined without decoding."""

import contextlib
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from rvm_jax.errors import InputError
from rvm_jax.video import demux, picture_files
from rvm_jax.video.reading.picture_decoding import is_animation

DEMUXERS = "asf,avi,flv,gif,matroska,mov,mp4,mpeg,mpegts,ogg,webm"
"""What FFmpeg may take a file for. It reads playlists, which name other files and addresses: none of them here."""

VIDEOS = {".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ogv", ".ts", ".webm", ".wmv"}
KINDS = "an MP4, MOV, WebM, MKV or AVI video, or a JPEG, PNG or WebP picture"

LONGEST_NAME = 60
MOST_UPLOADS = 50
"""How many files of one person may lie here or be on their way."""

RESERVE = 10**9
"""Nothing more is taken if fewer bytes than these are free on the disk."""


class Refused(InputError):  # noqa: N818 — it is the client's
    """What cannot be done, with the HTTP status that says so."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Limits:
    megabytes: float = 500
    seconds: float = 300
    """Of the part that is matted."""
    side: int = 4096
    """How many pixels the longer side may have."""
    waiting: int = 20
    """How many jobs may wait; of one person half of them."""
    keep: float = 3600
    """For how many seconds files stay if nothing is done with them."""

    @property
    def each(self) -> int:
        """How many jobs of one person may wait."""
        return max(1, self.waiting // 2)


@dataclass(eq=False)
class Upload:
    """A file as it is sent, not checked yet."""

    path: Path
    name: str
    """What the person calls it: only ever shown, never a path."""
    person: str
    size: int
    """As it was announced."""
    offset: int = 0
    """How much of it is here."""
    busy: bool = False
    """A piece of it is on its way."""
    touched: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        return self.path.parent.name


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
    stored: str
    """How its pixels are, which decides in what type they are computed."""
    pixel_aspect: Fraction = Fraction(1)
    """Width by height of a pixel."""


@dataclass(eq=False)
class Store:
    """A private folder, and the uploads in it."""

    limits: Limits
    folder: Path
    uploads: dict[str, Upload] = field(default_factory=dict)
    held: int = 0
    """Bytes of the disk that are promised to requests."""
    changed: threading.Condition = field(default_factory=threading.Condition)


def refuse_if_full(store: Store, size: int = 0) -> None:
    """Refuse what has so many bytes if the disk would be full with it, and with all that was promised room."""
    with store.changed:
        promised = store.held + sum(upload.size - upload.offset for upload in store.uploads.values())
        if shutil.disk_usage(store.folder).free - promised - size < RESERVE:
            raise Refused("the disk of this server is full: try again later", 507)


@contextlib.contextmanager
def room_for(store: Store, size: int) -> Iterator[None]:
    """Promise so many bytes of the disk to what is done in the block."""
    with store.changed:
        refuse_if_full(store, size)
        store.held += size
    try:
        yield
    finally:
        with store.changed:
            store.held -= size


def begin(store: Store, person: str, name: str, size: int) -> Upload:
    """Announce a file of so many bytes, for which there is room from now on."""
    name = display_name(name)
    if size <= 0:
        raise InputError(f"{name} is empty: choose another file")
    if size > store.limits.megabytes * 1e6:
        most = f"expected at most {store.limits.megabytes:g} MB, so shorten or shrink it"
        raise Refused(f"{name} has {size / 1e6:.0f} MB: {most}", 413)
    with store.changed:
        if sum(upload.person == person for upload in store.uploads.values()) >= MOST_UPLOADS:
            raise Refused(f"{MOST_UPLOADS} of your files are here already: try again in a few minutes", 429)
        refuse_if_full(store, size)
        upload = Upload(store.folder / secrets.token_urlsafe(16) / "sent", name, person, size)
        upload.path.parent.mkdir()
        upload.path.touch()
        store.uploads[upload.id] = upload
    return upload


def find(store: Store, name: str, person: str) -> Upload:
    """The upload of that id, if it is this person's."""
    upload = store.uploads.get(name)
    if upload is None or upload.person != person:
        raise Refused(f"there is no file {display_name(name)} (any more): send it again", 404)
    upload.touched = time.monotonic()
    return upload


@contextlib.contextmanager
def appending(store: Store, upload: Upload) -> Iterator[None]:
    """Let nobody else append to it, and nobody sweep it away, within the block."""
    with store.changed:
        if upload.busy:
            raise Refused(f"another piece of {upload.name} is on its way: send one after the other", 409)
        upload.busy = True
    try:
        yield
    finally:
        upload.busy, upload.touched = False, time.monotonic()


def append(store: Store, upload: Upload, piece: bytes) -> None:
    if upload.offset + len(piece) > upload.size:
        raise Refused(f"{upload.name} is longer than the {upload.size} bytes that were announced", 413)
    refuse_if_full(store)
    with upload.path.open("ab") as file:
        file.write(piece)
    upload.offset += len(piece)


def discard(store: Store, upload: Upload) -> None:
    with store.changed:
        store.uploads.pop(upload.id, None)
    shutil.rmtree(upload.path.parent, ignore_errors=True)


def sweep(store: Store) -> None:
    """Remove the uploads that nobody has touched for a while."""
    for upload in list(store.uploads.values()):
        if not upload.busy and time.monotonic() - upload.touched > store.limits.keep:
            discard(store, upload)


def accept(upload: Upload, target: Path, limits: Limits) -> MediaFile:
    """Give a whole upload a second name, `target` with an ending of the server's choice, and examine it."""
    if upload.offset < upload.size:
        raise Refused(f"{upload.name} is not here in whole: send what comes after byte {upload.offset}", 409)
    suffix = Path(upload.name).suffix.lower()
    target = target.with_suffix(suffix if suffix in picture_files.SUFFIXES | VIDEOS else "")
    try:
        os.link(upload.path, target)
    except FileNotFoundError:
        raise Refused(f"{upload.name} is not here (any more): send it again", 404) from None
    except OSError:  # a file system without links
        shutil.copyfile(upload.path, target)
    return examine(target, upload.name, limits)


def examine(path: Path, name: str, limits: Limits) -> MediaFile:
    """Refuse what cannot be read or is too large, by what its header tells: nothing is decoded."""
    media = _picture(path, name) if picture_files.is_picture(path) else _video(path, name)
    height, width, aspect = media.height, media.width, media.pixel_aspect
    height, width = (height, round(width * aspect)) if aspect > 1 else (round(height / aspect), width)
    if max(height, width) > limits.side:
        shown = "" if aspect == 1 else ", if they are made square"
        raise InputError(
            f"{name} has {width}×{height} pixels{shown}: expected at most {limits.side} on the longer side, "
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


def display_name(name: str) -> str:
    """A name for people: its last part, in one line, not too long."""
    name = re.split(r"[/\\]", name)[-1].encode(errors="replace").decode()  # JSON can hold half a character
    name = re.sub(r"[\x00-\x1f\x7f]", "", name).strip() or "the file"
    if len(name) <= LONGEST_NAME:
        return name
    half = LONGEST_NAME // 2
    return f"{name[:half]}…{name[-half:]}"


def _picture(path: Path, name: str) -> MediaFile:
    try:
        with picture_files.open_picture(path) as picture:
            width, height = picture.size
            tiles: Any = picture
            deep = picture.mode.startswith("I") or ";16" in str(tiles.tile)
    except picture_files.DAMAGED as error:
        raise InputError(f"{name} cannot be read as a picture: expected {KINDS}") from error
    return MediaFile(path, name, not is_animation(path), height, width, None, "16 bits" if deep else "8 bits")


def _video(path: Path, name: str) -> MediaFile:
    only = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        with av.open(str(path), options=only, **demux.LENIENT) as container:
            video = demux.video_stream(container)
            if video is None:
                raise InputError(f"{name} holds no video, only sound or the like: expected {KINDS}")
            height, width = (video.height, video.width) if demux.can_be_decoded(video) else (0, 0)
            seconds = _seconds(container)
            stored = f"{video.pix_fmt} {video.color_trc}" if height else ""
            ratio = (video.sample_aspect_ratio or video.codec_context.sample_aspect_ratio) if height else None
    except av.FFmpegError as error:
        raise InputError(f"{name} cannot be read as a video: expected {KINDS}") from error
    if not height or not width:
        raise InputError(f"{name} holds a video that cannot be decoded: convert it to an MP4 with H.264")
    aspect = Fraction(ratio.numerator, ratio.denominator) if ratio else Fraction(1)
    return MediaFile(path, name, False, height, width, seconds, stored, aspect)


def _seconds(container: av.container.InputContainer) -> float | None:
    return None if container.duration is None else container.duration / av.time_base
