"""Demuxing and decoding of video files, streams and cameras: frames and packets of sound, with exact times."""

import contextlib
import itertools
import sys
from collections.abc import Generator, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.stream import Disposition

from rvm_jax.errors import InputError
from rvm_jax.host import prefetch
from rvm_jax.video.filters import Deinterlacer, RgbConverter
from rvm_jax.video.frames import (
    Colors,
    Frame,
    Item,
    Part,
    Source,
    at_one_size,
    frame_name,
    peek,
)
from rvm_jax.video.orientation import Matrix, display_matrices, upright_frame
from rvm_jax.video.reading.metadata import kept_metadata
from rvm_jax.video.reading.timestamps import Clock, Joints, time_base_of, to_time_base
from rvm_jax.video.streaming import cameras
from rvm_jax.video.streaming.cameras import AS_IT_IS, CameraMode

OPEN_TIMEOUT, READ_TIMEOUT = 15.0, 60.0  # seconds, for streams
SOUND_BEHIND = 10  # seconds that sound may lie behind its frames in a file

MOST_PIXELS = 4096**2
"""Frames may have these, or four times as many as the header says. A file of some KB can hold frames of gigabytes."""

STDIN = "-"

LENIENT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""What lets titles pass that are not UTF-8. From PyAV 19 on they always do."""


LONGEST_GOP = 10
"""Seconds from one key frame to the next, at most, where there is no index."""


class Stored(NamedTuple):
    """A frame as the file has it, at its own time."""

    pixels: np.ndarray
    time: int
    duration: int
    colors: Colors
    on_its_side: bool


def is_live(name: str) -> bool:
    """Whether a name is that of a stream, a camera or standard input, which cannot be read again."""
    return name == STDIN or "://" in name or cameras.device(name) is not None


def drops_frames(name: str) -> bool:
    """Whether it goes on while nobody reads: a camera, or a stream of what happens now."""
    scheme, separator, _ = name.partition("://")
    return bool(separator and scheme not in ("http", "https", "file")) or cameras.device(name) is not None


@contextlib.contextmanager
def open_video(name: str, part: Part, *, keep_hdr: bool = False, camera: CameraMode = AS_IT_IS) -> Iterator[Source]:
    """Open a video file, a stream by its URL, a camera (`webcam`, `webcam:1`, `/dev/video1`), or `-`: stdin."""
    container = _container(name, camera)
    if part.start and not is_live(name):
        try:
            begin = part.start if _has_index(container) else max(Fraction(0), part.start - LONGEST_GOP)
            container.seek(round((_start(container) + begin) * av.time_base))
        except (av.FFmpegError, OverflowError):  # then it is read from its start
            container.close()
            container = _container(name, camera)
    stored: Generator[Stored | av.Packet[Any]] | None = None
    try:
        stream = video_stream(container)
        if stream is None:
            raise InputError(f"{name} holds no video, only other streams: give a video with pictures in it")
        if not can_be_decoded(stream):
            raise InputError(f"{name} holds video of a kind that FFmpeg does not know: convert it before")
        most = max(MOST_PIXELS, 4 * stream.codec_context.width * stream.codec_context.height)
        stream.codec_context.options = {"max_pixels": str(most)}
        clock = _clock(container, stream)
        stored = _read(name, container, stream, clock, part, keep_hdr)
        yield _source(name, container, stream, clock, part, stored)
    finally:
        # A thread may still wait for a live source. It must not lose the container; that closes when the thread ends.
        if stored is None or prefetch.close(stored):
            container.close()


def video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The one that is shown: covers of music are none."""
    shown = (stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic)
    return next(shown, None)


def can_be_decoded(stream: av.VideoStream | av.AudioStream) -> bool:
    return stream.codec_context is not None


