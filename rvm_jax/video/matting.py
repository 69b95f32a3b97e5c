"""The matting pipeline of a whole video: reader → device → writers, all at once, in memory that does not grow.

Frames go to the device as bytes, a few at a time; the state stays there; what comes back are the bytes to write.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rvm_jax.errors import InputError
from rvm_jax.host import prefetch
from rvm_jax.host.buckets import in_bucket, local_path
from rvm_jax.host.files import replacing, writing
from rvm_jax.matte import Matte, automatic_ratio, load
from rvm_jax.model.decoder import State
from rvm_jax.model.network import MattingNetwork, check_frames
from rvm_jax.video import backgrounds, compositing, sink, source
from rvm_jax.video.backgrounds import Background
from rvm_jax.video.frames import Frame, Part, Size, Source
from rvm_jax.video.hdr import TRANSFERS, from_seen, from_srgb, to_seen
from rvm_jax.video.sink import Pictures, Quality
from rvm_jax.weights.names import Variables

PathLike = str | os.PathLike[str]

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


class Chunk(NamedTuple):
    """Consecutive frames, and the sound that comes before or between them."""

    pixels: np.ndarray
    """uint8 or uint16 [T, H, W, 3]; if there are fewer frames than T, the last one is repeated."""
    background: np.ndarray | None
    """The same of the background, if that moves."""
    frames: list[Frame]
    """Without their pixels."""
    sound: list["av.Packet[Any]"]


ChunkWriter = Callable[[tuple[Chunk, Array]], None]
"""Writes a chunk, given what became of its frames: uint8 or uint16 [T, H, W, C]."""


def matte_video(
    name: PathLike,
    target: PathLike,
    *,
    weights: PathLike | Matte,
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
    force: bool = False,
    progress: Callable[[int, int | None], None] = lambda done, expected: None,
    stop: Callable[[], Any] = lambda: False,
    look: Callable[[Mapping[str, Array]], Any] = lambda made: None,
) -> VideoResult:
    """Matte a video, a folder of pictures, a picture, a stream (URL) or a camera (`webcam`), and write `target`.

    What is written follows from its ending: `.mp4` (H.264), `.mov` (ProRes 4444), `.webm` (VP9), `.mkv` (FFV1), `.gif`,
    `.png`, `.tif` or `.exr` (one picture), or a folder of pictures if there is none. Times, sound, and the shape,
    colour space and depth of pixels are kept. If anything fails, nothing is written.

    Args:
      name: what to matte.
      target: what to write: people before `background`, or cut out of their frames.
      weights: a file or folder that `rvm_jax.load` takes, or what it returned.
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
      quality: of .mp4 and .webm.
      mbps: their bit rate instead, in megabits a second.
      pictures: what a folder holds: "png", "tif" or "exr".
      hdr: what becomes of HDR: "tone-map" makes it BT.709, "keep" keeps it.
      force: overwrite what exists.
      progress: called with how many frames are done and how many to expect, None if that is not known.
      stop: asked after every chunk; if it says true, what was matted so far is written.
      look: called with what became of every chunk, uint8 [T, H, W, C] of each kind that is written (see `CHANNELS`).
    """
    name = os.fspath(name)
    outputs = _outputs(local_path(target), background, alpha, foreground, view)
    check_targets(name, list(outputs.values()), force, mbps, background)
    if "composite" in outputs:
        background = background or "green"
        backgrounds.check(background)
    part = _part(start, end, resize)
    for option, value in (("rate", rate), ("chunk", chunk), ("mbps", mbps)):
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"--{option} {value:g}: expected a number above 0")
    stopped = False

    def asked_to_stop() -> bool:
        nonlocal stopped
        stopped = stopped or bool(stop())
        return stopped

    with contextlib.ExitStack() as stack:
        fps = Fraction(rate).limit_denominator(1001)
        video = stack.enter_context(source.open_source(name, part, rate=fps, keep_hdr=hdr == "keep"))
        for kind, path in outputs.items():
            if kind != "alpha":
                sink.check_hdr(path, pictures, video)
        if "view" in outputs and "cut_out" in outputs:
            background = backgrounds.CHECKERED
        size = (video.height, video.width)
        opened = backgrounds.open_background(background or backgrounds.TRANSPARENT, *size, video.pixel_aspect)
        behind = stack.enter_context(opened)
        ratio = automatic_ratio(size) if downsample_ratio is None else float(downsample_ratio)
        check_frames(np.broadcast_to(np.float32(0), (1, *size, 3)), ratio)
        matte = (weights if isinstance(weights, Matte) else load(weights, precision)).folded()
        length = chunk or automatic_chunk(*size)

        # All files are closed before the first of them gets its name.
        unfinished = {kind: stack.enter_context(replacing(path, overwrite=force)) for kind, path in outputs.items()}
        writers: dict[str, ChunkWriter] = {}
        for kind, path in outputs.items():
            writer = _writer(path, unfinished[kind], kind, video, quality, mbps, pictures, keep_sound=not writers)
            writers[kind] = stack.enter_context(writer)
        deep = tuple(kind for kind, path in outputs.items() if sink.keeps_depth(path, video))
        chunks = stack.enter_context(prefetch.prefetched(read_chunks(video, length, behind), QUEUED, asked_to_stop))
        transfer = video.colors.transfer if video.colors.transfer in TRANSFERS else None
        compute = partial(matte_chunk, ratio=ratio, kinds=tuple(writers), deep=deep, transfer=transfer)
        told = lambda done: progress(done, video.length)  # noqa: E731
        done = _run(matte, chunks, ratio, compute, behind, writers, told, asked_to_stop, look)
        return VideoResult(done, complete=not stopped)


def automatic_chunk(height: int, width: int) -> int:
    """How many frames of a size are computed at once.

    One on a CPU: of more, what a layer makes is no longer in its caches when the next layer wants it
    (`benchmarks/network.py`).
    """
    if jax.default_backend() == "cpu":
        return 1
    return max(1, min(LONGEST_CHUNK, PIXELS_AT_ONCE // (height * width)))


def check_targets(
    name: str, targets: list[Path], force: bool, mbps: float | None, background: str | None = None
) -> None:
    """Refuse what cannot be read or written, before anything is done."""
    for location in filter(in_bucket, (name, background or "")):
        local_path(location)
    read = ((_existing(name), "matted"), (_existing(background or ""), "put behind people"))
    for path in targets:
        for file, what in read:
            if file is not None and Path(os.path.realpath(path)) in (file, *file.parents):
                where = "is" if path.samefile(file) else "holds"
                raise InputError(f"{path} {where} what is to be {what}: give another name to write to")
        sink.check_kind(path)
        if path.exists() and not force:
            raise InputError(f"{path} exists already: choose another name, or overwrite it with --force")
        if path.exists() and path.is_dir() != (path.suffix == ""):
            found, expected = ("folder", "file") if path.is_dir() else ("file", "folder")
            raise InputError(f"{path} is a {found}, and a {expected} would be written: choose another name")
        if path.is_dir():
            other = next((inside.name for inside in path.iterdir() if not sink.is_picture(inside)), None)
            if other:
                raise InputError(
                    f"{path} holds {other}, not only pictures, and is not overwritten: give another folder"
                )
    if len({os.path.realpath(path) for path in targets}) < len(targets):
        raise InputError(f"{targets[0]} is to hold several things: give each output a name of its own")
    if mbps is not None and not any(sink.has_bit_rate(path) for path in targets):
        raise InputError(f"--mbps is given, but {targets[0]} has no bit rate to choose: write .mp4 or .webm")


def _existing(name: str) -> Path | None:
    """The file or folder that is called so, if it is none of a URL, a colour or the like."""
    try:
        path = Path(os.path.realpath(Path(name).expanduser()))
        return path if name and path.exists() else None
    except (OSError, RuntimeError):  # a name that cannot be
        return None


def _outputs(
    target: Path, background: str | None, alpha: PathLike | None, foreground: PathLike | None, view: PathLike | None
) -> dict[str, Path]:
    """What to write where, the main thing first."""
    cut_out = background == backgrounds.TRANSPARENT or (background is None and sink.keeps_alpha(target))
    if cut_out and not sink.keeps_alpha(target):
        raise InputError(f"{target} cannot be transparent: write .mov, .webm, .mkv, .gif or a folder of pictures")
    paths = {"cut_out" if cut_out else "composite": target, "alpha": alpha, "foreground": foreground, "view": view}
    return {kind: local_path(path) for kind, path in paths.items() if path is not None}


def _part(start: float, end: float | None, resize: tuple[int, int | None] | None) -> Part:
    if not 0 <= start < math.inf or (end is not None and not start < end < math.inf):
        given = f"--start {start:g}" + ("" if end is None else f" --end {end:g}")
        raise InputError(f"{given}: expected seconds from the start, and an end after the start")
    if resize is not None and min(resize[0], resize[1] or 1) < 1:
        given = "x".join(str(side) for side in resize if side is not None)
        raise InputError(f"--resize {given}: expected pixels, such as 1280x720 or 1280")
    exact = [None if number is None else Fraction(number).limit_denominator(10**6) for number in (start, end)]
    return Part(exact[0] or Fraction(0), exact[1], None if resize is None else Size(*resize))


def _run(
    matte: Matte,
    chunks: Iterator[Chunk],
    ratio: float,
    compute: Callable[..., tuple[dict[str, Array], State]],
    background: Background,
    writers: Mapping[str, ChunkWriter],
    progress: Callable[[int], None],
    stop: Callable[[], bool],
    look: Callable[[Mapping[str, Array]], Any],
) -> int:
    """Returns how many frames are done."""
    still = None if background.still is None else jax.device_put(background.still)
    state: State | None = None
    done = 0
    for chunk in chunks:
        if state is None:
            state = matte.network.initial_state(1, chunk.pixels.shape[1:3], ratio, matte.dtype)
        pixels, moving = jax.device_put((chunk.pixels, chunk.background))
        shown = still if moving is None else moving
        made, state = compute(matte.network, matte.variables, pixels, state, shown)
        for kind, write in writers.items():
            made[kind].copy_to_host_async()
            write((chunk, made[kind]))
        look(made)
        done += len(chunk.frames)
        progress(done)
        if stop():
            break
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

    What is made is uint16 for the kinds that are `deep`, else uint8. `background` is either and broadcasts to the
    frames; without one it is the frames' own, blurred. With a `transfer` frames are HDR, and so is what is made.
    """
    frames = compositing.to_floats(pixels, state.r1.dtype)
    seen = frames if transfer is None else to_seen(frames, transfer)
    result: Any = network.apply(variables, seen[None], state, ratio)
    foreground, alpha = result.foreground[0], result.alpha[0]
    if transfer is not None:  # what the network takes off the frames, in their space
        change = from_seen(foreground, transfer) - from_seen(seen, transfer)
        foreground = jnp.clip(frames + change, 0, 1)
    types = {kind: jnp.uint16 if kind in deep else jnp.uint8 for kind in kinds}
    made = {}
    if "cut_out" in kinds:
        made["cut_out"] = compositing.cut_out(foreground, alpha, types["cut_out"])
    composites = [kind for kind in ("composite", "view") if kind in kinds]
    if composites:
        if background is None:
            behind = compositing.blurred(frames, alpha)
        else:
            behind = compositing.to_floats(background, frames.dtype)
            behind = behind if transfer is None else from_srgb(behind, transfer)
        made |= {kind: compositing.composite(foreground, alpha, behind, types[kind]) for kind in composites}
    if "alpha" in kinds:
        made["alpha"] = compositing.to_integers(alpha, types["alpha"])
    if "foreground" in kinds:
        made["foreground"] = compositing.to_integers(foreground, types["foreground"])
    return made, result.state


