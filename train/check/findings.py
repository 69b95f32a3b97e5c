"""Findings of the check: a line each."""

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """What was found: `fine`, a `note` that hinders nothing, or a `fault` with which nobody should begin."""

    what: Literal["fine", "note", "fault"]
    text: str

    def __str__(self) -> str:
        return f"{self.what + ':':7}{self.text}"
