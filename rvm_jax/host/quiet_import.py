"""Importing TensorFlow without its greeting."""

import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator


def quiet_import(module: str) -> None:
    """Import a module; what its libraries write to stderr meanwhile is only shown if that fails.

    TensorFlow greets before any setting can keep it from doing so. And Ctrl-C is lost in the depths of its import, so
    it takes effect at the end.
    """
    with tempfile.TemporaryFile("w+") as told:
        try:
            with _late_interrupt(), _stderr_to(told.fileno()):
                importlib.import_module(module)
        except KeyboardInterrupt:
            raise
        except BaseException:
            told.seek(0)
            shutil.copyfileobj(told, sys.stderr)
            raise


@contextlib.contextmanager
def _stderr_to(file: int) -> Iterator[None]:
    """Let all that this process and its libraries write to stderr go to a file descriptor."""
    sys.stderr.flush()
    terminal = os.dup(2)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


@contextlib.contextmanager
def _late_interrupt() -> Iterator[None]:
    """Raise for Ctrl-C only when the block is done."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = False

    def note(*_: object) -> None:
        nonlocal interrupted
        interrupted = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupted:
        raise KeyboardInterrupt
