"""Leaving when asked to, at a moment when nothing is lost."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import jax

Requests = Callable[[], int | None]
"""Tells which signal asked to stop."""


class Stopped(Exception):  # noqa: N818 — it is no error
    """The run was told to stop and has saved where it was. `status` is the exit status that such a signal has."""

    def __init__(self, message: str, signal_number: int | None):
        super().__init__(message)
        self.status = 128 + (signal_number or signal.SIGTERM)


@contextlib.contextmanager
def requests() -> Iterator[Requests]:
    """Gives a function that tells which signal asked to stop, SIGTERM or Ctrl-C, or None; a second one takes effect.

    On several hosts JAX listens to SIGTERM itself, for all of them have to stop at the same iteration (see
    `parallel.everywhere`).
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])

    listened = (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGINT, signal.SIGTERM)
    before: dict[int, Any] = {number: signal.getsignal(number) for number in listened}
    for number in listened:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number in listened:
            signal.signal(number, before[number])
