"""Parsing of what several commands take, paths and sizes (always WIDTHxHEIGHT), and the shape of their help."""

import contextlib
import inspect
import io
import itertools
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from rvm_jax.errors import InputError
from rvm_jax.host.buckets import local_path

EDGES = "╭│╰"
"""What lines of tyro's boxes begin with, which are as wide as the terminal."""


def in_long_lines(docstring: str) -> str:
    """The same docstring with each paragraph and each argument in a line, to be wrapped as the terminal is wide."""
    text = re.sub(r"\n {8,}(?=\S)", " ", inspect.cleandoc(docstring))
    return re.sub(r"(?<=[^\n:])\n(?=\S)", " ", text)


class _Kept(io.StringIO):
    """Keeps what is printed, and answers as the stream that it stands for: what it can show depends on that."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(self._stream.encoding)

    def isatty(self) -> bool:
        return bool(self._stream.isatty())


@contextlib.contextmanager
def wrapped_output() -> Iterator[None]:
    """Wrap what is printed, which tyro does in its boxes alone; examples stay lines, to be copied."""
    kept = _Kept(sys.stdout)
    try:
        with contextlib.redirect_stdout(kept):
            yield
    finally:
        width = shutil.get_terminal_size().columns
        for line, lines in itertools.groupby(kept.getvalue().splitlines()):  # one empty line is enough
            whole = line.startswith(("Example:", *EDGES)) or "\x1b" in line
            for _ in lines if line else [line]:
                print(line if whole else textwrap.fill(line, width))


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
