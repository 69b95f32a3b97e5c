"""Live outputs: standard output, the URL of a stream, a virtual camera; and files that can be played as they grow."""

import contextlib
import importlib
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.video import sink
from rvm_jax.video.frames import Frame, Item, Source
from rvm_jax.video.sink import FORMATS, FileKind, ItemWriter
from rvm_jax.video.writing.containers import UnreadError

FAST = {"preset": "veryfast", "tune": "zerolatency"}
"""Of x264: a frame comes out when it goes in."""
SENT = FORMATS[".mp4"]._replace(
    options={**FORMATS[".mp4"].options, **FAST, "g": "60"},  # who comes later waits for a key frame
    crf={"low": 30, "medium": 26, "high": 21},
    sounds=("aac",),
    muxing={},
)
PIPED = FileKind(
    container="nut",
    codec="rawvideo",
    opaque="rgb24",
    transparent="rgba",
    options={},
    crf=None,
    sounds=("aac", "ac3", "flac", "mp3", "opus", "pcm_s16le", "vorbis"),
    encoder="aac",
)
STDOUT, VIRTUAL = "-", "virtual"
Encoder = Literal["x264", "nvenc"]
NVENC = "h264_nvenc"
NVENC_OPTIONS = {"preset": "p5", "rc": "vbr", "bf": "0"}
NVENC_FAST = {"delay": "0", "zerolatency": "1", "g": "60"}
KINDS = {
    "nut": PIPED,
    "y4m": PIPED._replace(
        container="yuv4mpegpipe", codec="wrapped_avframe", opaque="yuv444p", transparent=None, sounds=()
    ),
    "raw": PIPED._replace(container="rawvideo", sounds=()),
    "flv": SENT._replace(container="flv"),
    "mpegts": SENT._replace(container="mpegts"),
    "rtsp": SENT._replace(container="rtsp"),
    VIRTUAL: PIPED._replace(container="", transparent=None, sounds=()),
}
"""How they are written. The first three are for a pipe."""

PROTOCOLS = {"rtmp": "flv", "rtmps": "flv", "srt": "mpegts", "udp": "mpegts", "tcp": "mpegts", "rtsp": "rtsp"}

SECOND = "1000000"  # in microseconds
FRAGMENTS = {"movflags": "+hybrid_fragmented", "frag_duration": SECOND, "flush_packets": "1"}
"""In the end FFmpeg makes a usual file of it, by writing an index and one word."""
CLUSTERS = {"cluster_time_limit": "1000", "flush_packets": "1"}
GROWING: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    ".mp4": (FAST, FRAGMENTS),
    ".mov": ({}, FRAGMENTS),
    ".webm": ({"deadline": "realtime", "lag-in-frames": "0"}, CLUSTERS),
    ".mkv": ({}, CLUSTERS),
}
"""Options of the encoder and the container of files that can be played as they grow, but for the last second."""


def kind(name: str, pipe: str) -> str | None:
    """The key in `KINDS` of what a name stands for, where standard output is to get a `pipe`; None for a path."""
    if name == STDOUT:
        return pipe
    if name == VIRTUAL or name.startswith(f"{VIRTUAL}:"):
        return VIRTUAL
    scheme, separator, _ = name.partition("://")
    return PROTOCOLS.get(scheme) if separator else None


def form(ending: str, encoder: Encoder, source: Source, *, growing: bool) -> FileKind | None:
    """How it is written, if not as `sink.open_sink` does it; `growing`: so that it can be played meanwhile."""
    found = KINDS.get(ending)
    if ending in FORMATS and (growing or encoder == "nvenc"):
        found = sink.file_kind(ending, source)
    if found is not None and growing and ending in GROWING:
        faster, muxing = GROWING[ending]
        found = found._replace(options={**found.options, **faster}, muxing=muxing)
    if found is not None and encoder == "nvenc":
        if found.codec == "libx265":
            raise InputError("--encoder nvenc makes H.264, which holds no HDR: leave --encoder nvenc or --hdr keep out")
        if found.codec == "libx264":
            urgent = NVENC_FAST if growing or ending in KINDS else {}
            found = found._replace(codec=NVENC, options={**NVENC_OPTIONS, **urgent}, quality_option="cq")
    return found


PATIENCE = 20.0
"""Seconds after which who takes nothing of a stream is taken to be gone."""
PATIENCE_WHEN_STOPPED = 1.0