def _container(name: str, camera: CameraMode) -> av.container.InputContainer:
    device = cameras.device(name)
    file, form = device or ("pipe:0" if name == STDIN else name, None)
    options = LENIENT | ({"timeout": (OPEN_TIMEOUT, READ_TIMEOUT)} if "://" in name else {})
    if form is not None:
        options["options"] = cameras.options(form, camera)
    elif any(camera):
        raise InputError(f"{name} is no camera: --camera-size, --camera-rate and --camera-format are for webcam")
    try:
        return av.open(file, format=form, **options)
    except (av.FFmpegError, OSError) as error:
        if device is not None:
            raise InputError(f"{name} ({file}): {cameras.mend(device, camera, error)}") from error
        raise InputError(f"{name} cannot be read as a video: {_reason(name, error)}") from error


def _reason(name: str, error: av.FFmpegError | OSError) -> str:
    """Why a file or a stream cannot be opened, as far as it can be seen."""
    if not is_live(name):
        with Path(name).open("rb") as file:
            start = file.read(12)
        if not start:
            return "it is empty"
        if start[4:8] in (b"ftyp", b"mdat", b"wide", b"free") and isinstance(error, av.InvalidDataError):
            return (
                "its index is missing or damaged, as where a copy, a download or a recording was cut short: copy or "
                "download it again, or mend it with a tool such as untrunc"
            )
    if isinstance(error, av.InvalidDataError):
        return "it is of no kind that FFmpeg knows, or its beginning is damaged"
    return _plainly(error)


def _plainly(error: av.FFmpegError | OSError) -> str:
    """FFmpeg's words for an error, or plainer ones."""
    return "it cannot be decoded" if isinstance(error, av.InvalidDataError) else str(error.strerror).lower()


def _has_index(container: av.container.InputContainer) -> bool:
    """Whether it is entered at key frames: MPEG's streams are at any packet, and begin with the key frame after it."""
    return container.format.name not in ("mpegts", "mpeg")


def _start(container: av.container.InputContainer) -> Fraction:
    """When the first of its streams starts, in seconds."""
    return Fraction(container.start_time or 0, av.time_base)


def _exact(number: Any) -> Fraction:
    """A rational number of PyAV's, whose own kind (from version 19 on) rounds what does not fit into 32 bits."""
    return Fraction(number.numerator, number.denominator)


def _clock(container: av.container.InputContainer, stream: av.VideoStream) -> Clock:
    rate = _exact(stream.average_rate or stream.guessed_rate or Fraction(30))
    ticks = _exact(stream.time_base or 1 / rate)
    return Clock(ticks, round(_start(container) / ticks), rate)


def _source(
    name: str,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    clock: Clock,
    part: Part,
    stored: "Iterator[Stored | av.Packet[Any]]",
) -> Source:
    stream.thread_type = "SLICE" if drops_frames(name) else "AUTO"  # threads for frames hold back one each
    sounds = tuple(filter(can_be_decoded, container.streams.audio))
    if len(sounds) < len(container.streams.audio):
        print(f"{name}: sound of a kind that FFmpeg does not know is left out", file=sys.stderr)

    taken = []
    for item in stored:
        taken.append(item)
        if isinstance(item, Stored):
            break
    else:
        mend = "nothing is left by --start and --end" if part.start or part.end else "copy or download it again"
        raise InputError(f"{name} has no frame that can be decoded: {mend}")
    zero = item.time if part.start else clock.origin
    time_base = time_base_of(clock)
    timed = _timed(itertools.chain(taken, stored), zero, clock, time_base)
    first, (height, width), items = peek(at_one_size(name, timed, part.size))
    length = _length(container, stream, clock, part)

    aspect = _exact(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1))
    if part.size is not None and part.size.height is not None:
        aspect = Fraction(1)
    return Source(
        name=name,
        height=height,
        width=width,
        time_base=time_base,
        rate=clock.rate,
        length=length,
        items=items,
        colors=item.colors,
        pixel_aspect=1 / aspect if item.on_its_side else aspect,
        sounds=sounds,
        deep=first.pixels.dtype == np.uint16,
        metadata=kept_metadata(container, clock.seconds(zero, clock.ticks), clock.rate),
        spread=partial(_spread, container, stream, clock, part.start, length / clock.rate)
        if length and _has_index(container)
        else None,
    )


