"""ORB features: corners of a picture that are found again in another, each with 256 bits that tell it from others.

Corners are Harris's on a pyramid, their angle is that of the intensity centroid, and their bits compare pairs of pixels
turned by it (Rublee et al. 2011). FAST, which saves scalar code some work before Harris, is left out; the pairs are
BRIEF's, Gaussian, not those that were learned.
"""

from typing import NamedTuple

import numpy as np
import scipy  # whose `ndimage` is imported when it is first used
from PIL import Image

LEVELS, SCALE = 4, 1.2
PER_LEVEL = 500
BITS = 256
REACH = 15  # pixels from a corner to the edge of its patch
FAINTEST = 1e-3  # of Harris's measure, of what is a corner in a picture of 0..255

_rng = np.random.Generator(np.random.PCG64(2011))
PAIRS = np.clip(_rng.normal(0, (2 * REACH + 1) / 5, (BITS, 2, 2)), -REACH, REACH)
"""x and y of both pixels of each pair, from the corner."""

_y, _x = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1]
_disc = _x**2 + _y**2 <= REACH**2
DISC = np.stack([_y[_disc], _x[_disc]], -1)
"""The pixels of a round patch, y and x from its corner."""

MARGIN = REACH + 2  # the corners of a square patch, when it is turned, are cut off by the edge repeated


class Features(NamedTuple):
    points: np.ndarray
    """float64 [N, 2], x and y in pixels; the centre of the first pixel is at 0.5."""
    bits: np.ndarray
    """float32 [N, 256] of -1 and 1, so that a product of two counts what they share."""


def features(gray: np.ndarray, hidden: np.ndarray | None = None) -> Features:
    """Of a picture, float32 [H, W] in 0..255, but not where it is `hidden`, bool [H, W]."""
    points, bits = [np.empty((0, 2))], [np.empty((0, BITS), np.float32)]
    height, width = gray.shape
    for level in range(LEVELS):
        size = round(height / SCALE**level), round(width / SCALE**level)
        if min(size) <= 2 * MARGIN:
            break
        picture = np.asarray(Image.fromarray(gray).resize(size[::-1], Image.Resampling.BILINEAR))
        covered = None
        if hidden is not None:
            covered = np.asarray(Image.fromarray(hidden).resize(size[::-1], Image.Resampling.NEAREST))
        rows, columns, exact = _corners(picture, covered)
        smooth = scipy.ndimage.gaussian_filter(picture, 2)
        points.append((exact + 0.5) * (width / size[1], height / size[0]))
        bits.append(_described(smooth, rows, columns))
    return Features(np.concatenate(points), np.concatenate(bits))


def matched(one: Features, other: Features, furthest: int = BITS // 4) -> tuple[np.ndarray, np.ndarray]:
    """Indices into both of the pairs that are each other's nearest in Hamming distance, at most `furthest` bits off."""
    if not (len(one.points) and len(other.points)):
        return np.empty(0, int), np.empty(0, int)
    shared = one.bits @ other.bits.T
    there, back = shared.argmax(1), shared.argmax(0)
    index = np.arange(len(there))
    good = (back[there] == index) & (shared[index, there] >= BITS - 2 * furthest)
    return index[good], there[good]


def _corners(picture: np.ndarray, hidden: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The strongest: rows, columns, and x and y to a part of a pixel."""
    down, across = scipy.ndimage.sobel(picture, 0) / 8, scipy.ndimage.sobel(picture, 1) / 8
    yy, xx, xy = (
        scipy.ndimage.gaussian_filter(product, 1.5) for product in (down * down, across * across, down * across)
    )
    strength = yy * xx - xy * xy - 0.04 * (yy + xx) ** 2
    peak = strength == scipy.ndimage.maximum_filter(strength, 7)
    peak &= strength > FAINTEST
    peak[:MARGIN] = peak[-MARGIN:] = peak[:, :MARGIN] = peak[:, -MARGIN:] = False
    if hidden is not None:
        peak &= ~hidden
    rows, columns = np.nonzero(peak)
    strongest = np.argsort(-strength[rows, columns], kind="stable")[:PER_LEVEL]
    rows, columns = rows[strongest], columns[strongest]
    exact = np.stack([columns + _vertex(strength, rows, columns, 1), rows + _vertex(strength, rows, columns, 0)], -1)
    return rows, columns, exact


def _vertex(strength: np.ndarray, rows: np.ndarray, columns: np.ndarray, axis: int) -> np.ndarray:
    """How far from a peak the parabola through it and its two neighbours is highest."""
    step = (1, 0) if axis == 0 else (0, 1)
    before, after = strength[rows - step[0], columns - step[1]], strength[rows + step[0], columns + step[1]]
    curve = before - 2 * strength[rows, columns] + after
    return np.where(curve < 0, 0.5 * (before - after) / np.minimum(curve, -1e-12), 0)


def _described(smooth: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    height, width = smooth.shape
    patches = smooth[rows[:, None] + DISC[:, 0], columns[:, None] + DISC[:, 1]]  # [N, pixels]
    moments = patches @ DISC.astype(np.float32)  # [N, 2], y and x
    length = np.maximum(np.hypot(moments[:, 0], moments[:, 1]), 1e-6)
    sine, cosine = moments.T / length
    x, y = PAIRS[..., 0], PAIRS[..., 1]
    turned_x = cosine[:, None, None] * x - sine[:, None, None] * y  # [N, 256, 2]
    turned_y = sine[:, None, None] * x + cosine[:, None, None] * y
    i = np.clip(np.rint(turned_y).astype(int) + rows[:, None, None], 0, height - 1)
    j = np.clip(np.rint(turned_x).astype(int) + columns[:, None, None], 0, width - 1)
    values = smooth[i, j]
    return np.where(values[..., 0] < values[..., 1], np.float32(1), np.float32(-1))
