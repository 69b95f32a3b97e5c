"""Backgrounds: none, a colour, a checkerboard, a picture, a video that is repeated, or the frames' own one, blurred."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ImageColor

from rvm_jax.errors import InputError
from rvm_jax.host import prefetch
from rvm_jax.host.buckets import local_path
from rvm_jax.video import source
from rvm_jax.video.frames import Frame, resized
from rvm_jax.video.reading import picture_decoding

GREEN = (120, 255, 155)
"""The colour of the paper's pictures, which few people wear."""

TRANSPARENT, BLUR, CHECKERED = "transparent", "blur", "checkered"

SQUARES = 24
"""How many squares the short side of a checkerboard has."""


class Background(NamedTuple):
    """With neither, it is that of the frames themselves, or none."""

    still: np.ndarray | None = None
    """uint8 or uint16 [1, H, W, 3] or [1, 1, 1, 3]."""
    moving: Callable[[Fraction], np.ndarray] | None = None
    """For times in seconds that grow: the background of the frame then, uint8 or uint16 [H, W, 3]."""


def check(text: str) -> None:
    """Refuse what is neither a colour nor a file."""
    if text not in (TRANSPARENT, BLUR, CHECKERED) and _color(text) is None and not local_path(text).exists():
        raise InputError(
            f"--background {text} is no colour and no file: expected #rrggbb, a colour's name, a picture, a video, "
            "blur, checkered or transparent"
        )


@contextlib.contextmanager
def open_background(text: str, height: int, width: int, pixel_aspect: Fraction = Fraction(1)) -> Iterator[Background]:
    """The background that `text` names, cropped and scaled to cover frames of that size and shape of pixels."""
    color = _color(text)
    path = Path(text).expanduser()
    if text in (TRANSPARENT, BLUR):
        yield Background()
    elif text == CHECKERED:
        yield Background(checkerboard(height, width, pixel_aspect))
    elif color is not None:
        yield Background(np.full((1, 1, 1, 3), color, np.uint8))
    elif picture_decoding.is_picture(path) and path.is_file() and not picture_decoding.is_animation(path):
        with source.open_source(str(path)) as picture:
            (frame,) = picture.items
            assert isinstance(frame, Frame)
            yield Background(cover(frame.pixels, height, width, pixel_aspect)[None])
    else:
        frames = _repeated(str(path))
        try:
            yield Background(moving=_Loop(frames, height, width, pixel_aspect).at)
        finally:
            prefetch.close(frames)


def cover(pixels: np.ndarray, height: int, width: int, pixel_aspect: Fraction = Fraction(1)) -> np.ndarray:
    """The largest part of [h, w, 3] from its middle that has the shape asked for, scaled: [height, width, 3].

    The shape is that of pixels which are so many times as wide as high.
    """
    h, w, _ = pixels.shape
    shown = float(width * pixel_aspect)
    scale = min(h / height, w / shown)
    part_h, part_w = height * scale, shown * scale
    left, top = (w - part_w) / 2, (h - part_h) / 2
    return resized(pixels, (height, width), (left, top, left + part_w, top + part_h))


def checkerboard(height: int, width: int, pixel_aspect: Fraction = Fraction(1)) -> np.ndarray:
    """uint8 [1, H, W, 3], in the two grays that stand for transparency elsewhere."""
    side = max(1, min(height, width) // SQUARES)
    across = max(1, round(side / pixel_aspect))
    odd = (np.arange(height)[:, None] // side + np.arange(width) // across) % 2
    return np.where(odd[None, ..., None], np.uint8(204), np.uint8(255)).repeat(3, -1)


def _color(text: str) -> tuple[int, int, int] | None:
    if text == "green":
        return GREEN
    try:
        color = ImageColor.getrgb(text)
    except ValueError:
        return None
    return color[0], color[1], color[2]


class _Loop:
    """A video played over and over, its frames made to cover [height, width]."""

    def __init__(
        self, frames: Iterator[tuple[np.ndarray, Fraction]], height: int, width: int, pixel_aspect: Fraction
    ) -> None:
        self._frames, self._size = frames, (height, width, pixel_aspect)
        pixels, self._end = next(frames)
        self._covering = cover(pixels, *self._size)

    def at(self, seconds: Fraction) -> np.ndarray:
        """What is seen then, [H, W, 3]; times must not go back."""
        if seconds >= self._end:
            pixels, self._end = next(frame for frame in self._frames if seconds < frame[1])
            self._covering = cover(pixels, *self._size)
        return self._covering


def _repeated(name: str) -> Generator[tuple[np.ndarray, Fraction]]:
    """The frames of a video over and over, each with the time when it ends."""
    passed = Fraction(0)
    while True:
        with source.open_source(name) as video:
            frames = (item for item in video.items if isinstance(item, Frame))
            frame = next(frames)
            for following in frames:
                yield frame.pixels, passed + following.time * video.time_base
                frame = following
            duration = frame.duration * video.time_base or 1 / video.rate
            passed += frame.time * video.time_base + duration
            yield frame.pixels, passed
