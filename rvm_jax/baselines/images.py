"""From frames in 0..1 to what MODNet and U²-Net take, and from their maps back: as their own scripts do it, or cleanly.

BackgroundMattingV2 takes frames as they are. Resizing along an axis is a product with a sparse matrix
`[after, before]`, which is worked out in float64 when a program is made.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rvm_jax.baselines.layers import resize
from rvm_jax.baselines.modnet import MULTIPLE
from rvm_jax.errors import InputError
from rvm_jax.model.variants import MobileNetV3

MODNET_SIDE, U2NET_SIDE = 512, 320
MEAN, STD = MobileNetV3.mean, MobileNetV3.std  # ImageNet's

PIL_ONE = 1 << 22  # the weight 1 of PIL, for bytes

Size = tuple[int, int]
Matrix = Callable[[int, int], np.ndarray]  # of the sizes before and after


def modnet_size(height: int, width: int, *, video: bool = False) -> Size:
    """The size at which MODNet's scripts run a picture, or a frame of a video."""
    given = height, width
    if modnet_scale(height, width, video=video) != 1:
        long = int(max(height, width) / min(height, width) * MODNET_SIDE)
        height, width = (MODNET_SIDE, long) if height <= width else (long, MODNET_SIDE)
    height, width = (side - side % MULTIPLE for side in (height, width))
    if not height or not width:
        raise InputError(
            f"a picture whose short side has {min(given)} pixels: MODNet needs {MULTIPLE}, or no side above 512, or "
            "pad=True"
        )
    return height, width


def modnet_scale(height: int, width: int, *, video: bool = False) -> float:
    """What MODNet's scripts multiply the sides by, before they make them multiples of 32.

    The short side of small and large pictures becomes 512, and that of every video.
    """
    short, long = sorted((height, width))
    return MODNET_SIDE / short if video or long < MODNET_SIDE or short > MODNET_SIDE else 1


def modnet_input(frames: Array, size: Size, *, video: bool = False, antialias: bool = False) -> Array:
    """Frames `[N, H, W, 3]` in 0..1 → `[N, *size, 3]` in -1..1."""
    return modnet_resize((frames - 0.5) / 0.5, size, video=video, antialias=antialias)


def modnet_resize(x: Array, size: Size, *, video: bool = False, antialias: bool = False) -> Array:
    """As MODNet's scripts resize frames, and mattes back: pictures by areas, those of videos bilinearly."""
    if antialias:
        return resample(x, size, triangle_matrix)
    return resize(x, size) if video else resample(x, size, area_matrix)


def u2net_input(frames: Array, *, antialias: bool = False) -> Array:
    """Frames `[N, H, W, 3]` in 0..1 → `[N, 320, 320, 3]`: each divided by its own maximum, and normalised."""
    return u2net_normalised(
        resample(frames, (U2NET_SIDE, U2NET_SIDE), triangle_matrix if antialias else gaussian_matrix)
    )


def u2net_normalised(x: Array) -> Array:
    """Pictures `[N, h, w, 3]`, each divided by its own maximum, and then as ImageNet's are."""
    maximum = x.max((1, 2, 3), keepdims=True)
    x = x / jnp.where(maximum > 0, maximum, 1)
    return (x - jnp.array([[[MEAN]]], x.dtype)) / jnp.array([[[STD]]], x.dtype)


def u2net_mask(alpha: Array, size: Size, *, antialias: bool = False) -> Array:
    """Maps `[N, h, w, 1]`, each stretched from its minimum to its maximum, as `[N, *size, 1]`; constant ones are black.

    All values are those of bytes, as in the pictures that the script writes, unless it is `antialias`.
    """
    low, high = alpha.min((1, 2, 3), keepdims=True), alpha.max((1, 2, 3), keepdims=True)
    stretched = (alpha - low) / jnp.where(high > low, high - low, 1)
    if antialias:
        return resample(stretched, size, triangle_matrix)
    # PIL computes with whole numbers, a row's pixels first, and rounds to bytes in between.
    x = jnp.floor(stretched * 255).astype(jnp.int32)
    for axis in (2, 1):
        if x.shape[axis] != size[axis - 1]:
            x = (_resample_axis(x, axis, size[axis - 1], _pil_matrix) + PIL_ONE // 2) // PIL_ONE
    return x.astype(alpha.dtype) / 255


def resample(x: Array, size: Size, matrix: Matrix) -> Array:
    """`[N, h, w, C]` → `[N, *size, C]`, by the matrices of both axes."""
    for axis in (1, 2):
        x = _resample_axis(x, axis, size[axis - 1], matrix)
    return x


def _resample_axis(x: Array, axis: int, after: int, matrix: Matrix) -> Array:
    """The product with a matrix whose rows are zero but for a few neighbours."""
    before = x.shape[axis]
    if before == after:
        return x
    weights = matrix(before, after)
    first = (weights != 0).argmax(1)
    last = before - (weights[:, ::-1] != 0).argmax(1)
    x = lax.optimization_barrier(x)  # else XLA's CPU back end would compute what made it anew for every neighbour
    products = []
    for offset in range((last - first).max()):
        neighbour = np.minimum(first + offset, before - 1)
        weight = np.where(first + offset < last, weights[np.arange(after), neighbour], 0)
        others = [other for other in range(x.ndim) if other != axis]
        products.append(x.take(neighbour, axis) * jnp.asarray(np.expand_dims(weight, others), x.dtype))
    return sum(products[1:], products[0])


def area_matrix(before: int, after: int) -> np.ndarray:
    """Mean over the cell of each output pixel, rounded outwards to whole pixels.

    To enlarge, it repeats pixels and averages pairs.
    """
    matrix = np.zeros((after, before))
    for i in range(after):
        cell = slice(i * before // after, -(-(i + 1) * before // after))
        matrix[i, cell] = 1 / (cell.stop - cell.start)
    return matrix


def triangle_matrix(before: int, after: int) -> np.ndarray:
    """Bilinear as PIL does it: antialiased where it shrinks, the weights of what is outside given to the rest."""
    scale = before / after
    centres = (np.arange(after)[:, None] + 0.5) * scale
    distances = np.abs(np.arange(before) + 0.5 - centres) / max(scale, 1)
    weights = np.maximum(1 - distances, 0)
    return weights / weights.sum(1, keepdims=True)


def _pil_matrix(before: int, after: int) -> np.ndarray:
    return np.round(triangle_matrix(before, after) * PIL_ONE)


def gaussian_matrix(before: int, after: int) -> np.ndarray:
    """As scikit-image does it: a Gaussian where it shrinks, then linear, half-pixel, all with zeros outside."""
    deviation = (before / after - 1) / 2
    linear = np.zeros((after, before))
    for i in range(after):
        position = (i + 0.5) * before / after - 0.5
        low = math.floor(position)
        for pixel, weight in ((low, low + 1 - position), (low + 1, position - low)):
            if 0 <= pixel < before:
                linear[i, pixel] += weight
    if deviation <= 0:
        return linear
    radius = int(4 * deviation + 0.5)
    offsets = np.arange(before)[:, None] - np.arange(before)
    gaussian = np.where(np.abs(offsets) <= radius, np.exp(-0.5 * (offsets / deviation) ** 2), 0)
    return linear @ (gaussian / np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2).sum())
