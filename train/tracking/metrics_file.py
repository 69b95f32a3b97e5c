"""Files of metrics, a JSON object a line.

`metrics.jsonl` has the numbers of every iteration and every validation; a line is written once and never changed. What
is not finite is a string that `float` reads, since JSON has no word for it. `sessions.jsonl` has the provenance of
every start.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rvm_jax.host.files import replacing

NAME = "metrics.jsonl"
SESSIONS = "sessions.jsonl"


def encode(numbers: Mapping[str, Any]) -> bytes:
    """A line; whole numbers stay whole, and all others read back as they were, whatever their precision."""
    return json.dumps({name: _plain(number) for name, number in numbers.items()}, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> dict[str, float] | None:
    """The numbers of a line; None if it is not a whole one."""
    if not line.endswith(b"\n"):
        return None
    try:
        return {name: float(number) if isinstance(number, str) else number for name, number in json.loads(line).items()}
    except (ValueError, AttributeError):
        return None


def read(path: Path) -> Iterator[dict[str, float]]:
    """The numbers of all whole lines, in order."""
    with path.open("rb") as file:
        for line in file:
            if (numbers := decode(line)) is not None:
                yield numbers


def is_validation(numbers: Mapping[str, float]) -> bool:
    """Whether this is a validation after `iteration` iterations, rather than the iteration of that number."""
    return any(name.startswith("validation/") for name in numbers)


def rewind(path: Path, done: int, *, validated: bool) -> list[dict[str, float]]:
    """Leave what an uninterrupted run would have recorded by the end of `done` iterations; gives the other lines.

    That has a validation after the last of them only if that is `validated`; if not, it is going to be.
    """
    left: list[dict[str, float]] = []
    if not path.exists():
        return left
    with replacing(path, overwrite=True) as partial, path.open("rb") as old, partial.open("wb") as new:
        for line in old:
            numbers = decode(line)
            if _belongs(numbers, done, validated):
                new.write(line)
            elif numbers is not None:
                left.append(numbers)
    return left


def sessions(path: Path) -> list[dict[str, Any]]:
    """The provenance of every start of the run, in order; without what a full disk has left of a line."""
    found: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def add_session(path: Path, session: Mapping[str, Any]) -> None:
    """Add a line for a start of the run."""
    torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    with path.open("a") as file:
        file.write("\n" * torn + json.dumps(session) + "\n")


def _belongs(numbers: Mapping[str, float] | None, done: int, validated: bool) -> bool:
    if numbers is None:
        return False
    return numbers["iteration"] < done + (is_validation(numbers) and validated)


def _plain(number: Any) -> int | float | str:
    if isinstance(number, int):
        return number
    number = float(number)
    return number if math.isfinite(number) else str(number)
