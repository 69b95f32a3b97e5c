"""The state in which a run begins."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.host.paths import Location
from rvm_jax.model.network import MattingNetwork, variant_table
from rvm_jax.weights.files import read_weights
from train.device import step


def initial_state(network: MattingNetwork, seed: int, init: Location | None) -> step.TrainState:
    """Random weights from the seed; in their place those of `init`, an encoder or a whole network."""
    loaded = None if init is None else read_weights(init)
    wanted = variant_table(network.variant)
    if loaded is not None and loaded.variant != wanted:
        raise InputError(
            f"{init} holds a {loaded.variant.name}: give weights of a {wanted.name}, which the recipe trains"
        )
    if loaded is not None and loaded.for_matting_alone:
        raise InputError(
            f"{init} is for matting alone: its head for segmentation is zero, and BatchNorm is folded in, as in .onnx "
            "files; give weights that were trained, such as a released .pth"
        )
    random = jax.device_get(step.init(network, jax.random.key(seed)))
    return random if loaded is None else replaced(random, loaded.variables)


def replaced(random: step.TrainState, loaded: Mapping[str, Any]) -> step.TrainState:
    """A state with what was loaded in the place of random weights."""
    return step.from_variables(
        {
            "params": {**random.params, **_of(random.params, loaded["params"])},
            "batch_stats": {**random.batch_stats, **_of(random.batch_stats, loaded["batch_stats"])},
        }
    )


def _of(groups: Mapping[str, Any], loaded: Mapping[str, Any]) -> dict[str, Any]:
    """What was loaded of these groups, in the type that they are trained in."""
    return {
        group: jax.tree.map(lambda ours, theirs: np.asarray(theirs, ours.dtype), groups[group], tree)
        for group, tree in loaded.items()
        if group in groups
    }
