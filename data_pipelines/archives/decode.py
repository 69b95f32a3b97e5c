"""Decoding and encoding: videos and pictures in, checked frames out; encoded frames out again.

Worker processes import this module, so it imports neither TensorFlow nor anything slow. What is given must be sound:
every function raises `InputError` that names the file, since nobody looks at a frame again once it is in a dataset.
"""

import contextlib
import functools
import io
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

from data_pipelines.archives.members import Picture
from rvm_jax.errors import InputError
from rvm_jax.video import picture_files
from rvm_jax.video.orientation import display_matrices, display_matrix, is_upright, upright_frame
from rvm_jax.video.picture_files import DAMAGED, open_picture

DECORD_BUDGET = 3 * 2**28
"""Bytes of decoded frames up to which a clip may be read with decord, which decodes ahead without bound; all of them
are held until five were compared with PyAV's."""

DECORD_CODECS = ("hevc", "vp9")
EIGHT_BITS = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"}
GRAY_NOISE = 16
"""How far apart the channels of a gray frame may be. Measured: 4 at most after H.264, HEVC, VP8, VP9, AV1, MPEG-2,
MPEG-4, ProRes and Motion JPEG, whatever the quality."""


class Header(NamedTuple):
    codec: str
    pixels: str
    height: int
    width: int
    frames: int
    """0 if it does not say, as in Matroska and WebM."""


def read_video(path: Path) -> Iterator[np.ndarray]:
    """Every frame of a video, in order and upright, decoded from its start to its end: RGB uint8 [H, W, 3].

    Raises `InputError` where fewer frames can be decoded than the header promises.
    """
    header = _header(path)
    frames = _read_with_decord(path, header) if _suits_decord(path, header) else None
    if frames is None:
        yield from _read_with_pyav(path, header)
        return
    while frames:
        yield frames.popleft()


