"""How long the programs of a stage take to compile: one at a time, and several at a time, in one run.

    python benchmarks/compile.py [--recipe mobilenetv3] [--stage 1] [--programs 6] [--at-once 8] [--json results.json]

The programs are those that `rvm train` compiles before the stage begins, if each device has the recipe's batch.
`--programs N` takes N of them, evenly from the largest to the smallest; 0 takes all. There is no compilation cache.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

# Python puts the folder of a script first, whose `train.py` is not the package `train`.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import jax
import numpy as np

from data_pipelines.sampling.schedule import ClipShape, StageData
from rvm_jax.model.network import MattingNetwork
from train.device import parallel, programs, step
from train.recipe.published import RECIPES
from train.recipe.recipe import Recipe
from train.run.program_keys import needed_keys

ENOUGH = 10_000
"""Iterations of a stage in which each of its programs is needed."""


def stages(recipe: Recipe) -> list[StageData]:
    """What the recipe's stages ask of the data, whatever that is."""
    return [
        StageData(
            iterations=ENOUGH,
            batch=recipe.clips * jax.device_count(),
            low=ClipShape(stage.frames, stage.size),
            high=ClipShape(stage.high_frames, stage.high_size) if stage.high_frames else None,
            segmentation_size=recipe.segmentation_size,
            buckets=recipe.buckets,
        )
        for stage in recipe.stages
    ]


def seconds(network: MattingNetwork, keys: list[programs.Key], at_once: int) -> tuple[float, programs.Programs]:
    """How long it takes to compile these programs, and the programs."""
    jax.clear_caches()
    programs._COMPILED.clear()  # on CPUs, a process has room for some 14 of them
    programs._COMPILED.clear()
    programs.AT_ONCE = at_once
    shapes = jax.eval_shape(lambda key: step.joined(step.init(network, key)), jax.random.key(0))
    on_devices = jax.tree.map(lambda x: jax.ShapeDtypeStruct((jax.local_device_count(), *x.shape), x.dtype), shapes)
    made = programs.Programs(network)
    begin = time.perf_counter()
    for number, key in enumerate(made.compile(keys, on_devices), 1):
        print(f"{number} of {len(keys)}: {key.describe()}, {made.compiled[key].seconds:.0f} s", file=sys.stderr)
    return time.perf_counter() - begin, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=RECIPES, default="mobilenetv3")
    parser.add_argument("--stage", type=int, default=1)
    parser.add_argument("--programs", type=int, default=6, help="how many of the stage's; 0: all")
    parser.add_argument("--at-once", type=int, default=programs.AT_ONCE)
    parser.add_argument("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()

    jax.config.update("jax_enable_compilation_cache", False)
    recipe = RECIPES[options.recipe]
    needed = needed_keys(recipe, stages(recipe), options.stage - 1, ENOUGH * (options.stage - 1))
    count = options.programs or len(needed)
    keys = [needed[i] for i in np.linspace(0, len(needed) - 1, count).round().astype(int)]
    network = MattingNetwork(
        recipe.variant,
        recipe.refiner,
        dtype=None if recipe.precision == "float32" else recipe.precision,
        axis_name=parallel.AXIS,
    )
    print(
        f"{platform.processor() or platform.machine()}, {jax.devices()[0].device_kind}, JAX {jax.__version__}; "
        f"{options.recipe}, {len(keys)} of the {len(needed)} programs of stage {options.stage}"
    )
    print(f"{'at a time':<12}{'seconds':>9}{'ratio':>7}{'of all, s':>11}")
    results = []
    for at_once in dict.fromkeys((options.at_once, 1)):
        spent, made = seconds(network, keys, at_once)
        results.append({"at_once": at_once, "seconds": spent, "of_all": spent * len(needed) / len(keys)})
    for result in results:
        result["ratio"] = result["seconds"] / results[-1]["seconds"]
        print(f"{result['at_once']:<12}{result['seconds']:>9.0f}{result['ratio']:>7.2f}{result['of_all']:>11.0f}")
    most = max(made.compiled.values(), key=lambda one: one.program.memory).program
    print(f"the largest takes {most.memory / 1e9:.2f} GB of a device and {most.flops / 1e9:.0f} GFLOP")
    if options.json:
        options.json.write_text(
            json.dumps({"programs": len(keys), "needed": len(needed), "results": results}, indent=1)
        )


if __name__ == "__main__":
    main()
