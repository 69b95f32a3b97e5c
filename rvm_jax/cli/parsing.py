"""Parsing of what several commands take: paths, and sizes, which are WIDTHxHEIGHT on every command line."""

import re
from pathlib import Path

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from rvm_jax.errors import InputError
from rvm_jax.host.buckets import local_path


class UrlError(Exception):
    """A URL was given in place of a path. It is no `ValueError`, from which tyro would make a report of its own."""


def path_registry() -> ConstructorRegistry:
    """How tyro is to read an option of the type `Path`: URLs are refused, for `Path` would make a folder gs: of them.

    Options that take URLs as well have the type `str`.
    """
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def path_rule(type_info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
        if type_info.type is not Path:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="PATH",
            instance_from_str=_path,
            is_instance=lambda given: isinstance(given, Path),
            str_from_instance=lambda path: [str(path)],
        )

    return registry


def _path(words: list[str]) -> Path:
    try:
        local_path(words[0])
    except InputError as error:
        raise UrlError(str(error)) from None
    return Path(words[0])


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
