"""One Adam for each group of modules.

What a pass does not train is left untouched: weights, moments and count of steps.
"""

from collections.abc import Mapping
from typing import Any

import jax
import optax

Params = Mapping[str, Any]
"""Parameters (or their gradients), a tree for each group."""
Moments = Mapping[str, optax.ScaleByAdamState]

GROUPS = ("encoder", "aspp", "decoder", "project_mat", "project_seg", "refiner")

_ADAM = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)


def init(params: Params) -> Moments:
    """The state of all groups before the first step."""
    return {group: _ADAM.init(tree) for group, tree in params.items()}


def update(
    params: Params, moments: Moments, gradients: Params, learning_rates: Mapping[str, jax.typing.ArrayLike]
) -> tuple[Params, Moments]:
    """A step of every group that has gradients, each at its own learning rate."""
    params, moments = dict(params), dict(moments)
    for group, gradient in gradients.items():
        with jax.numpy_dtype_promotion("standard"):  # which optax counts on
            direction, moments[group] = _ADAM.update(gradient, moments[group])
        rate = learning_rates[group]
        params[group] = jax.tree.map(lambda p, d, rate=rate: p - (rate * d).astype(p.dtype), params[group], direction)
    return params, moments
