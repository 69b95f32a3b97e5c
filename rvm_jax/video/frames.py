"""The types of frames and of their sources, and resizing of frames.

Frames come upright, as RGB of 8 bits, or of 16 where the source has more than 8, with the times that they have in the
file; packets of sound come between them, as they are stored, to be written again without loss.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import av
import numpy as np
from PIL import Image

from rvm_jax.errors import InputError

RGB, UNSPECIFIED = 0, 2
"""FFmpeg's numbers of matrices: of no conversion, and of an unknown one (also of unknown primaries and transfer)."""

BT709_FROM_HEIGHT = 720
"""Videos that name no matrix are taken as BT.601 if they are lower than this, or else as BT.709, as players do."""


class Frame(NamedTuple):
    pixels: np.ndarray
    """RGB uint8 or uint16 [H, W, 3], upright."""
    time: int
    """In the time base of the source, from the start of what is read."""
    duration: int
    """In the same; 0 if it is not known."""
    name: str


PQ, HLG = 16, 18
HDR = {PQ: "PQ", HLG: "HLG"}
"""Transfers that need more than 8 bits and a brighter screen, by FFmpeg's numbers."""


class Colors(NamedTuple):
    """FFmpeg's numbers for how a video stores colours."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    @property
    def hdr(self) -> bool:
        """Whether they are of high dynamic range."""
        return self.transfer in HDR


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
    deep: bool = False
    """Whether frames are uint16."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What a copy keeps, by FFmpeg's names."""
    spread: Callable[[int], Iterator[np.ndarray]] | None = None
    """So many frames, evenly spaced, read without those between them, as they are stored: of any size and depth."""


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


def peek(items: Iterator[Item]) -> tuple[Frame, tuple[int, int], Iterator[Item]]:
    """The first frame, its height and width, and all items again. There must be a frame."""
    taken: list[Item] = []
    for item in items:
        taken.append(item)
        if isinstance(item, Frame):
            height, width, _ = item.pixels.shape
            return item, (height, width), itertools.chain(taken, items)
    raise StopIteration


def at_one_size(origin: object, items: Iterator[Item], size: Size | None) -> Iterator[Item]:
    """The same items, with frames brought to one size, or checked to have one, and to the depth of the first."""
    shape: tuple[int, int] | None = None
    dtype: Any = None
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
            dtype = dtype or item.pixels.dtype
            item = item._replace(pixels=at_depth(resized(item.pixels, shape), dtype))
        yield item


def at_depth(pixels: np.ndarray, dtype: Any) -> np.ndarray:
    """uint8 as uint16, or the other way round."""
    if pixels.dtype == dtype:
        return pixels
    if dtype == np.uint16:
        return pixels * np.uint16(257)
    return ((pixels + np.uint32(128)) // 257).astype(np.uint8)


def resized(
    pixels: np.ndarray, shape: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """A frame, uint8 or uint16 [H, W, C], or the part of it in `box`, brought to (height, width)."""
    if pixels.shape[:2] == shape and box is None:
        return pixels
    if pixels.dtype == np.uint8:
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        return np.asarray(image.resize(shape[::-1], Image.Resampling.LANCZOS, box)).reshape(*shape, -1)
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(pixels, -1, 0)]
    planes = [plane.resize(shape[::-1], Image.Resampling.LANCZOS, box) for plane in planes]
    return np.stack([np.asarray(plane) for plane in planes], -1).round().clip(0, 65535).astype(pixels.dtype)


def frame_name(number: int) -> str:
    return f"{number:04d}"
