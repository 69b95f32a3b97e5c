"""Time bases and timestamps of video files: exact, put back where a file has rounded them, continuous across joints."""

from fractions import Fraction
from math import lcm
from typing import NamedTuple

FALL = 1  # seconds by which times fall back at least where something else begins


class Clock(NamedTuple):
    """How a file counts time."""

    ticks: Fraction
    """Seconds of one tick of the frames."""
    origin: int
    """The tick at which the first of its streams starts."""
    rate: Fraction

    def seconds(self, time: int, base: Fraction) -> Fraction:
        return time * base - self.origin * self.ticks


class Joints:
    """What to add where the times of a file fall back, because it was put together from several: they go on as before.

    Its streams do so one after the other, and all of them by as much as the first.
    """

    def __init__(self) -> None:
        self._shifts = [Fraction(0)]
        self._parts: dict[int, int] = {}
        self._reached: dict[int, Fraction] = {}

    def shift(self, stream: int, time: Fraction, step: Fraction) -> Fraction | None:
        """What to add to a time of a stream, in seconds; None if it had got there before its joint.

        `step` is how long the frame or packet lasts.
        """
        part, reached = self._parts.get(stream, 0), self._reached.get(stream, time)
        if time + self._shifts[part] < reached - FALL:
            part += 1
            if part == len(self._shifts):
                self._shifts.append(max(self._reached.values()) + step - time)
        moved = time + self._shifts[part]
        if part and moved <= reached:
            return None
        self._parts[stream] = part
        self._reached[stream] = max(reached, moved)
        return self._shifts[part]


def time_base_of(clock: Clock) -> Fraction:
    """The time base to give frames in.

    Matroska and others round times to milliseconds. In one that has both these and the frame rate, frames can be put
    back to where they were before they were rounded.
    """
    if clock.ticks != Fraction(1, 1000) or (1 / clock.rate / clock.ticks).denominator == 1:
        return clock.ticks
    both = lcm(1000, clock.rate.numerator)
    return Fraction(1, both) if both < 10**8 else clock.ticks


def to_time_base(ticks: int, clock: Clock, time_base: Fraction) -> int:
    """A time or duration in the ticks of `clock`, in the time base to give it in (see `time_base_of`).

    If that is a finer one, times less than a tick from where the frame rate would have them are put there.
    """
    finer = clock.ticks / time_base
    frame_time = 1 / clock.rate / time_base
    exact = ticks * finer
    nearest = round(exact / frame_time) * frame_time
    return round(nearest if finer != 1 and abs(nearest - exact) < finer else exact)
