"""Division of a step's batch among devices, and into parts that they compute one after the other."""

from typing import NamedTuple

from rvm_jax.errors import InputError
from train.recipe.options import Options


class Division(NamedTuple):
    """How a step is computed: `batch` clips in equal `parts`, each of which is divided among all devices."""

    batch: int
    parts: int


def divide(batch: int, options: Options, devices: int, kept: int | None = None) -> Division:
    """The division among so many devices that was asked for.

    A run that goes on keeps its batch, which is `kept`, on whatever devices, and the number of parts follows.
    """
    if kept is not None:
        return _divide_again(batch, options, devices, kept)
    parts = options.accumulation
    if options.clips_per_device is not None:
        return Division(options.clips_per_device * devices * parts, parts)
    if batch % (devices * parts):
        each = f", each of which takes {parts} parts" if parts > 1 else ""
        raise InputError(
            f"--batch {batch} cannot be divided among {devices} devices{each}: give a multiple of {devices * parts}, "
            "or --clips-per-device"
        )
    return Division(batch, parts)


def _divide_again(batch: int, options: Options, devices: int, kept: int) -> Division:
    each = options.clips_per_device
    keeps = f"the run in {options.out} keeps its batch of {kept} clips"
    if each is None and batch != kept:
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


def describe_parts(division: Division, options: Options, devices: int) -> list[str]:
    """A line about the parts, if there are several, or others than were asked for."""
    batch, parts = division
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
