"""Ways for a frame not to be read, for worker processes: they can be pickled, and import no TensorFlow."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvm_jax.errors import InputError

Read = Callable[[int], Mapping[str, bytes]]


@dataclass(frozen=True)
class Damaged:
    """The frame of this number is damaged."""

    read: Read
    number: int

    def __call__(self, number: int) -> Mapping[str, Any]:
        return dict.fromkeys(self.read(number), b"junk") if number == self.number else self.read(number)


def kill_process(number: int) -> Mapping[str, bytes]:
    """What a system does that has no memory left."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def tell_modules(number: int) -> Mapping[str, bytes]:
    raise InputError(f"imported: {sorted({'tensorflow', 'jax', 'flax', 'wandb'} & sys.modules.keys())}")


def fail(plan: Any, out: Any) -> None:
    """A bug in what makes the pixels."""
    raise UntoldError(len(out), "twice")


class UntoldError(KeyError):
    """Like exceptions of some libraries, it cannot be made anew from its message, so not pickled."""

    def __init__(self, number: int, how: str):
        super().__init__(f"{number}, {how}")


@dataclass(frozen=True)
class Waiting:
    """A read that does not end before a FIFO is opened for writing, and closed again."""

    fifo: str

    def __call__(self, number: int) -> Mapping[str, bytes]:
        return {"foreground": Path(self.fifo).read_bytes()}
