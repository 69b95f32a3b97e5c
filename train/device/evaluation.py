"""Validation: how far the mattes of a fixed set of clips are from the truth, found on all devices."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, singledispatch
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rvm_jax.evaluation import metrics
from rvm_jax.model.network import MattingNetwork
from train.device import parallel, step
from train.device.joined import split

LONGEST_SIDE = 320
"""Of the pictures that are shown of a validation, about."""
SHOWN = 6
"""How many clips are shown of a validation."""


Pictures = jax.Array | np.ndarray


class ValidationClip(NamedTuple):
    """A clip, its truth and what the network made of it: uint8 [T, h, w, 3 or 1], every few pixels one."""

    source: Pictures
    alpha: Pictures
    predicted_foreground: Pictures
    predicted_alpha: Pictures


class Prediction(NamedTuple):
    """What a network saw, the truth, and what it made of it: [b, T, h, w, 3 or 1] in 0..1.

    Of a network that gives no foreground, what it saw stands for that, as it does for people who use it.
    """

    source: jax.Array
    foreground: jax.Array
    alpha: jax.Array
    predicted_foreground: jax.Array
    predicted_alpha: jax.Array


Evaluate = Callable[..., tuple[Mapping[str, jax.Array], jax.Array, ValidationClip]]


@singledispatch
def predict(
    network: nn.Module, variables: Mapping[str, Any], batch: step.DeviceBatch, downsample_ratio: float
) -> Prediction:
    """What the network makes of a batch of validation clips."""
    raise TypeError(f"nothing says how a {type(network).__name__} is validated")


@predict.register
def _(
    network: MattingNetwork, variables: Mapping[str, Any], batch: step.DeviceBatch, downsample_ratio: float
) -> Prediction:
    source, foreground, alpha = step.composite(batch)
    result: Any = network.apply(variables, source, None, downsample_ratio)
    return Prediction(source, foreground, alpha, result.foreground, result.alpha)


@cache
def program(network: Any, downsample_ratio: float) -> Evaluate:
    """The function of all devices that `validate` calls, compiled once for each shape of clips in a process."""

    def evaluate(
        params: Any, batch_stats: Any, batch: step.DeviceBatch, real: jax.Array
    ) -> tuple[Mapping[str, jax.Array], jax.Array, ValidationClip]:
        """Sums over the clips [b, T, h, w, C] that are `real` [b], how many they are, and pictures of all of them."""
        variables = split({"params": params, "batch_stats": batch_stats})
        source, foreground, alpha, predicted_foreground, predicted_alpha = predict(
            network, variables, batch, downsample_ratio
        )
        of_frames = {
            "mad": metrics.mad(predicted_alpha, alpha),
            "mse": metrics.mse(predicted_alpha, alpha),
            "dtssd": metrics.dtssd(predicted_alpha, alpha),
            "foreground_mad": metrics.foreground_mad(predicted_foreground, foreground, alpha),
            "foreground_mse": metrics.foreground_mse(predicted_foreground, foreground, alpha),
        }
        sums = {name: jnp.sum(values.mean(1) * real) for name, values in of_frames.items()}
        stride = max(1, max(source.shape[2:4]) // LONGEST_SIDE)
        shown = ValidationClip(source, alpha, predicted_foreground, predicted_alpha)
        small = jax.tree.map(lambda x: jnp.round(255 * x[:, :, ::stride, ::stride]).astype(jnp.uint8), shown)
        return jax.lax.psum(sums, parallel.AXIS), jax.lax.psum(real.sum(), parallel.AXIS), small

    return parallel.pmap(evaluate, (0, 0, 0, 0))


def validate(
    evaluate: Evaluate,
    state: step.TrainState,
    batches: Iterable[tuple[Mapping[str, np.ndarray], np.ndarray]],
    stops: Callable[[], int | None] = lambda: None,
) -> tuple[dict[str, float], list[ValidationClip]] | None:
    """The mean of every metric over the real clips of all batches, and pictures of the first that this host has.

    Each batch comes with which of its clips are real: float32 [b] of 1 and 0. The others only fill it up. Gives None
    as soon as `stops`, which is asked before each batch, gives a signal.
    """
    totals: dict[str, float] = {}
    clips = 0.0
    shown: list[ValidationClip] = []
    for batch, real in batches:
        if stops():
            return None
        weights = parallel.shard({"real": real})["real"]
        sums, count, pictures = evaluate(*state.variables.values(), parallel.shard(batch), weights)
        for name, value in parallel.read_back(sums).items():
            totals[name] = totals.get(name, 0.0) + float(value)
        clips += float(parallel.read_back(count))
        pictures = parallel.gather(pictures)
        shown += [jax.tree.map(lambda x, i=i: x[i], pictures) for i in np.flatnonzero(real)[: SHOWN - len(shown)]]
    return {name: total / clips for name, total in totals.items()}, shown
