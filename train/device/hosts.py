"""Several hosts: what one says to the others while they train, how they agree on stopping, and how all leave together.

What is said lies in the key-value store of JAX's coordination service, which process 0 runs. A thread on each host
looks there twice a second, whatever its main thread waits for: in a collective it may wait for ever.
"""

import contextlib
import itertools
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NoReturn

import jax
from jax._src import distributed

from rvm_jax.errors import InputError, Stopped

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_OF_SILENCE = 60.0
"""After which a host is given up. JAX would do so after 100, and end the others with a dump of their stacks."""
FAREWELL = 5.0
"""Seconds that a host which leaves waits for the others to do so; the first has twice as many, for JAX ends the others
the moment that they miss it."""
CONNECTION_LOST = re.compile("by peer|remote process exited|Socket closed")
"""What Gloo, NCCL and gRPC say of a host that is gone."""


class Hosts:
    """This host among those that train together. On a single one there is nobody to agree with.

    Attributes:
        number: Of this host.
        count: How many there are.
    """

    def __init__(self) -> None:
        state = distributed.global_state
        self.number, self.count = state.process_id, state.num_processes
        self._client: Any = state.client
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self._ended = threading.Event()
        self._leaving = threading.Lock()
        self._beats: dict[str, tuple[str, float]] = {}
        self._asked: Callable[[], int | None] = lambda: None
        self._calls = 0
        self._stop: tuple[int, int] | None = None  # at which call, and the signal
        self._reported = False
        self._deciding = threading.Lock()  # nobody gets further while it is decided where to stop

    def say(self, name: str, text: str = "", *, again: bool = False) -> bool:
        """Say something to all hosts; False if it was said already, and not to be said `again`."""
        try:
            self._client.key_value_set(f"rvm/{name}", text, allow_overwrite=again)
        except jax.errors.JaxRuntimeError as error:
            if "ALREADY_EXISTS" not in str(error):
                raise
            return False
        return True

    def heard(self) -> dict[str, str]:
        """All that was said so far, by name."""
        return {name.removeprefix("rvm/"): text for name, text in self._client.key_value_dir_get("rvm/")}

    def listen(self, name: str) -> str:
        """Wait until it is said."""
        while (text := self.heard().get(name)) is None:
            time.sleep(SECONDS_BETWEEN_LOOKS / 5)
        return text

    def wait(self, name: str) -> None:
        """Return once all hosts are here. Unlike a collective, this may take as long as it will."""
        if self.count > 1:
            self.say(f"{name}/{self.number}")
            for number in range(self.count):
                self.listen(f"{name}/{number}")

    def sharing(self, what: str) -> int:
        """How many hosts, this one among them, have the same of something that each host says of itself."""
        if self.count == 1:
            return 1
        self.say(f"has/{self.number}", what)
        self.wait("said what they have")
        return [text for name, text in self.heard().items() if name.startswith("has/")].count(what)

    def tell(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Tell the other hosts that this one cannot go on: for `ExitStack.push`, before anything there is closed."""
        if self.count > 1 and error is not None and not isinstance(error, Stopped):
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # process 0 is gone
                self.say("failed", f"host {self.number}: {_line(error)}")

    def agree_on_stopping(self, asked: Callable[[], int | None]) -> Callable[[], int | None]:
        """A function that gives the signal by which any host was asked to stop, or None; from then on, always.

        `asked` gives that of this host. All hosts have to call the function equally often and in step: it gives all of
        them the same at the same call.
        """
        if self.count == 1:
            return asked
        self._asked = asked

        def stops() -> int | None:
            with self._deciding:
                self._calls += 1
                return self._stop[1] if self._stop and self._calls >= self._stop[0] else None

        return stops

    def watch(self) -> None:
        """Look at what the others say, until the end."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # process 0 is gone, or this one is leaving
            for beat in itertools.count():
                if self._ended.wait(SECONDS_BETWEEN_LOOKS):
                    return
                self.say(f"alive/{self.number}", str(beat), again=True)
                self.look()

    def look(self) -> None:
        """Do what has to be done about what the others have said."""
        heard = self.heard()
        if "failed" not in heard:
            if lost := self._lost(heard):
                self.say("failed", lost)
            self._decide(heard)
        elif not heard["failed"].startswith(f"host {self.number}: "):
            self.leave(f"rvm: {heard['failed']}", 2)

    def leave(self, last_words: str, status: int) -> NoReturn:
        """End this process, whatever its other threads do. The other hosts are leaving too."""
        self._leaving.acquire()  # and never released: one thread leaves
        print(last_words, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        # Ends when all hosts have come to it, and then JAX lets none of them miss any other.
        farewell = threading.Thread(target=self._client.shutdown, daemon=True)
        farewell.start()
        farewell.join(FAREWELL if self.number else 2 * FAREWELL)
        os._exit(status)

    def fail(self, error: BaseException) -> NoReturn:
        """Leave because of an exception on this host, or because of an earlier one on another host."""
        self.tell(type(error), error, error.__traceback__)
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            first = self.heard().get("failed", "")
            if first and not first.startswith(f"host {self.number}: "):
                self.leave(f"rvm: {first}", 2)
        if isinstance(error, KeyboardInterrupt):
            self.leave("rvm: interrupted", 130)
        if isinstance(error, InputError) or _lost_connection(error):
            self.leave(f"rvm: {_line(error)}", 2)
        self.leave("".join(traceback.format_exception(error)).rstrip(), 1)

    def end(self) -> None:
        """The end of the run: nobody leaves before the first has written all."""
        self.wait("end")
        self._ended.set()
        self.watcher.join()

    def _lost(self, heard: dict[str, str]) -> str | None:
        """What to say if a host has been silent for too long."""
        now = time.monotonic()
        for name, beat in heard.items():
            if name.startswith("alive/") and self._beats.setdefault(name, (beat, now))[0] != beat:
                self._beats[name] = beat, now
        silent = [name for name, (_, since) in self._beats.items() if now - since > SECONDS_OF_SILENCE]
        return (
            f"nothing was heard of host {silent[0].removeprefix('alive/')} for {SECONDS_OF_SILENCE:.0f} s: its process "
            "or its machine is gone, and the same command goes on from the last checkpoint"
            if silent
            else None
        )

    def _decide(self, heard: dict[str, str]) -> None:
        """Agree on the call of `stops` that is the first to say so: the one after the furthest that any host is at."""
        signal = self._asked()
        if signal is not None and "stop" not in heard:
            self.say("stop", str(signal))
        if "stop" not in heard or self._stop:
            return
        if not self._reported:
            self._deciding.acquire()
            self._reported = True
            self.say(f"calls/{self.number}", str(self._calls))
        calls = [int(heard[name]) for name in heard if name.startswith("calls/")]
        if len(calls) == self.count:
            self._stop = max(calls) + 1, int(heard["stop"])
            self._deciding.release()


@contextlib.contextmanager
def together() -> Iterator[Hosts]:
    """On several hosts, whatever ends the block on one of them ends the processes of all within seconds.

    They print one line, which names the host and what it said, and leave with status 2. The host itself prints what it
    would alone; after an exception that is a bug, that is its traceback, and the status 1.
    """
    hosts = Hosts()
    if hosts.count == 1:
        yield hosts
        return
    hosts.watcher.start()
    stopped = None
    try:
        try:
            yield hosts
        except Stopped as error:
            stopped = error
        hosts.end()
    except BaseException as error:
        hosts.fail(error)
    if stopped is not None:
        raise stopped


def _lost_connection(error: BaseException) -> bool:
    """Whether an error that JAX raises comes of another host that is gone."""
    raised = isinstance(error, (jax.errors.JaxRuntimeError, ValueError))
    return raised and CONNECTION_LOST.search(str(error)) is not None


def _line(error: BaseException) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    first = (str(error).splitlines() or [""])[0]
    if _lost_connection(error):
        return f"another host is gone ({first}): the same command goes on from the last checkpoint"
    return f"{type(error).__name__}: {first}"
