"""Locks in buckets, where there is no flock: an object that its holder rewrites all the time, with a counter in it.

Whoever finds one watches it. If it changes, its holder lives: no clocks of two machines are compared.
"""

import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from rvm_jax.host.locks import HeldError

PERIOD = 20.0
"""Seconds after which a holder rewrites the object."""
PATIENCE = 3
"""Periods after which one that has not changed has no holder."""
MOMENT = 1.0
"""Seconds after which whoever took the lock at the same time has written it too; the last of them has it."""


class LostError(InputError):
    """Another process has taken over the lock, as if this one were dead."""


class BucketLock:
    """The lock that the object `url` is. `locked` keeps it while a block runs."""

    def __init__(self, url: str, *, period: float = PERIOD, pause: Callable[[float], None] = time.sleep) -> None:
        self._url = url
        self._period, self._pause = period, pause
        self._token = secrets.token_hex(16)
        self._beats = 0

    def take(self) -> None:
        """Write the object, or raise `HeldError` if that of another process which lives is there."""
        found = buckets.read(self._url)
        if found is not None and not _is_dead(_parsed(found)):
            self._watch(found)
        self._write()
        self._pause(MOMENT)
        if (owner := self._other_owner()) is not None:
            raise HeldError(owner)

    def check(self) -> None:
        """Raise `LostError` if this process has the lock no longer."""
        if (owner := self._other_owner()) is not None:
            raise LostError(f"{owner} has taken over {self._url}: this process writes there no more; one at a time can")

    def beat(self) -> None:
        """Show that the holder lives."""
        self.check()
        self._write()

    def release(self) -> None:
        """Remove the object, if it is still this process's. If that fails, the next one has to wait until it is old."""
        folder, _, name = self._url.rpartition("/")
        with contextlib.suppress(InputError):
            self.check()
            buckets.remove(folder, [name])

    def _watch(self, found: bytes) -> None:
        seconds = PATIENCE * self._period
        print(
            f"{_parsed(found)['owner']} is at work by {self._url}, or was killed there: looking for up to "
            f"{seconds:.0f} s which of them",
            file=sys.stderr,
        )
        for _ in range(PATIENCE):
            self._pause(self._period)
            now = buckets.read(self._url)
            if now is None:
                return
            if now != found:
                raise HeldError(_parsed(now)["owner"])

    def _write(self) -> None:
        self._beats += 1
        told = {
            "owner": f"process {os.getpid()} on {socket.gethostname()}",
            "machine": _machine(),
            "process": os.getpid(),
            "token": self._token,
            "beats": self._beats,
        }
        buckets.write(self._url, json.dumps(told).encode())

    def _other_owner(self) -> str | None:
        """Who has the lock if this process has not."""
        found = _parsed(buckets.read(self._url) or b"")
        return None if found.get("token") == self._token else found["owner"]


@contextlib.contextmanager
def locked(url: str, *, period: float = PERIOD) -> Iterator[BucketLock]:
    """Hold the lock while the block runs, or raise `HeldError`. It can be lost meanwhile: see `BucketLock.check`."""
    lock = BucketLock(url, period=period)
    lock.take()
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(period):
            try:
                lock.beat()
            except LostError:
                return
            except InputError:  # of the network, which may be back at the next beat
                continue

    beats = threading.Thread(target=beat, name="bucket lock", daemon=True)
    beats.start()
    try:
        yield lock
    finally:
        ended.set()
        beats.join()
        lock.release()


def _parsed(content: bytes) -> dict[str, Any]:
    """What an object says; its owner is unknown if it is not one of ours, or none."""
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    return {"owner": "another process", **(found if isinstance(found, dict) else {})}


def _machine() -> str | None:
    """This boot of this machine and its namespace of processes, in which a number names one; None without a /proc."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _is_dead(told: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine that has ended."""
    if told.get("machine") is None or told["machine"] != _machine():
        return False
    try:
        os.kill(int(told["process"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
