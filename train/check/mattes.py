"""What pixels tell of a matte: whether its alpha went through a tone curve, and whether its foreground is one.

Edges alone do not tell the gamma of an alpha: a blurred edge with a gamma is a blurred edge. But a curve that was
applied to 8 bits leaves out every other level where it is steep.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

CLEAR, SOLID = 2, 253
"""The alphas up to which a pixel is nothing, and from which it is the person."""
VIDEO = 16, 235
"""Black and white as videos have them."""
LONGEST = 6
"""Pixels of the widest edge that is looked at: what is wider may be hair, where colours change by themselves."""
CONTRAST = 40
"""How far the colours on both sides have to be apart to be told from each other, of 255."""
NEAR, EXPECTED = 8, 5
"""Levels of alpha whose mean says how often one is expected, and how often it has to be to count as missing."""


class Edges(NamedTuple):
    """The pixels between a person and nothing, where alpha falls from 1 to 0 along a row or a column.

    Attributes:
        alpha: In 0..1, an entry each.
        person: How much of the way the colour is from that outside to that of the person: 1 in a foreground. Also where
            these are too alike to tell.
        hard: How many edges have no pixel in between.
        soft: How many have.
    """

    alpha: np.ndarray
    person: np.ndarray
    hard: int
    soft: int

    @property
    def left(self) -> float:
        """How much of the background was left in the foreground: 0 if nothing, 1 if all of it, as in a picture."""
        clear = 1 - self.alpha
        return float(np.sum((1 - self.person) * clear)) / max(float(np.sum(clear**2)), 1e-6)


def join(parts: Sequence[Edges]) -> Edges:
    """The edges of all."""
    alpha, person = (np.concatenate([np.zeros(0), *(part[i] for part in parts)]) for i in (0, 1))
    return Edges(alpha, person, sum(part.hard for part in parts), sum(part.soft for part in parts))


def edges(foreground: np.ndarray, alpha: np.ndarray) -> Edges:
    """Those of a matte, uint8 [H, W, 3] and [H, W], in all four directions."""
    return join([one for turn in range(4) for one in _falling(np.rot90(foreground, turn), np.rot90(alpha, turn))])


def in_video_range(levels: np.ndarray) -> bool:
    """Whether alphas, of which `levels` [256] counts each, go from 16 to 235 and not from 0 to 255."""
    black, white = VIDEO
    inside = levels[black - 4 : white + 5].sum()
    return bool(levels[black - 4 : black + 5].sum() + levels[white - 4 : white + 5].sum() > levels.sum() / 2) and bool(
        inside > 0.99 * levels.sum()
    )


def missing_levels(levels: np.ndarray) -> tuple[float, float]:
    """Which share of the levels do not occur that should: of the darker third, and of the brighter one."""
    seen = np.asarray(levels[1:-1], np.float64)
    expected = np.convolve(np.pad(seen, NEAR, mode="edge"), np.full(2 * NEAR + 1, 1 / (2 * NEAR + 1)), "valid")
    told, missing = expected >= EXPECTED, seen < expected / 20
    third = len(seen) // 3
    dark, bright = (
        int(np.sum(missing[part] & told[part])) / max(int(np.sum(told[part])), third // 2)
        for part in (slice(None, third), slice(-third, None))
    )
    return dark, bright


def _falling(foreground: np.ndarray, alpha: np.ndarray) -> Iterator[Edges]:
    """The edges at which alpha falls from left to right, by their width."""
    hard = np.sum((alpha[:, :-1] >= SOLID) & (alpha[:, 1:] <= CLEAR))
    yield Edges(np.zeros(0), np.zeros(0), int(hard), 0)
    for width in range(1, min(LONGEST, alpha.shape[1] - 2) + 1):
        steps = [alpha[:, i : alpha.shape[1] - width - 1 + i] for i in range(width + 2)]
        falls = (steps[0] >= SOLID) & (steps[-1] <= CLEAR)
        for before, after in itertools.pairwise(steps):
            falls &= before > after
        for step in steps[1:-1]:
            falls &= (step > CLEAR) & (step < SOLID)
        row, column = np.nonzero(falls)
        inside, outside = (foreground[row, column + i].astype(np.float32) for i in (0, width + 1))
        way = inside - outside
        length = np.sum(way**2, -1)
        for i in range(1, width + 1):
            share = np.sum((foreground[row, column + i] - outside) * way, -1) / np.maximum(length, CONTRAST**2)
            person = np.where(length >= CONTRAST**2, np.clip(share, -0.5, 1.5), 1)
            yield Edges(alpha[row, column + i] / 255, person, 0, len(row) if i == 1 else 0)
