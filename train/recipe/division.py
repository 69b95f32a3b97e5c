"""Division of a step's batch among devices, and into parts that they compute one after the other."""

import dataclasses
from typing import NamedTuple, TypeVar

from rvm_jax.errors import InputError
from train.recipe.options import Options
from train.recipe.recipe import PUBLISHED_BATCH, learning_rate_scale
from train.recipe.training import Scaling, Training

AnyRecipe = TypeVar("AnyRecipe", bound=Training)


class Division(NamedTuple):
    """How a step is computed: `batch` clips in equal `parts`, each of which is divided among all devices.

    `by_devices` if a new run has that batch since its devices cannot share the published one.
    """

    batch: int
    parts: int
    by_devices: bool = False


class Kept(NamedTuple):
    """What a run has settled, and keeps wherever it goes on."""

    batch: int
    scaling: Scaling


def settle(recipe: AnyRecipe, options: Options, devices: int, kept: Kept | None = None) -> tuple[AnyRecipe, Division]:
    """The recipe with what it leaves to the devices, its batch and the scaling that follows, and how that is divided.

    A run that goes on has them already: they are `kept`.
    """
    division = divide(recipe.batch, options, devices, kept and kept.batch, recipe.published_batch)
    scaling = recipe.scaling
    if scaling == "auto" and kept is not None:
        scaling = kept.scaling
    elif scaling == "auto":
        asked = recipe.batch is not None or options.clips_per_device is not None
        scaling = "none" if asked or division.batch == recipe.published_batch else "sqrt"
    return dataclasses.replace(recipe, batch=division.batch, scaling=scaling), division


def divide(
    batch: int | None, options: Options, devices: int, kept: int | None = None, published: int = PUBLISHED_BATCH
) -> Division:
    """The division among so many devices that was asked for, or without a `batch`, one that they can share.

    A run that goes on keeps its batch, which is `kept`, on whatever devices, and the number of parts follows.
    """
    if kept is not None:
        return _divide_again(batch, options, devices, kept)
    parts = options.accumulation
    if options.clips_per_device is not None:
        return Division(options.clips_per_device * devices * parts, parts)
    by_devices = batch is None and published % devices > 0
    if batch is None:
        batch = devices if by_devices else published
    if batch % (devices * parts):
        each = f", each of which takes {parts} parts" if parts > 1 else ""
        raise InputError(
            f"--batch {batch} cannot be divided among {devices} devices{each}: give a multiple of {devices * parts}, "
            "or --clips-per-device"
        )
    return Division(batch, parts, by_devices)


def _divide_again(batch: int | None, options: Options, devices: int, kept: int) -> Division:
    each = options.clips_per_device
    keeps = f"the run in {options.out} keeps its batch of {kept} clips"
    if each is None and batch not in (None, kept):
        raise InputError(f"--batch {batch}: {keeps}; give --batch {kept}, or another --out DIR")
    if kept % devices:
        raise InputError(f"{keeps}, which {devices} devices cannot divide: use {_divisors_text(kept)} of them")
    share = kept // devices
    if each is None:
        return Division(kept, min((n for n in _divisors(share) if n >= options.accumulation), default=share))
    if share % each:
        raise InputError(
            f"--clips-per-device {each}: {keeps}, {share} for each of {devices} devices; give {_divisors_text(share)}"
        )
    return Division(kept, share // each)


def describe_batch(recipe: Training, division: Division) -> list[str]:
    """A line about a batch that follows from the devices; `recipe` is settled."""
    if not division.by_devices:
        return []
    batch, scale = division.batch, learning_rate_scale(recipe)
    return [
        f"{batch} devices cannot share the recipe's batch of {recipe.published_batch}: a step has {batch} clips, and "
        f"learning rates are {scale:.3g} times the recipe's (as with --batch {batch} --scaling {recipe.scaling})"
    ]


def describe_parts(division: Division, options: Options, devices: int) -> list[str]:
    """A line about the parts, if there are several, or others than were asked for."""
    batch, parts, _ = division
    asked = options.accumulation
    if parts == asked == 1:
        return []
    how = "at once" if parts == 1 else f"in {parts} parts of {batch // parts}, each with batch statistics of its own"
    other = "" if parts == asked or options.clips_per_device else f"; {devices} devices cannot take {asked} parts"
    return [f"a batch of {batch} clips is computed {how}{other}"]


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _divisors_text(number: int) -> str:
    """1, 2 or 4"""
    *others, last = map(str, _divisors(number))
    return f"{', '.join(others)} or {last}" if others else last
