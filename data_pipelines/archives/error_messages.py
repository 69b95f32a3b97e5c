"""Formatting of messages. Worker processes import this: nothing slow."""

import itertools
from collections.abc import Collection, Iterable
from pathlib import Path

LISTED = 20  # errors of one kind; nobody reads more


def first_few(names: Collection[str], limit: int = 5) -> str:
    """The names for a message of one line: "a, b, c", or "a, b, c, d, e and 7 more"."""
    shown = ", ".join(list(names)[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def first_errors(checks: Iterable[str | None]) -> list[str]:
    """What the checks say, a line each, as far as anybody would read on."""
    errors = list(itertools.islice(filter(None, checks), LISTED + 1))
    return errors if len(errors) <= LISTED else [*errors[:LISTED], "... and more of this kind"]


def sized(size: tuple[int, ...]) -> str:
    """Width and height."""
    return f"{size[0]}x{size[1]} pixels"


def other_kinds(folder: Path) -> str:
    """What a folder has that is none of ours: ", only .tif files", or nothing."""
    suffixes = {path.suffix.lower() for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}
    return f", only {', '.join(sorted(suffixes - {''}))} files" if suffixes - {""} else ""
