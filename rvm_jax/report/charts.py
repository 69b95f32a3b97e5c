"""Charts of curves as SVG, inline in a page: pure functions of arrays.

Our own and not matplotlib's: `rvm evaluate` is of the core install, which would get a heavy dependency for one kind of
chart; and an inline SVG takes font and colours from the page, on dark screens too, where matplotlib's has them fixed.

Colours are left to the page: the classes `c0`, `c1`, … of lines, `raw` of what lies behind a smooth one, and `axis`,
`mark` and `text`.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 26, 38
POINTS = 300
"""At most, of a line; of more, those between are shown by their least and greatest."""
FEW = 30
"""A line of fewer points is not smoothed, and its points are marked."""
COLOURS = 6


class Line(NamedTuple):
    """Values y over x, both [n], in order of x; what is not finite is left out."""

    name: str
    x: np.ndarray
    y: np.ndarray


def chart(
    lines: Sequence[Line],
    *,
    unit: str,
    marks: Mapping[int, str],
    log: bool = False,
    smooth: bool = True,
    across: str = "iteration",
) -> str:
    """An SVG of some lines over whole numbers, `across`, with vertical marks at some of them.

    A smoothed line is the mean of a fortieth of its points around each; if it is the only one, the points are shown
    behind it. On a logarithmic scale what is not positive is left out; values that are all of a size get a linear one.
    """
    finite = [Line(name, x[ok], y[ok]) for name, x, y in lines for ok in [np.isfinite(y)]]
    log = log and _spans_decades(finite)
    if log:
        finite = [Line(name, x[y > 0], np.log10(y[y > 0])) for name, x, y in finite]
    smoothing = [smooth and len(x) >= FEW for _, x, _ in finite]
    drawn = [(_smooth if so else thinned)(x, y) for so, (_, x, y) in zip(smoothing, finite, strict=True)]
    behind = [thinned(finite[0].x, finite[0].y)] if smoothing == [True] else []  # of many lines it would be a fog
    x_range = _range([line.x for line in finite])
    y_range = _padded(_range([y for _, y in [*drawn, *behind]]), log)

    def place(x: np.ndarray, y: np.ndarray) -> str:
        across = LEFT + _share(x, x_range) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - _share(y, y_range) * (HEIGHT - TOP - BOTTOM)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))

    parts = [*_y_axis(y_range, log, unit), *_x_axis(x_range, across), *_marks(marks, x_range)]
    parts += [f'<polyline class="raw c0" points="{place(*line)}"/>' for line in behind]
    for number, line in enumerate(drawn):
        colour = f"c{number % COLOURS}"
        parts.append(f'<polyline class="{colour}" points="{place(*line)}"/>')
        if len(line[0]) < FEW:
            points = place(*line).split()
            parts += ['<circle class="{}" cx="{}" cy="{}" r="2.5"/>'.format(colour, *p.split(",")) for p in points]
    names = ", ".join(line.name for line in lines)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(names)}">{"".join(parts)}</svg>'


def thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The line with few points: of every stretch of a long one, the least and the greatest value at its middle."""
    if len(x) <= POINTS:
        return x, y
    edges = np.linspace(0, len(x), POINTS // 2 + 1).astype(int)
    middle = x[(edges[:-1] + edges[1:]) // 2]
    low, high = np.minimum.reduceat(y, edges[:-1]), np.maximum.reduceat(y, edges[:-1])
    return np.repeat(middle, 2), np.stack([low, high], 1).ravel()


def smoothed(y: np.ndarray, window: int) -> np.ndarray:
    """The mean of the values up to half a window away on each side, as far as there are any."""
    sums = np.concatenate([[0.0], np.cumsum(y, dtype=np.float64)])
    at = np.arange(len(y))
    first, end = np.maximum(at - window // 2, 0), np.minimum(at + window // 2 + 1, len(y))
    return (sums[end] - sums[first]) / (end - first)


def ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers between the two."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough * 0.999)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between 10^low and 10^high, as exponents; with their double and fivefold if they are few."""
    tens = range(math.floor(low), math.ceil(high) + 1)
    every = max(1, math.ceil((high - low) / 6))
    fine = (0.0, math.log10(2), math.log10(5)) if high - low < 2.5 else (0.0,)
    return [t + part for t in tens if t % every == 0 for part in fine if low <= t + part <= high]


def label(value: float) -> str:
    """A number in few characters: 0.02, 15k, 2e-05."""
    if value == 0:
        return "0"
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:.4g}{letter}"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _smooth(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at = np.unique(np.linspace(0, len(x) - 1, POINTS).astype(int))
    return x[at], smoothed(y, max(3, len(y) // 40))[at]


def _spans_decades(lines: Sequence[Line]) -> bool:
    positive = [y[y > 0] for _, _, y in lines]
    low, high = _range(positive)
    return any(len(y) for y in positive) and high > 3 * low


def _range(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    values = [float(bound) for array in arrays if len(array) for bound in (array.min(), array.max())]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _padded(bounds: tuple[float, float], log: bool) -> tuple[float, float]:
    """A little more than the values; from 0 if that is not far."""
    low, high = bounds
    if low == high:
        return (0.0, 2 * high or 1.0) if high >= 0 else (2 * low, 0.0)
    more = (high - low) / 20
    if not log and 0 <= low < high / 2:
        return 0.0, high + more
    return low - more, high + more


def _share(values: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    low, high = bounds
    return (np.asarray(values, np.float64) - low) / (high - low) if high > low else np.full(len(values), 0.5)


def _y_axis(bounds: tuple[float, float], log: bool, unit: str) -> list[str]:
    values = np.array(log_ticks(*bounds) if log else ticks(*bounds))
    downs = HEIGHT - BOTTOM - _share(values, bounds) * (HEIGHT - TOP - BOTTOM)
    parts = [f'<text class="text" x="4" y="14">{escape(unit)}</text>']
    for value, down in zip(values, downs, strict=True):
        text = label(10.0**value if log else value)
        parts.append(f'<path class="axis" d="M{LEFT} {down:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="text" x="{LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{text}</text>')
    return parts


def _x_axis(bounds: tuple[float, float], name: str) -> list[str]:
    low, high = bounds
    values = np.array([v for v in ticks(low, high) if v == round(v)] if high > low else [low])
    acrosses = LEFT + _share(values, bounds) * (WIDTH - LEFT - RIGHT)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts = [f'<text class="text" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(name)}</text>']
    for value, across in zip(values, acrosses, strict=True):
        end = "end" if across > WIDTH - RIGHT - 16 else "middle"
        down = HEIGHT - BOTTOM + 16
        parts.append(f'<text class="text" x="{across:.1f}" y="{down}" text-anchor="{end}">{label(value)}</text>')
    return parts


def _marks(marks: Mapping[int, str], bounds: tuple[float, float]) -> list[str]:
    """Dashed lines; the names of those that stand too close are left out, the last one's never."""
    inside = [(at, name) for at, name in sorted(marks.items()) if bounds[0] < at < bounds[1]]
    acrosses = LEFT + _share(np.array([at for at, _ in inside]), bounds) * (WIDTH - LEFT - RIGHT)
    parts = []
    free = float(WIDTH)
    for (_, name), across in reversed(list(zip(inside, acrosses, strict=True))):
        parts.append(f'<path class="mark" d="M{across:.1f} {TOP - 6}V{HEIGHT - BOTTOM}"/>')
        width = 7 * len(name)
        start = min(across, WIDTH - width)
        if start + width <= free:
            parts.append(f'<text class="text" x="{start:.1f}" y="{TOP - 10}">{escape(name)}</text>')
            free = start - 4
    return parts
