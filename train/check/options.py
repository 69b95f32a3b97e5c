"""What the check is told besides the run that it is about."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CheckOptions:
    """What the check is told besides the run that it is about.

    Attributes:
        people: Weights of a network, or the name of a release: people that it sees in backgrounds are told of.
        figures: The figures of first iterations to compare with, a JSON file; those that come with this version by
            default.
        store: Put the figures of this platform into that file instead of comparing with it.
    """

    people: str | None = None
    figures: Path | None = None
    store: bool = False
