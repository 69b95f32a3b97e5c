"""What the check is told besides the run that it is about."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg


@dataclass(frozen=True)
class CheckOptions:
    """What the check is told besides the run that it is about.

    Attributes:
        people: Weights of a network, or the name of a release: people that it sees in backgrounds are told of.
        figures: The figures of first iterations to compare with, a JSON file; those that come with this version by
            default.
        store: Put the figures of this platform into that file instead of comparing with it.
    """

    people: Annotated[str | None, arg(metavar="WEIGHTS")] = None
    figures: Annotated[Path | None, arg(metavar="FILE")] = None
    store: bool = False
