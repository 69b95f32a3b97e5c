"""Multi-level foreground estimation: the colours of a foreground, from a picture and its alpha.

A picture is I = αF + (1 - α)B. Of all F and B that explain it, those are sought that change least from pixel to pixel,
least of all where α changes (Germer, Uelwer, Conrad and Harmeling, "Fast Multi-Level Foreground Estimation", 2020):

    Σ (αF + (1 - α)B - I)² + Σ over neighbours (ε + ω|α - α'|) ((F - F')² + (B - B')²)

From a picture of a few pixels on, each level begins with the solution of the one before, which has half its size.
Given its neighbours, the best F and B of a pixel have a closed form; all pixels are set at once, a few times.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

EPSILON, OMEGA = np.float32(1e-5), np.float32(0.03)
"""Of the smoothness: everywhere, and where alpha changes. `benchmarks/foreground.py` shows what others give."""

SMALL, STEPS_SMALL, STEPS = 32, 10, 6
"""How often the pixels of a level are set: those of sides up to `SMALL`, and of larger ones."""

Plane = NDArray[np.float32]


def estimate_foreground(image: Plane, alpha: Plane) -> Plane:
    """The foreground of a picture: float32 `[H, W, 3]` in 0..1, sensible also where alpha is 0.

    Args:
        image: float32 `[H, W, 3]` in 0..1.
        alpha: float32 `[H, W, 1]` in 0..1.
    """
    picture = np.ascontiguousarray(np.moveaxis(image.astype(np.float32, copy=False), -1, 0))
    matte = np.ascontiguousarray(alpha[..., 0].astype(np.float32, copy=False))
    solution = _mean_colors(picture, matte)
    for height, width in _level_sizes(*matte.shape):
        solution = _nearest(solution, height, width)
        _solve(solution, _nearest(picture, height, width), _nearest(matte, height, width))
    return np.ascontiguousarray(np.moveaxis(np.clip(solution[0], 0, 1), 0, -1))


def _mean_colors(picture: Plane, alpha: Plane) -> Plane:
    """Of F and B, each weighted by what is seen of it: `[2, 3, 1, 1]`. Of what is not seen at all, the picture's."""
    parts = np.stack([alpha, 1 - alpha])[:, None]  # [2, 1, H, W]
    seen = parts.mean((2, 3), keepdims=True)
    means = (parts * picture).mean((2, 3), keepdims=True) / np.maximum(seen, EPSILON)
    return np.where(seen > EPSILON, means, picture.mean((1, 2), keepdims=True))


def _level_sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Of the levels, from a row or a column of one pixel on."""
    for halvings in range(max(height, width).bit_length() - 1, -1, -1):
        yield -(-height >> halvings), -(-width >> halvings)


def _nearest(planes: Plane, height: int, width: int) -> Plane:
    """A copy in another size, by nearest neighbours: `[..., H, W]`."""
    rows, columns = (
        (2 * np.arange(size) + 1) * given // (2 * size)
        for size, given in zip((height, width), planes.shape[-2:], strict=True)
    )
    return planes[..., rows[:, None], columns]


def _solve(solution: Plane, picture: Plane, alpha: Plane) -> None:
    """Set F and B of every pixel to what suits its neighbours best, several times: `[2, 3, H, W]`, in place.

    With f and b the weighted means of the neighbours, and s the sum of their weights, this is
    F = f + αr and B = b + (1 - α)r, where r = (I - αf - (1 - α)b) / (α² + (1 - α)² + s).
    """
    if alpha.size == 1:  # it has no neighbours, and is the mean of the picture already
        return
    across = EPSILON + OMEGA * np.abs(np.diff(alpha, axis=1))  # [H, W - 1]
    down = EPSILON + OMEGA * np.abs(np.diff(alpha, axis=0))  # [H - 1, W]
    neighbours = (  # which pixels have one, where it is, and its weight
        (np.s_[..., 1:], np.s_[..., :-1], across),
        (np.s_[..., :-1], np.s_[..., 1:], across),
        (np.s_[..., 1:, :], np.s_[..., :-1, :], down),
        (np.s_[..., :-1, :], np.s_[..., 1:, :], down),
    )
    total = np.zeros_like(alpha)
    for those, _, weights in neighbours:
        total[those] += weights
    gain = 1 / (alpha**2 + (1 - alpha) ** 2 + total)
    parts = np.stack([alpha, 1 - alpha])  # [2, H, W]
    means, products = np.empty_like(parts), np.empty_like(parts)
    for channel, colors in enumerate(picture):  # one after the other: they stay in the cache
        pair = solution[:, channel]  # [2, H, W]
        for _ in range(STEPS_SMALL if max(alpha.shape) <= SMALL else STEPS):
            means[:] = 0
            for those, others, weights in neighbours:
                means[those] += np.multiply(weights, pair[others], out=products[those])
            means /= total
            np.multiply(parts, means, out=products)
            rest = (colors - products[0] - products[1]) * gain
            np.add(means, np.multiply(parts, rest, out=products), out=pair)
