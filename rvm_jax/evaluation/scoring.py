"""Scoring of a clip: every metric of every frame, a few frames at a time."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from rvm_jax.evaluation import metrics

METRICS = {
    "mad": "MAD",
    "mse": "MSE",
    "grad": "Grad",
    "conn": "Conn",
    "dtssd": "dtSSD",
    "mad_t": "MAD-T",
    "fgr_mad": "FG MAD",
    "fgr_mse": "FG MSE",
}
"""What is scored, in the order of tables, with the names of the paper, and of newer ones (MAD-T)."""

DEFINITIONS = 2
"""To be raised when the meaning of any score changes, so that what was scored before is scored again."""

Scores = dict[str, list[float]]
"""A figure for each frame, by metric."""


class Frames(NamedTuple):
    """Some frames in 0..1, in their order: what a method says, and the truth."""

    alpha: np.ndarray
    """float32 [T, H, W, 1]."""
    true_alpha: np.ndarray
    foreground: np.ndarray | None
    """float32 [T, H, W, 3]; None if the method, or the truth, tells no colours."""
    true_foreground: np.ndarray | None


def score(parts: Iterable[Frames], pool: ThreadPoolExecutor, *, high_resolution: bool = False) -> Scores:
    """The scores of a clip that comes in parts.

    With `high_resolution` they are those of the published HD figures: gradients of alphas that are not stretched, and
    no connectivity, which is slow.
    """
    scores: Scores = {}
    waiting: list[Future[np.ndarray]] = []
    before: list[np.ndarray] = []
    length = 0
    for part in parts:
        both = [part.alpha, part.true_alpha]
        count = len(part.alpha)
        length = max(length, count)
        if not high_resolution:
            waiting += [pool.submit(metrics.connectivity, *(x[i : i + 1] for x in both)) for i in range(count)]
        whole = [filled(x, length) for x in both]
        before = before or [x[:1] for x in both]
        alphas = [np.concatenate(pair) for pair in zip(before, whole, strict=True)]
        before = [x[-1:] for x in both]
        found = dict(_of_alpha(*alphas, stretch=not high_resolution))
        if part.foreground is not None and part.true_foreground is not None:
            colors = [filled(x, length) for x in (part.foreground, part.true_foreground)]
            found |= _of_colors(*colors, whole[1])
        for name, values in found.items():
            scores.setdefault(name, []).extend(map(float, np.asarray(values)[:count]))
    if waiting:
        scores["conn"] = [float(future.result()[0]) for future in waiting]
    return {name: scores[name] for name in METRICS if name in scores}


def filled(frames: np.ndarray, length: int) -> np.ndarray:
    """The frames, and their last one as often as it takes to have `length` in all: one program serves all parts."""
    return np.concatenate([frames, np.repeat(frames[-1:], length - len(frames), 0)])


@partial(jax.jit, static_argnames="stretch")
def _of_alpha(alpha: Array, true_alpha: Array, *, stretch: bool) -> Mapping[str, Array]:
    """Of all frames but the first, which is only there for how the second differs from it."""
    new = alpha[1:], true_alpha[1:]
    return {
        "mad": metrics.mad(*new),
        "mse": metrics.mse(*new),
        "grad": metrics.gradient(*new, stretch=stretch),
        "dtssd": metrics.dtssd(alpha, true_alpha)[1:],
        "mad_t": metrics.mad_in_band(*new),
    }


@jax.jit
def _of_colors(foreground: Array, true_foreground: Array, true_alpha: Array) -> Mapping[str, Array]:
    return {
        "fgr_mad": metrics.foreground_mad(foreground, true_foreground, true_alpha),
        "fgr_mse": metrics.foreground_mse(foreground, true_foreground, true_alpha),
    }


def means(scores: Mapping[str, Iterable[float]]) -> dict[str, float]:
    """Of a clip, over its frames."""
    return {name: float(np.mean(list(values))) for name, values in scores.items()}
