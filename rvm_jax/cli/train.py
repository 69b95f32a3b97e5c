"""`rvm train …`: parses, calls; nothing else.

Its options are the fields of `Recipe` and of `Options`, and their docstrings its help; here they are put in groups.
"""

import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Suppress, arg

from rvm_jax.errors import InputError
from rvm_jax.host.paths import located
from rvm_jax.host.quiet_import import quiet_import
from train.check.options import CheckOptions
from train.recipe import baselines, published
from train.recipe.baselines import AnyRecipe
from train.recipe.options import Options
from train.recipe.recipe import Recipe, Validation

RECIPES: dict[str, AnyRecipe] = {**published.RECIPES, **baselines.RECIPES}

COMMANDS = {
    "mobilenetv3": "Train a MobileNetV3 network by the published recipe, in four stages.\n\n"
    "Example: rvm train mobilenetv3 --init weights/encoder_start --stages.1.epochs 15",
    "resnet50": "Train a ResNet-50 network by the published recipe, in four stages.\n\n"
    "Example: rvm train resnet50 --init weights/encoder_start --batch 16 --scaling sqrt --warmup 100",
    "clean": "Train a network on data that allow commercial use, in four stages of the same design.\n\n"
    "A dataset that does not allow it, or does not say so, is refused.\n\n"
    "Example: rvm train clean --variant resnet50 --out runs/clean",
    "demo": "Train a tiny network on synthetic clips, in four short stages.\n\n"
    "`rvm data prepare synthetic` makes the clips.\n\n"
    "Example: rvm train demo --out runs/first",
    "modnet": "Train MODNet on stills, with trimaps made of their mattes; every frame of a clip is a still as well.\n\n"
    "Example: rvm train modnet --init modnet.ckpt --freeze-norms --stages.1.data footage/mine "
    "--stages.2.epochs 0 --stages.3.epochs 0 --stages.4.epochs 0",
    "bgmv2": "Train BackgroundMattingV2 on stills before a background and that background as a camera took it: the "
    "coarse network, then with the refiner.\n\n"
    "Example: rvm train bgmv2 --variant bgmv2_mobilenetv2 --out runs/bgmv2",
    "u2net": "Train U²-Net on stills and masks of what is to be found in them.\n\n"
    "Example: rvm train u2net --variant u2netp --stages.1.data supervisely_person coco_person",
}

GROUPS = {
    "run": ("out", "init", "data_dir", "batch", "clips_per_device", "freeze_norms", "precision", "seed"),
    "memory_and_time": (
        *("remat", "accumulation", "buckets", "compilation_cache", "cpu_devices"),
        *("data_processes", "data_threads"),
    ),
    "optimizer": ("optimizer", "weight_decay", "clip_norm", "ema", "scaling", "warmup", "schedule"),
    "network": ("variant", "refiner"),
    "data": (
        *("backgrounds", "background_motion", "segmentation_clips", "still_motion", "segmentation_stills"),
        *("segmentation_size", "unknown", "sample_pixels", "unfree"),
    ),
    "checkpoint_and_tracking": (
        *("save_every", "validate_every", "keep", "requeue_status"),
        *("wandb", "wandb_project", "wandb_artifacts", "profile"),
    ),
    "multi_host": ("coordinator", "process_id", "process_count", "local_devices"),
}
"""What `--help` shows together, the most important first; validation and the stages follow."""

METAVARS = {
    "out": "DIR|URL",
    "init": "FILE|DIR|URL",
    "data_dir": "DIR|URL",
    "batch": "INT",
    "clips_per_device": "INT",
    "clip_norm": "FLOAT",
    "ema": "FLOAT",
    "compilation_cache": "DIR|URL",
    "cpu_devices": "INT",
    "data_processes": "INT",
    "data_threads": "INT",
    "requeue_status": "INT",
    "wandb_project": "NAME",
    "profile": "FIRST:END",
    "coordinator": "HOST:PORT",
    "process_id": "INT",
    "process_count": "INT",
    "local_devices": "INT [INT ...]",
}
"""Where the type would say less."""

NOTHING_ASKED = CheckOptions()


class _App(tyro.extras.SubcommandApp):
    def cli(self, *, args: Sequence[str] | None = None, **others: Any) -> Any:
        """Parse and run a command; help shows the options of stage 1 alone, since tyro can hide no option it takes."""
        words = list(sys.argv[1:] if args is None else args)
        asks_help = {"-h", "--help"} & set(words)
        app = _commands(brief=True) if asks_help else self
        if words[:1] == ["check"] and not asks_help:
            asked, words = tyro.cli(CheckOptions, args=words[1:], return_unknown_args=True, **others)
            target: Any = self._subcommands["check"].target
            look = partial(target, asked=asked)
            app = _commands(act=lambda name, recipe, options: look(name, run=(recipe, options)))
        return tyro.extras.SubcommandApp.cli(app, args=words, **others)


def _commands(*, brief: bool = False, act: Callable[[str, Any, Options], None] | None = None) -> "_App":
    """A command for each recipe, to train or to `act`; `brief` ones do not have the options of stages 2 to 4."""
    commands = _App()
    for name in RECIPES:
        commands.command(_command(name, brief, act or _train))
    if act is None:
        commands.command(check)
        commands.command(compare)
    return commands


