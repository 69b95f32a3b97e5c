"""Progress reporting on stderr: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Collection, Iterator
from typing import Self, TypeVar

from tqdm import tqdm

SECONDS_IN_SILENCE = 2.0
SECONDS_BETWEEN_LINES = 30.0

Item = TypeVar("Item")


class Progress:
    """How far some work is, how fast it goes and how long it will take.

    Args:
        name: Of the work.
        unit: Of what is counted, as a plural.
        total: How many there are to be, if that is known.
        reused: How many there were already.
    """

    def __init__(self, name: str, unit: str = "frames", total: int | None = None, reused: int = 0) -> None:
        self._bar = tqdm(initial=reused, total=total, desc=name, unit=f" {unit}", disable=None)  # only on a terminal
        self._name, self._unit, self._total, self._reused = name, unit, total, reused
        self._done = reused
        self._start = self._printed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, more: int) -> None:
        """So many more are done."""
        self.update(self._done + more)

    def update(self, done: int, total: int | None = None, frames: int | None = None) -> None:
        """So many are done; of so many, if that is known by now; with so many frames, if something else is counted."""
        self._done = done
        self._total = self._total if total is None else max(total, done)
        now = time.monotonic()
        spent = max(now - self._start, 1e-3)
        counted, unit = (done - self._reused, self._unit) if frames is None else (frames, "frames")
        speed = f"{counted / spent:.1f} {unit}/s"
        if not self._bar.disable:
            self._bar.total = self._total
            if frames is not None:
                self._bar.set_postfix_str(speed, refresh=False)
            self._bar.update(done - self._bar.n)
        elif now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            of, left = "", ""
            if self._total is not None:
                seconds = spent * (self._total - done) / max(done - self._reused, 1)
                of, left = f" of {self._total}", f", {tqdm.format_interval(seconds)} left"
            print(f"{self._name}: {done}{of} {self._unit}, {speed}{left}", file=sys.stderr, flush=True)


def with_progress(clips: Collection[Item], where: object, doing: str = "looking at") -> Iterator[Item]:
    """The clips, one after the other. Says what goes on once that has taken longer than a moment."""
    text = f"{doing} {where}"
    bar = tqdm(clips, desc=text, unit="clip", leave=False, delay=SECONDS_IN_SILENCE, disable=None)
    start, said = time.monotonic(), not bar.disable
    for clip in bar:
        if not said and time.monotonic() - start >= SECONDS_IN_SILENCE:
            said = True
            print(f"{text}: {len(clips)} clips", file=sys.stderr, flush=True)
        yield clip