def read_foreground_video(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video that must have colours in some of them: a few may be black."""
    has_color = False
    for frame in read_video(path):
        has_color = has_color or not _is_gray(frame)
        yield frame
    if not has_color:
        raise InputError(f"{path} is gray: a foreground must be in colour; is this an alpha in the wrong folder?")


def read_alpha_video(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video that must be gray: uint8 [H, W]."""
    for frame in read_video(path):
        if not _is_gray(frame):
            raise _in_color(path)
        yield np.asarray(Image.fromarray(frame).convert("L"))


def video_length(path: Path) -> int:
    """How many frames the header of a video promises; nothing is decoded."""
    return _header(path).frames or sum(1 for _ in _packets(path))


def read_foreground(path: Picture) -> Image.Image:
    """A picture that must be RGB of 8 bits, turned upright if it has an orientation tag."""
    image = _load(path)
    if image.mode != "RGB" or image.has_transparency_data:
        raise InputError(f"{path} is {_described(image)}: a foreground must be RGB of 8 bits without an alpha channel")
    return image


def read_alpha(path: Picture, *, upright: bool = True) -> Image.Image:
    """An alpha picture, mode "L": gray of 8 bits or 1 bit, or RGB with three equal channels.

    It is turned upright if it has an orientation tag, unless `upright` is false: the masks of segmentation datasets lie
    on the pixels as they are stored.
    """
    image = _load(path, upright=upright)
    if image.mode not in ("L", "1", "RGB") or image.has_transparency_data:
        raise InputError(f"{path} is {_described(image)}: an alpha must be gray of 8 bits without an alpha channel")
    if image.mode == "RGB":
        red, green, blue = image.split()
        if red.tobytes() != green.tobytes() or red.tobytes() != blue.tobytes():
            raise _in_color(path)
        return red
    return image.convert("L")


def read_picture(path: Picture, *, upright: bool = True) -> Image.Image:
    """Any picture of 8 bits as RGB: gray is expanded, an alpha channel dropped. For `upright`, see `read_alpha`."""
    return _load(path, upright=upright).convert("RGB")


def jpeg_bytes(path: Picture, *, upright: bool = True) -> bytes | None:
    """The bytes of the file if it is a sound RGB JPEG, which need not be encoded again; otherwise None.

    Training ignores orientation tags, so what has one to heed is no such file, unless `upright` is false.
    """
    try:
        encoded = path.read_bytes()
        with open_picture(io.BytesIO(encoded)) as image:
            image.load()
            keep = image.format == "JPEG" and image.mode == "RGB" and (is_upright(image) or not upright)
            return encoded if keep else None
    except DAMAGED:
        return None


def shrink(image: Image.Image, *, short_side: int) -> Image.Image:
    """Make the shorter side at most `short_side` pixels, antialiased; a smaller image is returned as it is."""
    shorter = min(image.size)
    if shorter <= short_side:
        return image
    width, height = (max(1, round(side * short_side / shorter)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def encode_jpeg(image: Image.Image) -> bytes:
    """As JPEG of full colour resolution, quality 95."""
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=95, subsampling="4:4:4")
    return encoded.getvalue()


def encode_png(image: Image.Image) -> bytes:
    """As gray PNG."""
    encoded = io.BytesIO()
    image.convert("L").save(encoded, "PNG")
    return encoded.getvalue()


def _load(path: Picture, *, upright: bool = True) -> Image.Image:
    if isinstance(path, Path):
        image = picture_files.read_picture(path, upright=upright)
    else:
        image = picture_files.read_picture(Path(str(path)), upright=upright, content=path.read_bytes())
    # Pillow silently cuts RGB of 16 bits down to 8, so the header of a PNG is asked.
    if image.mode.startswith(("I", "F")) or _png_depth(path) == 16:
        raise InputError(f"{path} has 16 bits a channel or more: save it with 8 bits")
    return image


def _in_color(path: Picture) -> InputError:
    return InputError(f"{path} is in colour: an alpha must be gray; is this a foreground in the wrong folder?")


def _is_gray(frame: np.ndarray) -> bool:
    """Whether a frame, RGB uint8 [H, W, 3], is gray but for the noise of a codec, as far as every 8th pixel shows."""
    red, green, blue = np.moveaxis(frame[::8, ::8].astype(np.int16), -1, 0)
    return max(np.abs(red - green).max(), np.abs(green - blue).max(), np.abs(blue - red).max()) <= GRAY_NOISE


def _png_depth(path: Picture) -> int | None:
    with path.open("rb") as file:
        header = file.read(25)
    return header[24] if header.startswith(b"\x89PNG") else None


def _described(image: Image.Image) -> str:
    if image.mode in ("RGBA", "LA", "PA") or image.has_transparency_data:
        return "a picture with an alpha channel"
    names = {"L": "gray", "1": "black and white of 1 bit", "P": "a picture with a palette"}
    return names.get(image.mode, f"of mode {image.mode}")


@contextlib.contextmanager
def _video(path: Path) -> "Iterator[tuple[av.container.InputContainer, av.VideoStream]]":
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path} holds no video, only other streams: expected a video file")
            yield container, container.streams.video[0]
    except (av.FFmpegError, OSError) as error:
        reason = "it is empty" if path.is_file() and path.stat().st_size == 0 else error.strerror
        raise InputError(f"{path} cannot be read as a video: {reason}") from error


def _header(path: Path) -> Header:
    with _video(path) as (_, stream):
        context = stream.codec_context
        return Header(context.name, context.pix_fmt or "unknown", context.height, context.width, stream.frames)


class _Packet(NamedTuple):
    time: int | None
    sound: bool
    shown: bool


def _packets(path: Path) -> Iterator[_Packet]:
    """What the file holds, an encoded frame each, without decoding.

    Not to be shown is what an edit list takes out. The same goes for the first pictures of an open GOP that was cut,
    which need others that are gone.
    """
    start: int | None = None
    with _video(path) as (container, stream):
        for packet in container.demux(stream):
            if packet.size == 0:  # the end
                continue
            start = packet.pts if start is None else start
            leading = packet.pts is not None and start is not None and packet.pts < start
            yield _Packet(packet.pts, sound=not packet.is_corrupt, shown=not (leading or packet.is_discard))


def _read_with_pyav(path: Path, header: Header) -> Iterator[np.ndarray]:
    decoded, matrix = 0, display_matrices()
    with _video(path) as (container, stream):
        stream.thread_type = "NONE"  # there is a worker process for every core already
        stream.codec_context.options = {"err_detect": "explode"}  # otherwise damage is painted over
        try:
            for frame in container.decode(stream):
                yield upright_frame(frame.to_ndarray(format="rgb24"), matrix(frame), path)
                decoded += 1
        except av.FFmpegError as error:
            raise _broken(path, decoded, header) from error
    if decoded == 0 or decoded < header.frames - sum(not packet.shown for packet in _packets(path)):
        raise _broken(path, decoded, header)


def _suits_decord(path: Path, header: Header) -> bool:
    """Whether decord 0.6 reads this file as well as PyAV does, and without filling the memory.

    Read in order it gives the frames of PyAV bit for bit, HEVC with open GOPs included, but for four kinds of files.
    Where the first pictures of a cut open GOP cannot be decoded, it repeats the last frame until there are as many as
    the header promises (27 sound ones of 30). Frames of 10 bits differ by up to 40 levels. Frames that are to be
    turned it may turn itself. And it paints over damage: of 40 H.264 files with three wrong bytes it gave false frames
    from 32 without a word, PyAV with `err_detect` from none (of HEVC 36 and 26, of VP9 31 and 30). Both see that a file
    was cut short.
    """
    size = header.frames * header.height * header.width * 3
    if not 0 < size <= DECORD_BUDGET or header.codec not in DECORD_CODECS or header.pixels not in EIGHT_BITS:
        return False
    if _decord() is None:
        return False
    packets = list(_packets(path))
    times = {packet.time for packet in packets if packet.sound and packet.shown} - {None}
    if not len(times) == len(packets) == header.frames:
        return False
    with _video(path) as (container, stream):
        stream.thread_type = "NONE"
        try:
            return display_matrix(next(container.decode(stream))) is None
        except (av.FFmpegError, StopIteration):
            return False  # PyAV will say what is wrong


def _read_with_decord(path: Path, header: Header) -> deque[np.ndarray] | None:
    """All frames of a video, or None and a line about it where decord fails or gives other frames than PyAV does.

    Five are compared bit for bit, the same on every machine, before any is handed on.
    """
    decord = _decord()
    assert decord is not None
    try:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        frames = deque(reader.next().asnumpy() for _ in range(header.frames))
    except (decord.DECORDError, RuntimeError):  # what a generator makes of StopIteration
        fault = "decord cannot read it"
    else:
        numbers = sorted({0, header.frames // 4, header.frames // 2, header.frames * 3 // 4, header.frames - 1})
        pyav = _frames_at(path, numbers)
        pairs = zip((frames[number] for number in numbers), pyav, strict=True)
        if all(other is not None and np.array_equal(frame, other) for frame, other in pairs):
            return frames
        fault = "decord gives other frames"
    print(f"warning: {path} is decoded with PyAV: {fault}", file=sys.stderr, flush=True)
    return None


def _frames_at(path: Path, numbers: Sequence[int]) -> list[np.ndarray | None]:
    """Frames of a video by their numbers, with PyAV from the key frame before each; None for what it does not give."""
    with _video(path) as (container, stream):
        stream.thread_type = "NONE"
        times = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)

        def frame_at(time: int) -> np.ndarray | None:
            for start in (time, times[0]):  # from a key frame that comes after it in the file it is not decoded
                container.seek(start, stream=stream)
                for frame in container.decode(stream):
                    if frame.pts == time:
                        return frame.to_ndarray(format="rgb24")
            return None

        try:
            return [frame_at(times[number]) for number in numbers]
        except av.FFmpegError:
            return [None] * len(numbers)  # what is wrong is told by who reads all of it


@functools.cache
def _decord() -> ModuleType | None:
    try:
        import decord
    except ImportError:  # there are no wheels but for x86-64
        return None
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _broken(path: Path, decoded: int, header: Header) -> InputError:
    promised = f"the {header.frames} frames that its header promises" if header.frames else "its frames"
    return InputError(f"{path} is damaged or cut short: {decoded} of {promised} can be decoded; get the file again")
