"""A recipe as text: JSON for the run's folder and for W&B, a table for the person who starts it."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from train.recipe.baselines import AnyRecipe, StillStage, recipe_type
from train.recipe.recipe import Rates, Recipe, Stage, Validation, learning_rate_scale
from train.recipe.training import Training


def to_json(recipe: Training) -> dict[str, Any]:
    """The recipe as JSON has it; stages are named "1", "2" …"""
    plain = dataclasses.asdict(recipe)
    plain["stages"] = {str(number): stage for number, stage in enumerate(plain["stages"], 1)}
    return json.loads(json.dumps(plain, default=str))


def defaults(stages: Iterable[str], variant: str | None = None) -> dict[str, Any]:
    """All that has a default in a recipe of this variant with these stages, as `to_json` has it."""

    def of(described: type) -> dict[str, Any]:
        fields = dataclasses.fields(described)
        return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}

    still = variant and recipe_type(variant)
    stage = of(StillStage) if still else {**of(Stage), "rates": of(Rates)}
    plain = {**of(still or Recipe), "validation": of(Validation), "stages": dict.fromkeys(stages, stage)}
    return json.loads(json.dumps(plain))


def describe(recipe: AnyRecipe) -> str:
    """A table with a column for each stage, learning rates as its batch has them, and a line for each other field."""
    columns = [_column(stage, learning_rate_scale(recipe)) for stage in recipe.stages]
    lines = [["", *(f"stage {number}" for number, _ in enumerate(columns, 1))]]
    lines += [[name, *(column[name] for column in columns)] for name in columns[0]]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    table = ["   ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    others = {name.replace("_", " "): _shown(value) for name, value in to_json(recipe).items() if name != "stages"}
    return "\n".join([*table, "", *(f"{name:{widths[0]}}   {shown}" for name, shown in others.items())])


def _column(stage: Stage | StillStage, scale: float) -> dict[str, str]:
    length = f"{stage.epochs}" if stage.samples is None else f"{stage.samples} samples"
    length = length if stage.iterations is None else f"{stage.iterations} iterations"
    rates = {f"rate of {group}": f"{rate * scale:g}" for group, rate in dataclasses.asdict(stage.rates).items()}
    if isinstance(stage, StillStage):
        return {
            "data": _shown(stage.data),
            "epochs": "skipped" if stage.skipped else length,
            "pictures": f"{stage.size}²" + ("" if stage.downsample_ratio == 1 else f" at {stage.downsample_ratio:g}"),
            **rates,
        }
    high = f"{stage.high_frames} × {stage.high_size}², seen at {stage.downsample_ratio:g}"
    return {
        "matting data": _shown(stage.matting),
        "backgrounds": _shown(stage.backgrounds) or "the recipe's",
        "epochs": "skipped" if stage.skipped else length,
        "low resolution": f"{stage.frames} × {stage.size}²",
        "high resolution": high if stage.high_frames else "–",
        **rates,
    }


def _shown(value: object) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(map(str, value))
        case dict():
            return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
        case _:
            return str(value)
