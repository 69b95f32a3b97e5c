"""The matting pipeline of a whole video: reader → device → writers, all at once, in memory that does not grow.

Frames go to the device as bytes, a few at a time; the state stays there; what comes back are the bytes to write.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rvm_jax.baselines.matte import BaselineMatte
from rvm_jax.errors import InputError
from rvm_jax.host import prefetch
from rvm_jax.matte import Matte, automatic_ratio, load
from rvm_jax.model.decoder import State
from rvm_jax.model.network import MattingNetwork, check_frames
from rvm_jax.video import backgrounds, compositing, demux, options, sink, source
from rvm_jax.video.hdr import from_seen, to_seen
from rvm_jax.video.plates import opening
from rvm_jax.video.plates.alignment import alignment
from rvm_jax.video.sink import Pictures, Quality
from rvm_jax.video.streaming import cameras, memoryless
from rvm_jax.video.streaming.cameras import CameraMode
from rvm_jax.video.streaming.chunks import Chunk, newer, read_chunks
from rvm_jax.video.streaming.latency import Tally
from rvm_jax.video.writing import live, targets
from rvm_jax.video.writing.targets import PathLike
from rvm_jax.video.writing.writers import ChunkWriter, Encoding, open_writer, place
from rvm_jax.weights.names import Variables

PIXELS_AT_ONCE = 17_000_000
"""How many pixels a chunk has on a GPU or TPU, unless its length is given: eight frames of 1080p."""

LONGEST_CHUNK = 12
QUEUED = 2  # chunks that wait for the device, and for each writer

Hdr = Literal["tone-map", "keep"]

CHANNELS = {"cut_out": 4, "composite": 3, "alpha": 1, "foreground": 3, "view": 3}
"""What can be written, and how many channels it has."""


class VideoResult(NamedTuple):
    frames: int
    complete: bool
    """Whether all was matted that was asked for; not so if `stop` said to stop."""
    dropped: int = 0
    """How many more a live source gave that were left out, for newer ones had come."""
    latency: float | None = None
    """The median of the seconds from when a frame was read to when its matte was sent; of what goes to no file."""
    unaligned: int = 0
    """To how many frames the clean plate could not be aligned."""


def matte_video(
    name: PathLike,
    target: PathLike,
    *,
    weights: PathLike | Matte | BaselineMatte,
    plate: str | None = None,
    align_plate: bool = False,
    one_frame_delay: bool = False,
    alpha: PathLike | None = None,
    foreground: PathLike | None = None,
    view: PathLike | None = None,
    background: str | None = None,
    downsample_ratio: float | None = None,
    resize: tuple[int, int | None] | None = None,
    start: float = 0,
    end: float | None = None,
    rate: float = 30,
    chunk: int | None = None,
    precision: str = "float32",
    quality: Quality = "high",
    mbps: float | None = None,
    pictures: Pictures = "png",
    hdr: Hdr = "tone-map",
    encoder: live.Encoder = "x264",
    pipe: Literal["nut", "y4m", "raw"] = "nut",
    camera_size: tuple[int, int] | None = None,
    camera_rate: float | None = None,
    camera_format: str | None = None,
    force: bool = False,
    progress: Callable[[int, int | None], None] = lambda done, expected: None,
    stop: Callable[[], Any] = lambda: False,
    look: Callable[[Mapping[str, Array]], Any] = lambda made: None,
) -> VideoResult:
    """Matte a video, a folder of pictures, a picture, a stream (URL), a camera (`webcam`) or `-`, and write `target`.

    What is written follows from its ending: `.mp4` (H.264), `.mov` (ProRes 4444), `.webm` (VP9), `.mkv` (FFV1), `.gif`,
    `.png`, `.tif` or `.exr` (one picture), or a folder of pictures if there is none or a / at its end. It may also be
    `-` (standard output), the URL of a stream (rtmp, rtsp, srt, udp, tcp) or `virtual` (a camera that other programs
    see). Times, sound, and the shape, colour space and depth of pixels are kept.

    If anything fails, nothing is written; but what a stream, a camera or standard input gave until then is kept, in
    files of which all but the last second can be played even if the process is killed. What goes from a camera or a
    stream to what is no file is matted frame by frame, and frames that come while one is computed are left out but for
    the newest.

    Args:
      name: what to matte.
      target: what to write: people before `background`, or cut out of their frames.
      weights: a file or folder that `rvm_jax.load` takes, or what it returned.
      plate: the same view without the person, which BackgroundMattingV2 needs: a picture or a video, whose median is
        taken, or "auto" for the median of what is matted.
      align_plate: warp it to each frame, for a camera in somebody's hand.
      one_frame_delay: smooth flicker over three frames; for networks that do not remember the frames before.
      alpha: also write alpha as gray, here.
      foreground: also write the colours of people, without what shone through them, here.
      view: also write what players that know no transparency can show, here: as `target`, but what is transparent there
        is checkered.
      background: a colour ("green", "#rrggbb"), a picture or video file, "blur", "checkered", or "transparent". By
        default what can be transparent is, and .mp4, which cannot, is green.
      downsample_ratio: how large the network looks at the frames; by default their longest side becomes 512.
      resize: width and height to bring frames to, or a width and None.
      start: where to begin, in seconds.
      end: where to end.
      rate: frames a second of a folder of pictures.
      chunk: how many frames are on the device at once.
      precision: what the network computes in, if `weights` are a path: see `rvm_jax.load`.
      quality: of .mp4, .webm and streams.
      mbps: their bit rate instead, in megabits a second.
      pictures: what a folder holds: "png", "tif" or "exr".
      hdr: what becomes of HDR: "tone-map" makes it BT.709, "keep" keeps it.
      encoder: of .mp4 and streams: on the CPU, or on an NVIDIA GPU.
      pipe: what standard output gets: NUT has times, sound and alpha, y4m one frame rate, raw bytes none of it.
      camera_size: width and height to ask a camera for.
      camera_rate: frames a second to ask it for.
      camera_format: how it is to send them, such as mjpeg.
      force: overwrite what exists.
      progress: called with how many frames are done and how many to expect, None if that is not known.
      stop: asked after every chunk, for every frame that a clean plate is made of, and while a live source gives
        nothing; if it says true, what was matted so far is written.
      look: called with what became of every chunk, uint8 or uint16 [T, H, W, C] of each kind that is written (see
        `CHANNELS`).
    """
    name = os.fspath(name)
    others = {"alpha": alpha, "foreground": foreground, "view": view}
    outputs = targets.outputs(target, background, others, pipe)
    targets.check(targets.read_places([name], background, plate), list(outputs.values()), force=force)
    options.check_written(list(outputs.values()), quality=quality, mbps=mbps, pictures=pictures, pipe=pipe)
    if encoder == "nvenc":
        live.check_nvenc([one.ending for one in outputs.values()])
    if "composite" in outputs:
        background = background or "green"
        backgrounds.check(background)
    part = options.part(start, end, resize)
    options.check_numbers(rate=rate, chunk=chunk, mbps=mbps, camera_rate=camera_rate)
    opening.check_options(plate, align_plate, name)
    camera = CameraMode(camera_size, camera_rate, camera_format)
    once = demux.is_live(name)
    urgent = demux.drops_frames(name) and next(iter(outputs.values())).path is None
    tally = Tally()
    stopped = False

    def asked_to_stop() -> bool:
        nonlocal stopped
        stopped = stopped or bool(stop())
        return stopped

    with contextlib.ExitStack() as stack:
        fps = Fraction(rate).limit_denominator(1001)
        open_again = partial(source.open_source, name, part, rate=fps, keep_hdr=hdr == "keep", camera=camera)
        opened_source = open_again()
        video = stack.enter_context(prefetch.entered(opened_source, asked_to_stop) if once else opened_source)
        if video is None:
            return VideoResult(0, complete=False)
        if hdr == "keep" and not video.colors.hdr:
            print(f"{name} is not HDR: --hdr keep changes nothing of it", file=sys.stderr)
        for kind, one in outputs.items():
            if kind != "alpha":
                sink.check_hdr(one.name, one.ending or f".{pictures}", video)
        if "view" in outputs and "cut_out" in outputs:
            background = backgrounds.CHECKERED
        size = (video.height, video.width)
        opened = backgrounds.open_background(background or backgrounds.TRANSPARENT, *size, video.pixel_aspect)
        behind = stack.enter_context(opened)
        matte = (weights if isinstance(weights, Matte | BaselineMatte) else load(weights, precision)).folded()
        opening.check_network(matte, plate, one_frame_delay)
        if plate is not None and video.colors.hdr:
            raise InputError("--hdr keep with a clean plate, which is not HDR: give --hdr tone-map")
        clean = None
        if plate is not None:
            clean = opening.open_plate(plate, video, open_again, align_plate, asked_to_stop)
            if clean is None:
                return VideoResult(0, complete=False)
        plates = alignment(clean, f"--plate {plate}") if clean is not None and align_plate else None
        given = None if downsample_ratio is None else float(downsample_ratio)
        ratio = automatic_ratio(size) if given is None else given
        if isinstance(matte, Matte):
            check_frames(np.broadcast_to(np.float32(0), (1, *size, 3)), ratio)
        else:
            memoryless.check(matte, size, given)
        length = chunk or (1 if urgent else automatic_chunk(*size))
        recorded = once and any(one.path is not None for one in outputs.values())
        stack.enter_context(_failures_told(name, size, length, lambda: recorded and tally.written > 0))

        # Closed last: a source may stall, and what is written is not to wait for it.
        chunks = stack.enter_context(
            prefetch.prefetched(
                read_chunks(video, length, behind, plates, at_once=once),
                1 if urgent else QUEUED,
                asked_to_stop if once else lambda: False,
                merge=newer if urgent else None,
                patience=cameras.PATIENCE if cameras.device(name) else None,
            )
        )
        # All files are closed before the first of them gets its name.
        places = {kind: stack.enter_context(place(one, force, once, stop, tally)) for kind, one in outputs.items()}
        paced, queued = not demux.drops_frames(name), 1 if urgent else QUEUED
        how = Encoding(quality, mbps, pictures, encoder, once, paced, queued, asked_to_stop)
        writers: dict[str, ChunkWriter] = {}
        for kind, one in outputs.items():
            counts = Tally() if writers else tally
            writer = open_writer(one, places[kind], video, CHANNELS[kind], how, counts, keep_sound=not writers)
            writers[kind] = stack.enter_context(writer)
        deep = tuple(kind for kind, one in outputs.items() if sink.keeps_depth(one.ending, video))
        transfer = video.colors.transfer if video.colors.hdr else None
        still = None if behind.still is None else jax.device_put(behind.still)
        known = _until_stopped(chunks, name, asked_to_stop)
        if isinstance(matte, Matte):
            mattes = _remembered(matte, known, ratio, still, tuple(writers), deep, transfer)
        else:
            mattes = memoryless.mattes(
                matte, known, clean, given, transfer, one_frame_delay, still, tuple(writers), deep
            )
        done = _write(mattes, writers, lambda done: progress(done, video.length), look, urgent=urgent)
    unaligned = 0 if plates is None else plates.failed
    return VideoResult(done, not stopped, tally.dropped, tally.latency if urgent else None, unaligned)


def automatic_chunk(height: int, width: int) -> int:
    """How many frames of a size are computed at once.

    One on a CPU: of more, what a layer makes is no longer in its caches when the next layer wants it
    (`benchmarks/network.py`).
    """
    if jax.default_backend() == "cpu":
        return 1
    return max(1, min(LONGEST_CHUNK, PIXELS_AT_ONCE // (height * width)))


def _remembered(
    matte: Matte,
    chunks: Iterator[Chunk],
    ratio: float,
    still: Array | None,
    kinds: tuple[str, ...],
    deep: tuple[str, ...],
    transfer: int | None,
) -> Iterator[tuple[Chunk, dict[str, Array]]]:
    """Each chunk, and what is made of it and of the state that those before it left."""
    state: State | None = None
    for chunk in chunks:
        if state is None:
            state = matte.network.initial_state(1, chunk.pixels.shape[1:3], ratio, matte.dtype)
        pixels, moving = jax.device_put((chunk.pixels, chunk.background))
        shown = still if moving is None else moving
        made, state = matte_chunk(
            matte.network, matte.variables, pixels, state, shown, ratio, kinds=kinds, deep=deep, transfer=transfer
        )
        yield chunk, made


def _write(
    mattes: Iterator[tuple[Chunk, dict[str, Array]]],
    writers: Mapping[str, ChunkWriter],
    progress: Callable[[int], None],
    look: Callable[[Mapping[str, Array]], Any],
    *,
    urgent: bool,
) -> int:
    """Returns how many frames are done. If they are urgent, the next is only taken when one is done, and so newer."""
    done = 0
    for chunk, made in mattes:
        if urgent:
            jax.block_until_ready(made)
        for kind, write in writers.items():
            made[kind].copy_to_host_async()
            write((chunk, made[kind]))
        look(made)
        done += len(chunk.frames)
        progress(done)
    return done


@partial(jax.jit, static_argnames=("network", "ratio", "kinds", "deep", "transfer"), donate_argnames=("state",))
def matte_chunk(
    network: MattingNetwork,
    variables: Variables,
    pixels: Array,
    state: State,
    background: Array | None,
    ratio: float,
    kinds: tuple[str, ...],
    deep: tuple[str, ...] = (),
    transfer: int | None = None,
) -> tuple[dict[str, Array], State]:
    """uint8 or uint16 `[T, H, W, 3]` → `[T, H, W, C]` of each kind, and the state.

    See `compositing.pictures`. With a `transfer` frames are HDR.
    """
    frames = compositing.to_floats(pixels, state.r1.dtype)
    seen = frames if transfer is None else to_seen(frames, transfer)
    result: Any = network.apply(variables, seen[None], state, ratio)
    foreground, alpha = result.foreground[0], result.alpha[0]
    if transfer is not None:  # what the network takes off the frames, in their space
        change = from_seen(foreground, transfer) - from_seen(seen, transfer)
        foreground = jnp.clip(frames + change, 0, 1)
    made = compositing.pictures(frames, foreground, alpha, background, kinds, deep, transfer)
    return made, result.state


def _until_stopped(chunks: Iterator[Chunk], name: str, stop: Callable[[], bool]) -> Iterator[Chunk]:
    """The chunks until `stop` says true, once each is done, or until a camera has given nothing for long."""
    try:
        for chunk in chunks:
            yield chunk
            if stop():
                return
    except TimeoutError:
        print(f"{name} has given nothing for {cameras.PATIENCE:g} s: it is taken to be gone", file=sys.stderr)


@contextlib.contextmanager
def _failures_told(name: str, size: tuple[int, int], length: int, kept: Callable[[], bool]) -> Iterator[None]:
    """Tell of a failure that what was recorded is `kept`, if it is; and that of a device with too little memory."""
    try:
        with _memory_told(name, size, length):
            yield
    except InputError as error:
        if not kept():
            raise
        raise InputError(f"{error}; what was recorded until then is kept") from error


@contextlib.contextmanager
def _memory_told(name: str, size: tuple[int, int], length: int) -> Iterator[None]:
    """Tell that a device has too little memory, and the mend."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        frames = f"{length} frame{'s' * (length > 1)} of {size[1]}×{size[0]} at once"
        fewer = f"--chunk {length // 2}, " if length > 1 else ""
        raise InputError(
            f"{name}: the memory of {jax.devices()[0].device_kind} is too small for {frames}: give {fewer}a smaller "
            "--downsample-ratio or --resize, or --precision bfloat16"
        ) from error
