"""Image decoding: the pictures of prepared records, while training."""

import contextlib
from collections.abc import Iterator
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from data_pipelines.records.clips import Clips
from rvm_jax.errors import InputError

# Each sample is made by one thread; OpenCV's own would only get into each other's way.
cv2.setNumThreads(1)

_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def size(encoded: bytes) -> tuple[int, int]:
    """Width and height, from the header alone."""
    return Image.open(BytesIO(encoded)).size


def decode_color(encoded: bytes, reduction: int = 1) -> np.ndarray:
    """RGB uint8 [H, W, 3], with sides divided by `reduction` and rounded up; a JPEG is decoded at that size."""
    picture = _decode(encoded, _REDUCED[reduction])
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)


def decode_gray(encoded: bytes, reduction: int = 1) -> np.ndarray:
    """uint8 [H, W], with sides divided by `reduction` and rounded up: the mean of each block."""
    full = _decode(encoded, cv2.IMREAD_GRAYSCALE)
    if reduction == 1:
        return full
    height, width = full.shape
    padded = cv2.copyMakeBorder(full, 0, -height % reduction, 0, -width % reduction, cv2.BORDER_REPLICATE)
    small = (padded.shape[1] // reduction, padded.shape[0] // reduction)
    return cv2.resize(padded, small, interpolation=cv2.INTER_AREA)


@contextlib.contextmanager
def named(clips: Clips, number: int) -> Iterator[None]:
    """Let an error tell which frame of which clip was being read."""
    try:
        yield
    except InputError:  # it is not the record that is damaged
        raise
    except Exception as error:
        clip = int(np.searchsorted(clips.firsts, number, side="right")) - 1
        frame = number - int(clips.firsts[clip])
        raise InputError(f"frame {frame} of {clips.names[clip]} is damaged: prepare it again ({error})") from error


def _decode(encoded: bytes, flags: int) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise ValueError("its picture cannot be decoded")
    return picture