def read_chunks(video: Source, length: int, background: Background) -> Iterator[Chunk]:
    """The frames of a video, `length` at a time; there must be one."""
    frames: list[Frame] = []
    sound: list[av.Packet[Any]] = []

    def chunk() -> Chunk:
        missing = length - len(frames)
        pixels = np.stack([frame.pixels for frame in frames] + [frames[-1].pixels] * missing)
        shown = None
        if background.moving is not None:
            moving = [background.moving(frame.time * video.time_base) for frame in frames]
            shown = np.stack(moving + moving[-1:] * missing)
        return Chunk(pixels, shown, [frame._replace(pixels=pixels[:0]) for frame in frames], sound)

    for item in video.items:
        if not isinstance(item, Frame):
            sound.append(item)
            continue
        if len(frames) == length:
            yield chunk()
            frames, sound = [], []
        frames.append(item)
    yield chunk()


@contextlib.contextmanager
def _writer(
    path: Path,
    unfinished: Path,
    kind: str,
    video: Source,
    quality: Quality,
    mbps: float | None,
    pictures: Pictures,
    keep_sound: bool,
) -> Iterator[ChunkWriter]:
    """What writes in a thread of its own, to an `unfinished` path that will be `path`."""
    options: dict[str, Any] = {"quality": quality, "mbps": mbps, "pictures": pictures, "keep_sound": keep_sound}
    ending = path.suffix.lower()
    with writing(path), sink.open_sink(unfinished, ending, video, CHANNELS[kind], **options) as put:

        def write(item: tuple[Chunk, Array]) -> None:
            chunk, made = item
            with writing(path):
                for packet in chunk.sound:
                    put(packet)
                for frame, pixels in zip(chunk.frames, np.asarray(made), strict=False):
                    put(frame._replace(pixels=pixels))

        with prefetch.background_writer(write, QUEUED) as enqueue:
            yield enqueue
