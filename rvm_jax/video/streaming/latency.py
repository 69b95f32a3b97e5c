"""Latency: how long frames take from when they are read to when they are written."""

import statistics
import time
from collections import deque

REMEMBERED = 1000
"""Frames over which the median is taken, of a call that may last for hours."""


class Tally:
    """How many frames were written and how many left out because newer ones had come, and how late they were."""

    def __init__(self) -> None:
        self.written = self.dropped = 0
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, frames: int, dropped: int, arrived: float) -> None:
        """So many more are written now, of which the last was read at the monotonic time `arrived`."""
        self.written += frames
        self.dropped += dropped
        if frames:
            self._seconds.append(time.monotonic() - arrived)

    @property
    def latency(self) -> float | None:
        """The median in seconds, of the last frames."""
        return statistics.median(self._seconds) if self._seconds else None
