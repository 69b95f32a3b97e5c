"""Frames in: of a video file, a stream or a camera, a folder of pictures, or one picture.

Frames come upright, as RGB of 8 bits, with the times that they have in the file; packets of sound come between them, as
they are stored, to be written again without loss.
"""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import av
import numpy as np
from PIL import Image

from rvm_jax import pictures
from rvm_jax.errors import InputError

PICTURES_A_SECOND = Fraction(30)

UNSPECIFIED = 2
"""What FFmpeg's numbers for matrix, primaries and transfer call unknown."""


class Frame(NamedTuple):
    pixels: np.ndarray
    """RGB uint8 [H, W, 3], upright."""
    time: int
    """In the time base of the source, from the begin of what is read."""
    duration: int
    """In the same; 0 if it is not known."""
    name: str


class Colors(NamedTuple):
    """FFmpeg's numbers for how a video stores colours."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED


Item: TypeAlias = "Frame | av.Packet[Any]"


@dataclass(frozen=True)
class Source:
    """What is read, and what a copy needs to know of it."""

    name: str
    height: int
    width: int
    time_base: Fraction
    rate: Fraction
    """Frames a second, in the mean, as far as the header tells."""
    length: int | None
    """How many frames to expect, as far as the header tells: good only for saying how much is left."""
    items: Iterator[Item]
    """The frames in order, and between them the packets of `sounds`, whose times begin with those of the frames."""
    colors: Colors
    pixel_aspect: Fraction
    """Width by height of a pixel."""
    sounds: tuple[av.AudioStream, ...]


class Size(NamedTuple):
    """What to bring frames to. Without a height it is what keeps their shape."""

    width: int
    height: int | None = None


class Part(NamedTuple):
    """Which part of a source to read, in seconds as players count them, and the size to bring its frames to."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    size: Size | None = None


WHOLE = Part()


@contextlib.contextmanager
def opened(name: str, part: Part = WHOLE, *, rate: Fraction = PICTURES_A_SECOND) -> Iterator[Source]:
    """Open anything that holds frames. `rate` is for folders of pictures, which have none of their own."""
    from rvm_jax import demux

    if demux.is_live(name):
        with demux.opened(name, part) as source:
            yield source
        return
    try:
        path = Path(name).expanduser()
        pictures = _pictures(path) if path.is_dir() else [path] if is_picture(path) else []
        exists = path.exists()
    except (OSError, RuntimeError) as error:  # also of names that cannot be
        raise InputError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not exists:
        raise InputError(f"{name} does not exist: expected a video, a folder of pictures, a picture, a URL, or webcam")
    if pictures:
        yield stills(path, pictures, part, rate)
    else:
        with demux.opened(str(path), part) as source:
            yield source


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in pictures.SUFFIXES


def stills(origin: Path, paths: list[Path], part: Part, rate: Fraction) -> Source:
    """Pictures, shown one after the other."""
    end = len(paths) if part.end is None else _ceil(part.end * rate)
    chosen = paths[_ceil(part.start * rate) : end]
    if not chosen:
        seconds = float(len(paths) / rate)
        raise InputError(f"{origin} lasts {seconds:g} s at {float(rate):g} fps: nothing is left by --start and --end")
    named = len({path.stem for path in chosen}) == len(chosen)

    def frames() -> Iterator[Item]:
        for number, path in enumerate(chosen):
            yield Frame(_read_picture(path), number, 1, path.stem if named else numbered(number))

    _, (height, width), items = begun(sized(origin, frames(), part.size))
    return Source(str(origin), height, width, 1 / rate, rate, len(chosen), items, Colors(), Fraction(1), ())


def begun(items: Iterator[Item]) -> tuple[Frame, tuple[int, int], Iterator[Item]]:
    """The first frame, its height and width, and all items again. There must be a frame."""
    taken: list[Item] = []
    for item in items:
        taken.append(item)
        if isinstance(item, Frame):
            height, width, _ = item.pixels.shape
            return item, (height, width), itertools.chain(taken, items)
    raise StopIteration


def sized(origin: object, items: Iterator[Item], size: Size | None) -> Iterator[Item]:
    """The same items, with frames brought to one size, or checked to have one."""
    shape: tuple[int, int] | None = None
    for item in items:
        if isinstance(item, Frame):
            height, width, _ = item.pixels.shape
            if shape is None and size is not None:
                shape = size.height or max(1, round(height * size.width / width)), size.width
            shape = shape or (height, width)
            if (height, width) != shape and size is None:
                raise InputError(
                    f"frame {item.name} of {origin} has {width}×{height} pixels, those before it have "
                    f"{shape[1]}×{shape[0]}: give --resize {shape[1]}x{shape[0]} to bring all to one size"
                )
            item = item._replace(pixels=resized(item.pixels, shape))
        yield item


def resized(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A frame, uint8 [H, W, C], brought to (height, width)."""
    if pixels.shape[:2] == shape:
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.asarray(image.resize(shape[::-1], Image.Resampling.LANCZOS)).reshape(*shape, -1)


def numbered(number: int) -> str:
    return f"{number:04d}"


def _pictures(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if is_picture(path) and not path.name.startswith(".")]
    if not found:
        kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in pictures.SUFFIXES))
        raise InputError(f"{folder} holds no pictures: expected files of these kinds: {kinds}")
    return sorted(found, key=pictures.natural)


def _read_picture(path: Path) -> np.ndarray:
    image = pictures.read_picture(path)
    if image.mode.startswith("I"):  # gray of 16 bits, which Pillow would clip
        image = Image.fromarray((np.asarray(image, np.float32) / 257).round().clip(0, 255).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def _ceil(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)
