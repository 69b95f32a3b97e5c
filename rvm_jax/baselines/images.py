"""From 8-bit pictures to what MODNet and U²-Net take, and from their maps back, as their own scripts do it.

BackgroundMattingV2 takes bytes over 255 and has nothing of this kind. All of it runs on the host, in float32 or more.
"""

import math

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from rvm_jax.baselines.modnet import MULTIPLE
from rvm_jax.errors import InputError

MODNET_SIDE, U2NET_SIDE = 512, 320
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def modnet_size(height: int, width: int) -> tuple[int, int]:
    """The size at which MODNet's image script runs a picture: small and large ones with a short side of 512."""
    short, long = sorted((height, width))
    if long < MODNET_SIDE or short > MODNET_SIDE:
        scaled = int(long / short * MODNET_SIDE)
        height, width = (MODNET_SIDE, scaled) if height <= width else (scaled, MODNET_SIDE)
    height, width = (side - side % MULTIPLE for side in (height, width))
    if not height or not width:
        raise InputError(
            f"a picture whose short side has {short} pixels: MODNet needs {MULTIPLE}, or no side above 512"
        )
    return height, width


def modnet_input(picture: np.ndarray) -> np.ndarray:
    """RGB bytes `[H, W, 3]` → `[1, h, w, 3]` in -1..1, of `modnet_size`."""
    normalised = (picture.astype(np.float64) / 255 - 0.5) / 0.5
    return area_resize(normalised, modnet_size(*picture.shape[:2])).astype(np.float32)[None]


def area_resize(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mean over the cell of each output pixel, rounded outwards to whole pixels: `[h, w, C]` → `[*size, C]`.

    To enlarge, it repeats pixels and averages pairs; so MODNet's matte comes back to the size of the picture.
    """
    rows, columns = (_cells(before, after) for before, after in zip(x.shape[:2], size, strict=True))
    return np.einsum("ih,hwc,jw->ijc", rows, x, columns, optimize=True)


def _cells(before: int, after: int) -> np.ndarray:
    """What each of `before` pixels weighs in each of `after`: `[after, before]`."""
    matrix = np.zeros((after, before))
    for i in range(after):
        cell = slice(i * before // after, -(-(i + 1) * before // after))
        matrix[i, cell] = 1 / (cell.stop - cell.start)
    return matrix


def u2net_input(picture: np.ndarray) -> np.ndarray:
    """RGB bytes `[H, W, 3]` → `[1, 320, 320, 3]`: resized without its ratio, over its own maximum, normalised."""
    x = picture.astype(np.float64) / 255
    for axis in (0, 1):
        deviation = (x.shape[axis] / U2NET_SIDE - 1) / 2
        if deviation > 0:  # where it shrinks
            x = gaussian_filter1d(x, deviation, axis, mode="constant")
    for axis in (0, 1):
        x = np.moveaxis(np.tensordot(_interpolation(x.shape[axis]), x, (1, axis)), 0, axis)
    maximum = x.max()
    x = x / maximum if maximum > 0 else x
    return ((x - np.array(MEAN)) / np.array(STD)).astype(np.float32)[None]


def u2net_mask(alpha: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map `[1, h, w, 1]`, stretched from its minimum to its maximum, as bytes `[*size]`; a constant one is black."""
    x = np.asarray(alpha)[0, ..., 0]
    low, high = x.min(), x.max()
    stretched = (x - low) / (high - low) if high > low else np.zeros_like(x)
    picture = Image.fromarray((stretched * 255).astype(np.uint8))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))


def _interpolation(before: int) -> np.ndarray:
    """Linear, half-pixel, with zeros outside: `[320, before]`. Enlarging, the border darkens."""
    matrix = np.zeros((U2NET_SIDE, before))
    for i in range(U2NET_SIDE):
        position = (i + 0.5) * before / U2NET_SIDE - 0.5
        low = math.floor(position)
        for pixel, weight in ((low, low + 1 - position), (low + 1, position - low)):
            if 0 <= pixel < before:
                matrix[i, pixel] += weight
    return matrix
