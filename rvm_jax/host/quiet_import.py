"""Import of TensorFlow without its greeting on stderr, without Keras, and with a Ctrl-C that is not lost."""

import contextlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

from rvm_jax.host.signals import late_interrupt


def quiet_import(module: str) -> None:
    """Import a module; what its libraries write to stderr meanwhile is only shown if that fails.

    No setting keeps TensorFlow from greeting. With TF_CPP_MIN_LOG_LEVEL=3, ABSL_MIN_LOG_LEVEL=3 and GRPC_VERBOSITY=NONE
    in the environment, 2.21 still writes six lines about oneDNN and CUDA, since its C++ logs before it reads any of
    them ("All log messages before absl::InitializeLog() is called are written to STDERR"). And Ctrl-C is lost in the
    depths of its import, so it takes effect at the end.
    """
    with tempfile.TemporaryFile("w+") as log:
        try:
            with late_interrupt(), _stderr_to(log.fileno()), _errors_alone(), _without_keras():
                importlib.import_module(module)
        except KeyboardInterrupt:
            raise
        except BaseException:
            log.seek(0)
            shutil.copyfileobj(log, sys.stderr)
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
def _errors_alone() -> Iterator[None]:
    """Let TensorFlow, which reads this as it is imported, log no warnings: each exception in a pipeline is one.

    What JAX logs, which reads the same and sets it to 1 if nobody has, stays as it is.
    """
    before = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
    if before in (None, "1"):
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TF_CPP_MIN_LOG_LEVEL"]
        else:
            os.environ["TF_CPP_MIN_LOG_LEVEL"] = before


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """Let TensorFlow go without Keras, which it imports in 2 of its 7 seconds only to know it when it loads models."""
    hidden = "keras" not in sys.modules
    if hidden:
        sys.modules["keras"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["keras"]
