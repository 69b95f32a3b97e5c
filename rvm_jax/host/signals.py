"""Signal handling: SIGTERM and Ctrl-C ask a run to stop, at a moment when nothing is lost."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import jax

StopSignal = Callable[[], int | None]
"""Gives the signal that asked to stop, or None."""


@contextlib.contextmanager
def stop_requests() -> Iterator[StopSignal]:
    """Gives a function that tells which signal asked to stop, SIGTERM or Ctrl-C, or None; a second one takes effect.

    On several hosts JAX listens to SIGTERM itself, for all of them have to stop at the same iteration (see
    `parallel.should_stop`); there Ctrl-C is passed on to it.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    several = jax.process_count() > 1
    listened = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
    before: dict[int, Any] = {number: signal.getsignal(number) for number in listened}
    for number in listened:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number in listened:
            signal.signal(number, before[number])
