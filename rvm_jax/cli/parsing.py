"""Parsing of what several commands take: sizes, which are WIDTHxHEIGHT on every command line."""

import re

from rvm_jax.errors import InputError


def width_and_height(option: str, text: str, expected: str) -> tuple[int, int]:
    """Two sides in pixels, such as 1920x1080."""
    width, height = width_and_perhaps_height(option, text, expected)
    if height is None:
        raise InputError(f"{option} {text}: expected {expected}")
    return width, height


def width_and_perhaps_height(option: str, text: str, expected: str) -> tuple[int, int | None]:
    """Two sides in pixels, or a width alone."""
    match = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text)
    if match is None:
        raise InputError(f"{option} {text}: expected {expected}")
    return int(match[1]), None if match[2] is None else int(match[2])
