"""A disk that is full: files of this process, and of those it starts, cannot grow beyond some bytes."""

import contextlib
import os
import resource
import sys
from collections.abc import Iterator


def fill(size: int) -> None:
    # What Python compiles it would write in part, and read that part ever after.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextlib.contextmanager
def room_again() -> Iterator[None]:
    """After the block, the disk is no longer full."""
    before, environment, limit = sys.dont_write_bytecode, dict(os.environ), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        sys.dont_write_bytecode = before
        os.environ.clear()
        os.environ.update(environment)