class Delivery:
    """What is being handed to who gets a stream, a pipe or a virtual camera: how long it has been under way."""

    def __init__(self, name: str, stop: Callable[[], Any]) -> None:
        self._name, self._stop = name, stop
        self._since: float | None = None
        self._told = False

    def watched(self, put: ItemWriter) -> ItemWriter:
        """The same, but timed."""

        def timed(item: Item) -> None:
            self._since = time.monotonic()
            try:
                put(item)
            finally:
                self._since = None

        return timed

    def check(self) -> None:
        """Raise where nothing is taken any more. A pipe may rest as long as nobody asks to stop: that is only told."""
        since = self._since
        seconds = 0.0 if since is None else time.monotonic() - since
        if seconds > PATIENCE_WHEN_STOPPED and self._stop():
            raise UnreadError(f"{self._name}: what was on its way is not taken, and is lost")
        if seconds > PATIENCE and self._name != STDOUT:
            raise UnreadError(
                f"{self._name} has taken nothing for {PATIENCE:g} s: look whether who receives it still reads"
            )
        if seconds > PATIENCE and not self._told:
            self._told = True
            print("rvm: nobody reads what is written to standard output: waiting for it", file=sys.stderr)


@contextlib.contextmanager
def open_live(
    name: str, form: FileKind, source: Source, channels: int, *, paced: bool, delivery: Delivery, **options: Any
) -> Iterator[ItemWriter]:
    """As `sink.open_video`, for the kinds of `KINDS`.

    Who reads standard output sets the pace. What people see at once can be `paced`: each frame is sent when it is time
    for it. A camera and the like need not be, for its frames come then.
    """
    with contextlib.ExitStack() as stack:
        if name == STDOUT:
            # A descriptor of its own, so that nothing which is printed later gets into it.
            descriptor = os.dup(sys.stdout.fileno())
            stack.callback(os.close, descriptor)
            put = stack.enter_context(sink.open_video(f"pipe:{descriptor}", form, source, channels, **options))
            yield delivery.watched(put)
            return
        if form is KINDS[VIRTUAL]:
            put = stack.enter_context(_virtual_camera(name, source))
        else:
            put = stack.enter_context(sink.open_video(name, form, source, channels, **options))
        put = delivery.watched(put)
        yield _paced(put, source.time_base) if paced else put


def _paced(put: ItemWriter, time_base: Fraction) -> ItemWriter:
    start: float | None = None

    def wait_and_put(item: Item) -> None:
        nonlocal start
        if isinstance(item, Frame):
            at = float(item.time * time_base)
            start = time.monotonic() - at if start is None else start
            time.sleep(max(0.0, start + at - time.monotonic()))
        put(item)

    return wait_and_put


@contextlib.contextmanager
def _virtual_camera(name: str, source: Source) -> Iterator[ItemWriter]:
    """A camera that other programs see: `virtual`, or `virtual:` and the name of its device."""
    try:
        pyvirtualcam: Any = importlib.import_module("pyvirtualcam")
    except ModuleNotFoundError:
        raise InputError(f"{name} needs pyvirtualcam: pip install 'rvm-jax[camera]'") from None
    device = name.partition(":")[2] or None
    try:
        camera = pyvirtualcam.Camera(source.width, source.height, float(source.rate), device=device)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{name}: there is no virtual camera ({reason}); install v4l2loopback (Linux) or OBS (macOS, Windows)"
        ) from error

    def put(item: Item) -> None:
        if isinstance(item, Frame):
            camera.send(np.ascontiguousarray(np.broadcast_to(item.pixels, (*item.pixels.shape[:2], 3))))

    with camera:
        yield put


def check_nvenc(endings: Collection[str]) -> None:
    """Refuse to encode on a GPU where there is none that can, or nothing to encode."""
    if not any((KINDS.get(ending) or FORMATS.get(ending, PIPED)).codec == "libx264" for ending in endings):
        raise InputError("--encoder nvenc is given, but nothing is written as H.264: write .mp4, or to a stream")
    context: Any = av.CodecContext.create(NVENC, "w")
    context.width, context.height, context.pix_fmt, context.time_base = 256, 256, "yuv420p", Fraction(1, 30)
    try:
        context.open()
    except av.FFmpegError as error:
        raise InputError(
            f"--encoder nvenc: no NVIDIA encoder answers here ({str(error.strerror).lower()}): leave it out, as with "
            "A100, H100 and the like, which have none"
        ) from error
