"""A step of the optimizer for each group of modules: Adam, AdamW or LAMB, as optax has them, or SGD.

What a pass does not train is left untouched: weights, moments and count of steps.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from train.device.joined import as_before, split
from train.recipe.training import Optimizer, Training

Params = Mapping[str, Any]
"""Parameters (or their gradients), a tree for each group."""
Moments = Mapping[str, optax.ScaleByAdamState]
"""All optimizers have the same; SGD has its momentum in `mu`."""

GROUPS = ("encoder", "aspp", "decoder", "project_mat", "project_seg", "refiner")
EPSILON = {"adam": 1e-8, "adamw": 1e-8, "lamb": 1e-6}
MOMENTUM = 0.9


class Update(NamedTuple):
    """What becomes of gradients and weights; see `Recipe`."""

    optimizer: Optimizer = "adam"
    weight_decay: float = 0.0
    clip_norm: float | None = None
    ema: float | None = None


class Average(NamedTuple):
    """The exponential moving average of weights and running statistics after so many `steps`."""

    steps: jax.Array
    params: Params
    batch_stats: Mapping[str, Any]


ADAM = Update()


def of_recipe(recipe: Training) -> Update:
    """What a recipe asks for."""
    return Update(recipe.optimizer, recipe.weight_decay, recipe.clip_norm, recipe.ema)


def init(params: Params) -> Moments:
    """The state of all groups before the first step."""
    return {group: _adam(ADAM).init(tree) for group, tree in params.items()}


def update(
    params: Params,
    moments: Moments,
    gradients: Params,
    learning_rates: Mapping[str, jax.typing.ArrayLike],
    how: Update = ADAM,
) -> tuple[Params, Moments]:
    """A step of every group that has gradients, each at its own learning rate."""
    params, moments = dict(params), dict(moments)
    for group, gradient in gradients.items():
        with jax.numpy_dtype_promotion("standard"):  # which optax counts on
            if how.optimizer == "sgd":
                direction, moments[group] = _with_momentum(gradient, moments[group])
            else:
                direction, moments[group] = _adam(how).update(gradient, moments[group])
            direction = _decayed_and_adapted(direction, params[group], how)
        rate = learning_rates[group]
        params[group] = jax.tree.map(lambda p, d, rate=rate: p - (rate * d).astype(p.dtype), params[group], direction)
    return params, moments


def clip(gradients: Params, most: float) -> tuple[Params, jax.Array]:
    """Gradients of at most this norm, of all groups together, and the norm that they had."""
    with jax.numpy_dtype_promotion("standard"):
        clipped, _ = optax.clip_by_global_norm(most).update(gradients, optax.EmptyState())
    return clipped, optax.tree.norm(gradients)


def begin_average(params: Params, batch_stats: Mapping[str, Any]) -> Average:
    """The average before the first step."""
    return Average(jnp.zeros((), jnp.int32), params, batch_stats)


def update_average(average: Average, params: Params, batch_stats: Mapping[str, Any], decay: float) -> Average:
    """The average with these weights as well, without a bias to those that it began with (`optax.ema`).

    In this form, what does not change is exactly its own average.
    """
    steps = average.steps + 1
    # (1 - decay) / (1 - decay**steps), which is 1 at first
    share = (decay - 1) / jnp.expm1(steps.astype(float) * math.log(decay))

    def closer(mean: jax.Array, new: jax.Array) -> jax.Array:
        return mean + share.astype(mean.dtype) * (new - mean)

    return Average(steps, *jax.tree.map(closer, (average.params, average.batch_stats), (params, batch_stats)))


def _with_momentum(gradient: Any, moment: optax.ScaleByAdamState) -> tuple[Any, optax.ScaleByAdamState]:
    """The gradients of all steps, each by 0.9 less than the one after it."""
    total = jax.tree.map(lambda g, m: g + MOMENTUM * m, gradient, moment.mu)
    return total, moment._replace(count=moment.count + 1, mu=total)


def _adam(how: Update) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=0.9, b2=0.999, eps=EPSILON[how.optimizer])


def _decayed_and_adapted(direction: Any, params: Any, how: Update) -> Any:
    """What AdamW and LAMB make of Adam's direction for kernels; biases and norms keep it."""
    chain = []
    if how.weight_decay:
        chain.append(optax.add_decayed_weights(how.weight_decay))
    if how.optimizer == "lamb":
        chain.append(optax.scale_by_trust_ratio())
    if not chain:
        return direction
    rule = optax.masked(optax.chain(*chain), _kernels)
    tree = split(params)
    return as_before(rule.update(split(direction), rule.init(tree), tree)[0], params)


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)
