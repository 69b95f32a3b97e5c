"""Signal handling: SIGTERM, Ctrl-C and the like ask a run to stop, at a moment when nothing is lost."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

StopSignal = Callable[[], int | None]
"""Gives the signal that asked to stop, or None."""

LISTENED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Windows lacks the last two, which job schedulers send some time before the end."""


@contextlib.contextmanager
def stop_requests(answer: str = "") -> Iterator[StopSignal]:
    """Gives a function that tells which signal asked to stop, or None; the same signal once more takes effect.

    `answer` is told at once to who sent it.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])
        if answer:
            over_progress = "\r\x1b[K" if sys.stderr.isatty() else ""
            os.write(2, f"{over_progress}rvm: {signal.Signals(number).name}: {answer}\n".encode())

    before: dict[int, Any] = {number: signal.getsignal(number) for number in LISTENED}
    for number in LISTENED:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number in LISTENED:
            signal.signal(number, before[number])
