"""Orientation: EXIF tags of pictures and display matrices of videos, by which cameras note how they were held."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import ExifTags, Image

from rvm_jax.errors import InputError

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture with this orientation tag upright; all others are upright."""


def is_upright(image: Image.Image) -> bool:
    """Whether a picture has no orientation tag that asks to turn it; one that cannot be read does not count."""
    return _orientation(image) not in TURNS


def upright_picture(image: Image.Image) -> Image.Image:
    """Turned as its tag asks for. `ImageOps.exif_transpose` copies what is upright, and trips over damaged tags."""
    tag = _orientation(image)
    return image.transpose(TURNS[tag]) if tag in TURNS else image


def upright_array(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """The same of uint16 [H, W, C], by the tag of the `image` they come from: Pillow has no such colours."""
    tag = _orientation(image)
    if tag not in TURNS:
        return pixels
    planes = [
        Image.fromarray(np.ascontiguousarray(plane)).transpose(TURNS[tag]) for plane in np.moveaxis(pixels, -1, 0)
    ]
    return np.stack([np.asarray(plane) for plane in planes], -1)


Matrix = tuple[int, int, int, int]
"""The a, b, c, d of x' = ax + cy, y' = bx + dy, which shows a frame, with y down."""


ROTATED: dict[int, Matrix] = {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}
"""By degrees, counter-clockwise."""


def display_matrices() -> Callable[[av.VideoFrame], Matrix | None]:
    """A function that tells `display_matrix` of the frames of a video, one after the other.

    It looks only where the rotation changes: a frame whose side data was looked at refers to itself, and stays in
    memory until Python searches for such cycles, hundreds of frames later.
    """
    known: tuple[int, Matrix | None] | None = None

    def matrix(frame: av.VideoFrame) -> Matrix | None:
        nonlocal known
        if known is None or known[0] != frame.rotation:
            known = frame.rotation, display_matrix(frame)
        return known[1]

    return matrix


def upright_frame(pixels: np.ndarray, matrix: Matrix | None, path: Path) -> np.ndarray:
    """The pixels [H, W, 3] of a frame, turned and mirrored as the display matrix of its video asks for."""
    if matrix is None:
        return pixels
    a, b, c, d = matrix
    if (a or d) and (b or c):
        raise InputError(f"{path} is to be shown at an angle: encode it again, turned by a multiple of 90 degrees")
    right, down = (a, d) if a else (c, b)
    pixels = pixels if a else pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels[:: 1 if down > 0 else -1, :: 1 if right > 0 else -1])


def display_matrix(frame: av.VideoFrame) -> Matrix | None:
    """How a frame is to be shown; None if it is upright."""
    stored: Any
    try:
        stored = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # 2026-11: PyAV 18 does not know all kinds of side data, such as a camera's EXIF
        return ROTATED.get(frame.rotation % 360)
    if stored is None:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", stored)
    return None if a > 0 and d > 0 and b == c == 0 else (a, b, c, d)


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error):
        return None