def _spread(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    clock: Clock,
    start: Fraction,
    seconds: Fraction,
    count: int,
) -> Iterator[np.ndarray]:
    """Frames in the middles of `count` equal parts of what is read, each decoded from the key frame before it.

    What cannot be decoded is left out, and the fields of interlaced ones stay as they are. Nothing else can be read
    afterwards.
    """
    matrix, convert = display_matrices(), RgbConverter(container.name, lambda kind: None)
    for number in range(count):
        wanted = start + seconds * (2 * number + 1) / (2 * count)
        with contextlib.suppress(av.FFmpegError):
            container.seek(round((_start(container) + wanted) * av.time_base))
            for frame in container.decode(stream):
                if frame.pts is None or clock.seconds(frame.pts, clock.ticks) >= wanted:
                    yield _stored(frame, 0, matrix(frame), container.name, convert).pixels
                    break


def _read(
    name: str,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    clock: Clock,
    part: Part,
    keep_hdr: bool,
) -> "Generator[Stored | av.Packet[Any]]":
    """What the part to read holds, in the order in which it is stored. What is missing or damaged raises in the end.

    Damage is what the decoder says, or what lies beyond the end of the file; what a header promises is compared and
    told. Not to be shown is what an edit list takes out. The same goes for the first pictures of what was cut between
    key frames, which need others that are gone.
    """
    live = is_live(name)
    matrix = display_matrices()
    step = max(1, round(1 / clock.rate / clock.ticks))
    first_pts: int | None = None
    time = clock.origin - step
    stored = decoded = hidden = 0
    interlaced = undecodable = False
    reached = Fraction(0)
    over = False  # all frames are read; there may be sound yet
    joints = Joints()
    deinterlaced = Deinterlacer(stream, lambda: print(f"{name} is interlaced: it is deinterlaced", file=sys.stderr))
    becomes = "kept" if keep_hdr else "tone-mapped to BT.709"
    convert = RgbConverter(
        name, lambda kind: print(f"{name} is HDR ({kind}): it is {becomes}", file=sys.stderr), keep_hdr=keep_hdr
    )

    def shown_of(frames: list[av.VideoFrame], *, last: bool) -> Iterator[Stored]:
        """What of these is in the part to read, at its time."""
        nonlocal time, undecodable, over
        for frame in deinterlaced(frames, last=last):
            next_time = time + step
            if frame.pts is not None:
                at = clock.seconds(frame.pts, clock.ticks)
                shift = joints.shift(stream.index, at, step * clock.ticks) or Fraction(0)
                next_time = frame.pts + round(shift / clock.ticks)
            time = max(time + 1, next_time)
            shown = clock.seconds(time, clock.ticks)
            if undecodable and not live:
                print(f"{name}: nothing before {float(shown):.3f} s can be decoded", file=sys.stderr)
                undecodable = False
            if part.end is not None and shown >= part.end:
                over = True
                return
            if shown + clock.ticks / 2 >= part.start:
                yield _stored(frame, time, matrix(frame), name, convert)

    def damaged(reason: str) -> InputError:
        at = f"{max(0.0, float(clock.seconds(time, clock.ticks))):.3f}"
        mend = f", or take what is sound with --end {at}" if float(at) else ""
        return InputError(f"{name} is damaged or cut short at {at} s: {reason}; copy or download it again{mend}")

    try:
        for packet in container.demux():
            at = None if packet.pts is None else clock.seconds(packet.pts, _exact(packet.time_base))
            if at is not None:
                lasts = (packet.duration or 0) * packet.time_base
                reached = max(reached, at + lasts)
            if over and (not container.streams.audio or (at is not None and at > (part.end or 0) + SOUND_BEHIND)):
                return
            if packet.stream.type == "audio":
                if at is None or not packet.size:
                    continue
                shift = joints.shift(packet.stream.index, at, lasts)
                if shift is None:
                    continue
                at += shift
                packet.pts, packet.dts = (
                    None if stamp is None else stamp + round(shift / packet.time_base)
                    for stamp in (packet.pts, packet.dts)
                )
                # Before the start of the frames there may be what a decoder of sound needs to warm up.
                if (not part.start or at >= part.start) and (part.end is None or at < part.end):
                    yield packet
            elif packet.stream.index == stream.index and not over:
                stored += packet.size > 0
                if packet.size and packet.pts is not None:
                    first_pts = packet.pts if first_pts is None else first_pts
                    hidden += packet.is_discard or packet.pts < first_pts
                try:
                    frames = stream.decode(packet)
                except av.FFmpegError as error:
                    undecodable |= not decoded
                    if live or not decoded:
                        continue
                    large = isinstance(error, av.ArgumentError)  # so FFmpeg calls it
                    raise damaged("a frame is too large" if large else _plainly(error)) from error
                decoded += len(frames)
                interlaced |= any(frame.interlaced_frame for frame in frames)
                yield from shown_of(frames, last=packet.dts is None and not packet.size)
    except av.FFmpegError as error:
        reason = _plainly(error)
        if not live or not decoded:
            raise damaged(reason) from error
        print(f"{name} broke off: {reason}", file=sys.stderr)
        held: list[av.VideoFrame] = []
        with contextlib.suppress(av.FFmpegError):
            held = stream.decode(None)
        yield from shown_of(held, last=True)
    if live or over or not decoded:
        return
    if "mp4" in container.format.name and not part.start:  # others count what is no frame, or nothing
        indexed = len(stream.index_entries)  # what is left of it by the edit list
        if stored < indexed:
            raise damaged(f"{stored} of the {indexed} frames of its index are there")
        expected = (stored - hidden) // (2 if interlaced else 1)  # there may be two fields a frame
        if decoded < expected:
            print(f"{name}: {expected - decoded} of {expected} stored frames have no picture", file=sys.stderr)
    promised = Fraction(container.duration or 0, av.time_base)
    matroska = "matroska" in container.format.name
    if matroska:  # whose duration is when it ends
        promised -= _start(container)
    if not stream.frames and promised - reached > Fraction(1, 2) + promised / 50:
        if matroska:  # it is written in the end, when it is known
            raise damaged(f"its header promises {float(promised):.1f} s")
        print(f"{name} ends at {float(reached):.1f} s, its header says {float(promised):.1f} s", file=sys.stderr)


