"""What a person who waits is told, on stderr: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from tqdm import tqdm

SECONDS_IN_SILENCE = 2.0
SECONDS_BETWEEN_LINES = 30.0

Item = TypeVar("Item")


def looking_at(clips: Collection[Item], where: object, doing: str = "looking at") -> Iterator[Item]:
    """The clips, one after the other. Says what goes on once that has taken longer than a moment."""
    text = f"{doing} {where}"
    bar = tqdm(clips, desc=text, unit="clip", leave=False, delay=SECONDS_IN_SILENCE, disable=None)
    begin, told = time.monotonic(), not bar.disable
    for clip in bar:
        if not told and time.monotonic() - begin >= SECONDS_IN_SILENCE:
            told = True
            print(f"{text}: {len(clips)} clips", file=sys.stderr, flush=True)
        yield clip


def preparing(done: int, total: int) -> Callable[[int, int], None]:
    """To be called with how many more clips and frames are done."""
    bar = tqdm(initial=done, total=total, desc="preparing", unit="clip", disable=None)  # None: only on a terminal
    begin = last = time.monotonic()
    reused, frames = done, 0

    def add(clips: int, more: int) -> None:
        nonlocal done, frames, last
        done, frames = done + clips, frames + more
        now = time.monotonic()
        spent = max(now - begin, 1e-3)
        rate = f"{frames / spent:.1f} frames/s"
        bar.set_postfix_str(rate, refresh=False)
        bar.update(clips)
        if done == total:
            bar.close()
        if bar.disable and (now - last > SECONDS_BETWEEN_LINES or done == total):
            last = now
            left = tqdm.format_interval(spent * (total - done) / max(done - reused, 1))
            print(f"preparing: {done} of {total} clips, {rate}, {left} left", file=sys.stderr, flush=True)

    return add
