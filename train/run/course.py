"""What a recipe brings to the training loop: its data, its network, and what that begins and ends with.

The loop knows nothing else of networks. RVM's course is here, those of other networks are in `train.baselines`.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_pipelines.sampling.schedule import StageData
from rvm_jax.host.paths import Location
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS
from rvm_jax.weights.files import Weights, write_weights
from rvm_jax.weights.provenance import Provenance
from train.device import parallel
from train.recipe.options import Options
from train.recipe.recipe import Recipe
from train.run import input_pipeline
from train.run.initial_state import Initial, read_initial


@dataclass(frozen=True)
class Course:
    """What a recipe brings.

    Attributes:
        sources: The data of every stage.
        stages: What every stage asks of them.
        network: What is trained, for which `train.device.step` and `evaluation` have methods.
        starts: The weights that it may start from, for a person.
        read_initial: Reads the weights that `--init` names.
        write: Writes variables into the run's folder, with what they tell of their training, and gives the paths.
    """

    sources: Sequence[input_pipeline.AnySources]
    stages: Sequence[StageData]
    network: Any
    starts: str
    read_initial: Callable[[Location], Initial]
    write: Callable[[Mapping[str, Any], Path, Provenance | None], list[Path]]


def matting(recipe: Recipe, options: Options) -> Course:
    """RVM's."""
    sources = input_pipeline.open_sources(recipe, options.data_dir)
    network = MattingNetwork(
        recipe.variant,
        recipe.refiner,
        dtype=None if recipe.precision == "float32" else recipe.precision,
        axis_name=parallel.AXIS,
        remat=options.remat,
        freeze_norms=recipe.freeze_norms,
    )
    return Course(
        sources,
        input_pipeline.stage_data(recipe, sources),
        network,
        "ImageNet's, which `rvm convert` makes of torchvision's",
        partial(read_initial, network),
        partial(_write, recipe),
    )


def _write(recipe: Recipe, variables: Mapping[str, Any], folder: Path, told: Provenance | None) -> list[Path]:
    final = Weights(VARIANTS[recipe.variant], recipe.refiner, dict(variables), told)
    names = ["weights", "weights.pth"] if importlib.util.find_spec("torch") else ["weights"]
    paths = [folder / name for name in names]
    for path in paths:
        write_weights(final, path, overwrite=True)
    return paths
