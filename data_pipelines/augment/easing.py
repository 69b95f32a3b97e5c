"""Easing curves: how a movement gets from 0 to 1.

Ten families, each easing in, out, or in and out, after R. Penner's equations; then linear, and a step at one half. Back
and elastic overshoot.
"""

from collections.abc import Callable, Mapping

import numpy as np

Array = np.ndarray
Draws = Mapping[str, np.ndarray]
"""What `sampling.augmentations` drew for one augmentation of a clip: scalars and small vectors."""


def _back(t: Array) -> Array:
    return t * t * (2.70158 * t - 1.70158)


def _bounce(t: Array) -> Array:
    s = 1 - t  # seen backwards, a ball that falls and bounces ever lower
    parts = [
        7.5625 * s**2,
        7.5625 * (s - 1.5 / 2.75) ** 2 + 0.75,
        7.5625 * (s - 2.25 / 2.75) ** 2 + 0.9375,
        7.5625 * (s - 2.625 / 2.75) ** 2 + 0.984375,
    ]
    return 1 - np.select([s < 1 / 2.75, s < 2 / 2.75, s < 2.5 / 2.75], parts[:3], parts[3])


def _circular(t: Array) -> Array:
    return 1 - np.sqrt(1 - t * t)


def _exponential(t: Array) -> Array:
    return np.where(t == 0, 0.0, 2.0 ** (10 * (t - 1)))


def _elastic(t: Array) -> Array:
    return np.sin(6.5 * np.pi * t) * 2.0 ** (10 * (t - 1))


def _sine(t: Array) -> Array:
    return 1 - np.cos(t * np.pi / 2)


FAMILIES: dict[str, Callable[[Array], Array]] = {
    "back": _back,
    "bounce": _bounce,
    "circular": _circular,
    "exponential": _exponential,
    "elastic": _elastic,
    "quadratic": lambda t: t**2,
    "cubic": lambda t: t**3,
    "quartic": lambda t: t**4,
    "quintic": lambda t: t**5,
    "sine": _sine,
}


def _out(curve: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda t: 1 - curve(1 - t)


def _in_out(curve: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda t: np.where(t < 0.5, curve(np.minimum(2 * t, 1)) / 2, 1 - curve(np.minimum(2 - 2 * t, 1)) / 2)


LINEAR = "linear"
CURVES: dict[str, Callable[[Array], Array]] = {
    LINEAR: lambda t: t,
    **{
        f"{family} {name}": eased
        for family, curve in FAMILIES.items()
        for name, eased in (("in", curve), ("out", _out(curve)), ("in-out", _in_out(curve)))
    },
    "step": lambda t: np.where(t < 0.5, 0.0, 1.0),
}
NAMES = tuple(CURVES)


def ease(curve: int, frames: int) -> Array:
    """How far along each of `frames` frames is: float64 [frames], from 0 to 1. `curve` counts in `NAMES`."""
    if frames == 1:
        return np.zeros(1)
    return CURVES[NAMES[curve]](np.linspace(0.0, 1.0, frames))


def along(path: Draws, frames: int) -> np.ndarray:
    """What moves between `path["ends"]` along its curve: float64 [T, ...]."""
    begin, end = np.asarray(path["ends"], np.float64)
    progress = ease(int(path["curve"]), frames)
    return begin + (end - begin) * progress.reshape(frames, *[1] * begin.ndim)
