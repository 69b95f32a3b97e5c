"""`rvm train …`: parses, calls; nothing else."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from rvm_jax.errors import InputError
from rvm_jax.host.paths import expanded
from rvm_jax.host.quiet_import import quiet_import
from train.recipe.options import Options
from train.recipe.published import RECIPES
from train.recipe.recipe import Recipe

app = tyro.extras.SubcommandApp()

# Without a name of their own, their fields are options of the command.
AskedRecipe = Annotated[Recipe, arg(name="")]
AskedOptions = Annotated[Options, arg(name="")]
OPTIONS = {name: Options(out=Path("runs") / name) for name in RECIPES}


@app.command
def mobilenetv3(recipe: AskedRecipe = RECIPES["mobilenetv3"], options: AskedOptions = OPTIONS["mobilenetv3"]) -> None:
    """Train a MobileNetV3 network by the published recipe, in four stages.

    Example: rvm train mobilenetv3 --init weights/encoder_start --stages.1.epochs 15
    """
    _train("mobilenetv3", recipe, options)


@app.command
def resnet50(recipe: AskedRecipe = RECIPES["resnet50"], options: AskedOptions = OPTIONS["resnet50"]) -> None:
    """Train a ResNet-50 network by the published recipe, in four stages.

    Example: rvm train resnet50 --init weights/encoder_start --clips-per-device 2 --scaling linear --warmup 1000
    """
    _train("resnet50", recipe, options)


@app.command
def demo(recipe: AskedRecipe = RECIPES["demo"], options: AskedOptions = OPTIONS["demo"]) -> None:
    """Train a tiny network on synthetic clips, in four short stages.

    `rvm data prepare synthetic` makes the clips.

    Example: rvm train demo --out runs/first
    """
    _train("demo", recipe, options)


def _train(name: str, recipe: Recipe, options: Options) -> None:
    if options.clips_per_device is not None and recipe.batch != RECIPES[name].batch:
        raise InputError(
            f"--batch {recipe.batch} and --clips-per-device {options.clips_per_device} both say how many clips a step "
            "has: give one of them"
        )
    quiet_import("data_pipelines.pipelines.batches")
    from train import loop

    loop.train(recipe, dataclasses.replace(options, out=expanded(options.out), data_dir=expanded(options.data_dir)))
