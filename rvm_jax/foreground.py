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

EPSILON, OMEGA = np.float32(1e-5), np.float32(1)
"""Of the smoothness: everywhere, and where alpha changes."""

SMALL, STEPS_SMALL, STEPS = 32, 10, 3
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
    solution = np.broadcast_to(picture.mean((1, 2), keepdims=True), (2, 3, 1, 1))  # F and B
    for height, width in _sizes(*matte.shape):
        solution = _nearest(solution, height, width)
        _solve(solution, _nearest(picture, height, width), _nearest(matte, height, width))
    return np.ascontiguousarray(np.moveaxis(np.clip(solution[0], 0, 1), 0, -1))


def _sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
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
    height, width = alpha.shape
    across = EPSILON + OMEGA * np.abs(np.diff(alpha, axis=1))  # [H, W - 1]
    down = EPSILON + OMEGA * np.abs(np.diff(alpha, axis=0))  # [H - 1, W]
    total = np.zeros_like(alpha)
    for part, weights in _halves(total, across, down):
        part += weights
    share = 1 / np.maximum(total, EPSILON)  # a single pixel has no neighbours
    gain = 1 / (alpha**2 + (1 - alpha) ** 2 + total)
    parts = np.stack([alpha, 1 - alpha])[:, None]  # [2, 1, H, W]
    steps = STEPS_SMALL if max(height, width) <= SMALL else STEPS
    means = np.empty_like(solution)
    for _ in range(steps if alpha.size > 1 else 0):
        means[:] = 0
        means[..., :, 1:] += across * solution[..., :, :-1]
        means[..., :, :-1] += across * solution[..., :, 1:]
        means[..., 1:, :] += down * solution[..., :-1, :]
        means[..., :-1, :] += down * solution[..., 1:, :]
        means *= share
        rest = (picture - (parts * means).sum(0)) * gain  # [3, H, W]
        np.add(means, parts * rest, out=solution)


def _halves(total: Plane, across: Plane, down: Plane) -> Iterator[tuple[Plane, Plane]]:
    """Each pixel's four neighbours: the pixels that have one, and its weights."""
    yield total[:, 1:], across
    yield total[:, :-1], across
    yield total[1:], down
    yield total[:-1], down
