"""Signal handling: SIGTERM, Ctrl-C and the like ask a run to stop, at a moment when nothing is lost."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

StopSignal = Callable[[], int | None]
"""Gives the signal that asked to stop, or None."""

LISTENED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Windows lacks the last two, which job schedulers send some time before the end."""


@contextlib.contextmanager
def blocked(numbers: Iterable[int]) -> Iterator[None]:
    """Signals come to all processes of a group. Those that start in the block inherit that these are not for them."""
    usual = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)


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


@contextlib.contextmanager
def late_interrupt() -> Iterator[None]:
    """Raise for Ctrl-C only when the block is done: C extensions that are being imported would end the process.

    Whoever presses it once more leaves at once.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = False

    def note(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupted:
        raise KeyboardInterrupt
