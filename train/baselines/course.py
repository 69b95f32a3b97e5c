"""What the recipes of MODNet, BackgroundMattingV2 and U²-Net bring to the training loop."""

import importlib.util
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from data_pipelines.pipelines import datasets, segmentation
from data_pipelines.pipelines.batches import Batches, Slice
from data_pipelines.pipelines.matting import MattingData
from data_pipelines.pipelines.stills import plan
from data_pipelines.records.clips import EMPTY, Clips, open_clips
from data_pipelines.sampling.schedule import ClipShape, PassKind, StageData
from rvm_jax.baselines import files
from rvm_jax.baselines.modnet import MODNet
from rvm_jax.baselines.names import NETWORKS, Baseline, name_of
from rvm_jax.errors import InputError
from rvm_jax.host.paths import Location
from rvm_jax.weights.files import contents_of
from rvm_jax.weights.provenance import Provenance
from train.baselines import steps  # noqa: F401 - how they are trained, registered
from train.device import parallel
from train.recipe.baselines import (
    BackgroundMattingRecipe,
    ModnetRecipe,
    StillRecipe,
    StillStage,
    U2NetRecipe,
)
from train.recipe.options import Options
from train.run import input_pipeline
from train.run.course import Course
from train.run.initial_state import Initial


class StillSources(NamedTuple):
    """The pictures of a stage, what it is validated on, and a digest of each of its datasets by name."""

    samples: MattingData | Clips
    validation: MattingData | Clips
    fingerprints: Mapping[str, str]

    def batches(self, recipe: StillRecipe, kind: PassKind, part: Slice, drawn: Mapping[str, Any]) -> Batches:
        """Those that the network is trained on, at random as `drawn` says."""
        if isinstance(self.samples, Clips):
            return segmentation.batches(self.samples, part, augmentation=segmentation.STILLS, **drawn)
        drawn = {name: value for name, value in drawn.items() if name != "frames"}
        if isinstance(recipe, ModnetRecipe):
            return plan.trimap_batches(self.samples, part, unknown=recipe.unknown, **drawn)
        return plan.plate_batches(self.samples, part, **drawn)

    def epoch(self) -> int:
        """How many samples are seen until each was seen once: every frame, and every background."""
        if isinstance(self.samples, Clips):
            return self.samples.frames
        return self.samples.epoch(1, images=self.samples.of_images)


def prepare(recipe: StillRecipe, options: Options) -> Course:
    """Open the data, and say what is trained on them."""
    if options.remat:
        raise InputError(f"--remat: {recipe.variant} has no such form; give --accumulation N for less memory")
    sources = [_open(recipe, stage, options.data_dir) for stage in recipe.stages]
    stages = [
        StageData(
            iterations=input_pipeline.iterations(stage, recipe.clips, source.epoch),
            batch=recipe.clips,
            low=ClipShape(1, stage.size),
            buckets=recipe.buckets,
            stills=True,
        )
        for stage, source in zip(recipe.stages, sources, strict=True)
    ]
    network = network_of(recipe)
    return Course(
        sources,
        stages,
        network,
        "released weights of this network",
        partial(_read_initial, network),
        partial(_write, network),
    )


def network_of(recipe: StillRecipe) -> Baseline:
    """The network that a recipe trains."""
    shared: dict[str, Any] = {
        "dtype": None if recipe.precision == "float32" else recipe.precision,
        "axis_name": parallel.AXIS,
        "freeze_norms": recipe.freeze_norms,
    }
    if isinstance(recipe, BackgroundMattingRecipe):
        shared["sample_pixels"] = recipe.sample_pixels
    return NETWORKS[recipe.variant].clone(**shared)


def _open(recipe: StillRecipe, stage: StillStage, data_dir: Location) -> StillSources:
    """Whatever is missing is refused before anything starts."""
    if stage.skipped:
        return StillSources(EMPTY, EMPTY, {})
    backgrounds: tuple[str, ...] = getattr(recipe, "backgrounds", ())
    people: datasets.DatasetKind = "segmentation" if isinstance(recipe, U2NetRecipe) else "matting"
    if not stage.data or (people == "matting" and not backgrounds):
        raise InputError("the recipe names no data, or no backgrounds: expected one dataset or more of each")
    fingerprints = {
        **{name: input_pipeline.fingerprint(name, people, data_dir) for name in stage.data},
        **{name: input_pipeline.fingerprint(name, "background", data_dir) for name in backgrounds},
    }
    if people == "matting":
        samples, validation = (
            datasets.open_matting(stage.data, backgrounds, split, data_dir) for split in ("train", "validation")
        )
        return StillSources(samples, validation, fingerprints)
    clips = open_clips(stage.data, "train", data_dir)
    return StillSources(
        clips, open_clips(stage.data, "validation", data_dir, otherwise=("test", "train")), fingerprints
    )


def _read_initial(network: Baseline, init: Location) -> Initial:
    """The weights of the network, or of BackgroundMattingV2 without its refiner; refuses those of another one."""
    with contents_of(init) as contents:
        loaded, variables = files.network_of(contents)
    if name_of(loaded).replace("_base_", "_") != name_of(network):
        raise InputError(f"{init} holds {name_of(loaded)}: give weights of {name_of(network)}, which the recipe trains")
    return Initial(variables, contents.provenance)


def _write(network: Baseline, variables: Mapping[str, Any], folder: Path, told: Provenance | None) -> list[Path]:
    """For JAX, under the names of the released files, and where PyTorch is installed as its users have them."""
    names = ["weights", "weights.safetensors"]
    if importlib.util.find_spec("torch"):
        names.append("weights.ckpt" if isinstance(network, MODNet) else "weights.pth")
    paths = [folder / name for name in names]
    for path in paths:
        files.save(network, dict(variables), path, overwrite=True, provenance=told)
    return paths
