"""Freed memory, which the C library keeps for the next frame, and how seldom Python looks for unreachable cycles."""

import ctypes
import gc
import sys

# glibc's names for these numbers.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Let all threads take their memory from one heap, which is not given back to the system.

    Left to itself, glibc gives back the large blocks of every frame, and the system clears them anew for the next one:
    a fifth of the time of a video on a CPU (`benchmarks/matting.py`). For commands that end with their work, not for a
    server that idles. To be called before threads are started. Without glibc it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)  # never


def collect_seldom() -> None:
    """Let Python look for unreachable cycles after 100,000 new objects rather than 700.

    Importing libraries and tracing programs makes millions of objects, of which hardly one is garbage: looking for it
    took a quarter of the time before the first iteration (`benchmarks/RESULTS.md`). For commands; a library leaves the
    collector to the program that it is part of.
    """
    gc.set_threshold(100_000, 20, 20)
