"""Options of `matte_video`: what can be refused of them before anything is read, and before JAX is imported."""

import math
from fractions import Fraction

from rvm_jax.errors import InputError
from rvm_jax.video import sink
from rvm_jax.video.frames import Part, Size
from rvm_jax.video.writing import live
from rvm_jax.video.writing.targets import Target


def part(start: float, end: float | None, resize: tuple[int, int | None] | None) -> Part:
    """What to read of a source; `resize` is a width and a height, or None for that which keeps the shape."""
    if not 0 <= start < math.inf or (end is not None and not start < end < math.inf):
        given = f"--start {start:g}" + ("" if end is None else f" --end {end:g}")
        raise InputError(f"{given}: expected seconds from the start, and an end after the start")
    if resize is not None and min(resize[0], resize[1] or 1) < 1:
        given = "x".join(str(side) for side in resize if side is not None)
        raise InputError(f"--resize {given}: expected pixels, such as 1280x720 or 1280")
    exact = [None if number is None else Fraction(number).limit_denominator(10**6) for number in (start, end)]
    return Part(exact[0] or Fraction(0), exact[1], None if resize is None else Size(*resize))


def check_numbers(**given: float | None) -> None:
    """Refuse numbers that are not above 0, each by the name of its option; None is not given."""
    for option, value in given.items():
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"--{option.replace('_', '-')} {value:g}: expected a number above 0")


def check_written(
    outputs: list[Target], *, quality: sink.Quality, mbps: float | None, pictures: sink.Pictures, pipe: str
) -> None:
    """Refuse options that change nothing of what is written."""
    name = outputs[0].name
    if (mbps is not None or quality != "high") and not any(map(_has_quality, outputs)):
        option = f"--quality {quality}" if mbps is None else "--mbps"
        raise InputError(f"{option} is given, but {name} has no bit rate to choose: write .mp4 or .webm")
    if pictures != "png" and all(one.ending for one in outputs):
        raise InputError(
            f"--pictures {pictures} is for a folder of pictures, which {name} is not: end its name with / to write one"
        )
    if pipe != "nut" and not any(one.name == live.STDOUT for one in outputs):
        raise InputError(f"--pipe {pipe} is for standard output, and {name} is a file: write to -, or leave it out")


def _has_quality(one: Target) -> bool:
    if one.path is None:
        return live.KINDS[one.ending].crf is not None
    return sink.has_bit_rate(one.ending)
