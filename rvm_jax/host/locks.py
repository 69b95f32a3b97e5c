"""File locks: one process at a time, and free again however that process ends."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What network file systems say that have no locks. Better to work there than not to."""


class HeldError(Exception):
    """Another process holds the lock: `owner`, as it has written there itself."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner


@contextlib.contextmanager
def locked(path: Path, *, remove: bool = False) -> Iterator[None]:
    """Hold the lock `path` while the block runs, or raise `HeldError`.

    A folder is locked as it is. A file is made if there is none, and tells whose it is; with `remove` it is gone after
    the block.
    """
    folder = path.is_dir()
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(descriptor, path)
        if not folder:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        try:
            yield
        finally:
            if remove:
                path.unlink()
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = "" if path.is_dir() else os.pread(descriptor, 1000, 0).decode(errors="replace")
        raise HeldError(owner or "another process") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    # Since the file was opened, whoever held the lock may have removed it, and another may hold a new one.
    if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
        raise HeldError("another process")
