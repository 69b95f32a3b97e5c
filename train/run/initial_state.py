"""The state in which a run begins: random weights, and in their place those that `--init` names."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.host.paths import Location
from rvm_jax.model.network import MattingNetwork, variant_table
from rvm_jax.weights.files import read_weights
from rvm_jax.weights.provenance import Provenance
from train.device import step


class Initial(NamedTuple):
    """The weights that a run begins with.

    Attributes:
        variables: Of an encoder, or of a whole network.
        provenance: What they tell of their training; None if nothing.
    """

    variables: Mapping[str, Any]
    provenance: Provenance | None


def read_initial(network: MattingNetwork, init: Location) -> Initial:
    """The weights of an encoder or of a whole network; refuses those of another one, and what was folded."""
    loaded, wanted = read_weights(init), variant_table(network.variant)
    if loaded.variant != wanted:
        raise InputError(
            f"{init} holds a {loaded.variant.name}: give weights of a {wanted.name}, which the recipe trains"
        )
    if loaded.for_matting_alone:
        raise InputError(
            f"{init} is for matting alone: its head for segmentation is zero, and BatchNorm is folded in, as in .onnx "
            "files; give weights that were trained, such as a released .pth"
        )
    return Initial(loaded.variables, loaded.provenance)


def initial_state(network: Any, seed: int, initial: Initial | None = None) -> step.TrainState:
    """Random weights from the seed, of any network that `train.device.step` knows; in their place the given ones."""
    random = jax.device_get(step.init(network, jax.random.key(seed)))
    if initial is None:
        return random
    loaded = initial.variables
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
