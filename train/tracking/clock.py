"""A clock of where the time of a run goes: what the devices compute, and what they wait for.

Passes are dispatched ahead of the devices, so what the host does while they compute costs nothing. All that counts of
it here is the time in which the devices had nothing to do. That is known without asking them to stop: a thread waits,
beside the loop, for each batch to be on the devices and for each pass to end.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

import jax

PARTS = ("compute", "data", "transfer", "host")
"""Of an iteration: devices compute a pass; or have nothing to do while a batch is awaited, while one is on its way to
them, or while the host does anything else."""
PHASES = (*PARTS, "compiling", "validation", "checkpoints", "starting")
"""Of a session. Checkpoints count as long as training waits for them; starting has what comes before the first
iteration, and the weights and the report at the end."""

Item = TypeVar("Item")


@dataclass
class PassTimes:
    """When a pass was asked for, its batch was there, it was given to the devices, and the pass was; in seconds.

    `on_devices`: when its batch was on the devices, and when they had computed it.
    """

    asked: float
    came: float = 0.0
    given: float = 0.0
    dispatched: float = 0.0
    on_devices: Future[tuple[float, float]] = field(default_factory=Future)


class Clock:
    """To be used as a context; begins when it is made. At any moment, all seconds since then are of one phase.

    Attributes:
        seconds: Spent so far on each phase, up to the last event.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._at = time.perf_counter()
        self._phase = "starting"
        self._computing = 0
        self._dispatched: SimpleQueue[tuple[PassTimes, Any, Any] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._watch, name="clock", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dispatched.put(None)
        if jax.process_count() == 1:  # else a pass may wait for ever, for a host that is gone
            self._thread.join()

    def now(self) -> Mapping[str, float]:
        """The seconds of each phase until now; while devices compute an iteration, until the end of the one before."""
        if not self._computing:
            self._spend(self._phase, time.perf_counter())
        return dict(self.seconds)

    @contextlib.contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Time in the block is of this phase, but for that of blocks and iterations within it."""
        outer = self._enter(phase)
        try:
            yield
        finally:
            self._enter(outer)

    def feed(
        self, feed: Iterable[tuple[int, Iterable[Item]]]
    ) -> Iterator[tuple[int, Iterator[tuple[PassTimes, Item]]]]:
        """Iterations with their passes, each of which comes with its times."""
        asked = time.perf_counter()
        for number, passes in feed:
            if not self._computing:  # the streams of a stage were opened
                self._spend("host", asked)
                self._spend("data", time.perf_counter())
            yield number, _timed(passes)
            asked = time.perf_counter()

    def dispatched(self, times: PassTimes, batch: Any, outputs: Any) -> None:
        """The devices were given a pass, with a batch that is on its way to them."""
        times.dispatched = time.perf_counter()
        self._computing += 1
        self._dispatched.put((times, batch, outputs))

    def end_iteration(self, passes: Sequence[PassTimes]) -> dict[str, float]:
        """Seconds of each part of an iteration, from the end of the one before; its passes are about to end."""
        before = dict(self.seconds)
        for one in passes:
            there, ended = one.on_devices.result()
            self._spend("host", one.asked)
            self._spend("data", one.came)
            self._spend("transfer", one.given)
            self._spend("host", one.dispatched)
            self._spend("transfer", there)
            self._spend("compute", ended)
        self._computing -= len(passes)
        return {part: self.seconds[part] - before[part] for part in PARTS}

    def _enter(self, phase: str) -> str:
        self.now()
        outer, self._phase = self._phase, phase
        return outer

    def _spend(self, phase: str, until: float) -> None:
        spent = max(0.0, until - self._at)
        self.seconds[phase] += spent
        self._at += spent

    def _watch(self) -> None:
        while (given := self._dispatched.get()) is not None:
            times, batch, outputs = given
            try:
                jax.block_until_ready(batch)
                there = time.perf_counter()
                jax.block_until_ready(outputs)
                times.on_devices.set_result((there, time.perf_counter()))
            except Exception as error:  # of the pass; whoever reads what it gave gets it as well
                times.on_devices.set_exception(error)
            del given, batch, outputs  # the next pass may be long in coming


def _timed(passes: Iterable[Item]) -> Iterator[tuple[PassTimes, Item]]:
    left = iter(passes)
    while True:
        asked = time.perf_counter()
        with jax.profiler.TraceAnnotation("data"):
            one = next(left, None)
        if one is None:
            return
        yield PassTimes(asked, came=time.perf_counter()), one


def speed(seconds: Mapping[str, float], frames: int, flops: float, peak: float | None) -> dict[str, float]:
    """The numbers of an iteration that took these seconds: each device had so many operations, all had these frames.

    `peak` is how many operations a second a device can do; without it there is no MFU (model FLOPs utilisation).
    """
    total = sum(seconds.values())
    return {
        "frames_per_second": frames / total,
        "frames_per_second_per_device": frames / total / jax.device_count(),
        "teraflops_per_device": flops / total / 1e12,
        **({} if peak is None else {"mfu": flops / total / peak}),
        "data_wait": seconds["data"] / total,
        **{f"seconds/{part}": round(value, 6) for part, value in seconds.items()},
    }