def _stored(frame: av.VideoFrame, time: int, turn: Matrix | None, name: str, converter: RgbConverter) -> Stored:
    pixels, colors = converter(frame)
    on_its_side = turn is not None and turn[0] == 0
    return Stored(upright_frame(pixels, turn, Path(name)), time, frame.duration or 0, colors, on_its_side)


def _timed(items: "Iterator[Stored | av.Packet[Any]]", zero: int, clock: Clock, time_base: Fraction) -> Iterator[Item]:
    """Frames and packets with times from `zero` on, those of frames in another time base."""

    def place(ticks: int) -> int:
        return to_time_base(ticks, clock, time_base)

    number, last = 0, -1
    for item in items:
        if isinstance(item, Stored):
            last = max(last + 1, place(item.time - zero))
            yield Frame(item.pixels, last, place(item.duration), frame_name(number))
            number += 1
        else:
            shift = round(zero * clock.ticks / item.time_base)
            item.pts, item.dts = (None if time is None else time - shift for time in (item.pts, item.dts))
            yield item


def _length(container: av.container.InputContainer, stream: av.VideoStream, clock: Clock, part: Part) -> int | None:
    if not part.start and part.end is None and stream.frames:
        return stream.frames
    seconds = Fraction(container.duration or 0, av.time_base)
    if stream.duration:
        seconds = stream.duration * clock.ticks
    if not seconds:
        return None
    end = seconds if part.end is None else min(seconds, part.end)
    return max(1, round((end - part.start) * clock.rate))
