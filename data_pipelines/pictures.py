"""Decoding the pictures of prepared records while training."""

from io import BytesIO

import cv2
import numpy as np
from PIL import Image

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


def _decode(encoded: bytes, flags: int) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise ValueError("a prepared record holds a picture that cannot be decoded: prepare the dataset again")
    return picture