def _command(name: str, brief: bool, act: Callable[[str, Any, Options], None]) -> Callable[..., None]:
    made = type(RECIPES[name])
    defaults = _options(RECIPES[name], Options(out=Path("runs") / name), brief)

    def train(asked: Annotated[type(defaults), arg(name="")] = defaults) -> None:  # type: ignore[valid-type]
        values = {field: value for group in GROUPS for field, value in vars(getattr(asked, group)).items()}
        recipe, options = (
            {field.name: values[field.name] for field in dataclasses.fields(described) if field.name in values}
            for described in (made, Options)
        )
        whole = made(stages=asked.stages, validation=asked.validation, **recipe)
        act(name, *_located(whole, Options(**options)))

    train.__name__, train.__doc__ = name, COMMANDS[name]
    return train


def check(
    recipe: Annotated[tyro.conf.Positional[str], arg(metavar="RECIPE", help_behavior_hint="")],
    *,
    asked: Annotated[CheckOptions, arg(name="")] = NOTHING_ASKED,
    run: Suppress[tuple[Recipe, Options] | None] = None,
) -> None:
    """Look at a run before it begins: the same command, with `check` before the recipe.

    Tells of data that spoil mattes (alpha with a gamma, backgrounds left in foregrounds, people in backgrounds), of
    first iterations that are computed otherwise than they should be, whether one batch can be learned by heart, and
    what memory and time each stage takes. Ends with go, or with no-go and exit status 1. All options of the recipe are
    taken as well.

    Example: rvm train check clean --people mobilenetv3

    Args:
        recipe: The recipe, followed by what `rvm train` would be given.
    """
    assert run is not None
    if not isinstance(run[0], Recipe):
        raise InputError(
            f"{recipe} has no check: how fast a batch is learned is known of RVM's recipes alone; look at the data by "
            f"`rvm data preview`, and at memory and time by `rvm train {recipe} --stages.1.iterations 20`"
        )
    quiet_import("data_pipelines.pipelines.batches")
    from train.check import check as checking

    if not checking.check(*run, asked):
        raise SystemExit(1)


def compare(
    runs: Annotated[tuple[str, ...], tyro.conf.Positional, arg(metavar="DIR|URL ...")],
    out: Path = Path("compare.html"),
) -> None:
    """Compare runs on one page: curves over each other, how their recipes differ, and what they came to.

    Example: rvm train compare runs/first runs/second --out compare.html

    Args:
        runs: Folders of two to six runs, or their URLs in a bucket. They may still be training.
        out: The page, an HTML file.
    """
    from train.tracking import compare as page

    print(f"wrote {page.write([located(run) for run in runs], out)}")


def _options(recipe: AnyRecipe, options: Options, brief: bool) -> Any:
    """A tree of dataclasses for tyro, whose defaults are those of a recipe and of options."""
    values = {**vars(recipe), **vars(options)}
    if not isinstance(recipe, Recipe):
        del values["remat"]  # of which other networks have no form
    hints = typing.get_type_hints(type(recipe)) | typing.get_type_hints(Options)
    helps = _helps(type(recipe)) | _helps(Options)
    stage, *others = (str(number) for number, _ in enumerate(recipe.stages, 1))

    def option(name: str) -> tuple[str, Any, Any]:
        hint = "(optional)" if values[name] is None else None
        shown = arg(prefix_name=False, help=helps[name], metavar=METAVARS.get(name), help_behavior_hint=hint)
        return name, Annotated[hints[name], shown], dataclasses.field(default=values[name])

    groups = {
        title: dataclasses.make_dataclass(title, [option(name) for name in names if name in values])
        for title, names in GROUPS.items()
    }
    named = " and ".join(", ".join(f"--stages.{number}" for number in others).rsplit(", ", 1))
    told = f"The first stage. {named} have the same options, and defaults of their own." if others else None
    stages = tuple(
        Annotated[
            (type(one), arg(name=number, help=told if brief else None), *[Suppress] * (brief and number in others))
        ]
        for number, one in zip((stage, *others), recipe.stages, strict=True)
    )
    fields = [
        *((title, group, dataclasses.field(default_factory=group)) for title, group in groups.items()),
        ("validation", Validation, recipe.validation),
        ("stages", tuple[stages], dataclasses.field(default=recipe.stages)),  # type: ignore[valid-type]
    ]
    return dataclasses.make_dataclass("Asked", fields)()


def _helps(described: type) -> dict[str, str]:
    """What the docstring of a class, and those of its bases, say of its attributes."""
    found: dict[str, str] = {}
    for one in reversed(described.__mro__):
        attributes = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")[2]
        said = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.M)
        found |= {name: " ".join(text.split()) for name, text in said}
    return found


def _located(recipe: AnyRecipe, options: Options) -> tuple[AnyRecipe, Options]:
    """What was asked for, with its places as paths or URLs; refuses two sizes of a batch."""
    if options.clips_per_device is not None and recipe.batch is not None:
        raise InputError(
            f"--batch {recipe.batch} and --clips-per-device {options.clips_per_device} both say how many clips a step "
            "has: give one of them"
        )
    return (
        dataclasses.replace(recipe, init=recipe.init and located(recipe.init)),
        dataclasses.replace(options, out=located(options.out), data_dir=located(options.data_dir)),
    )


def _train(name: str, recipe: AnyRecipe, options: Options) -> None:
    quiet_import("data_pipelines.pipelines.batches")
    from train import loop

    if isinstance(recipe, Recipe):
        loop.train(recipe, options)
    else:
        from train.baselines import course

        loop.train(recipe, options, course.prepare)


app = _commands()
