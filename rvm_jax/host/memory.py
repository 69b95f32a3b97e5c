"""Returning freed memory to the system: how the C library keeps it."""

import ctypes
import sys

# glibc's names for these numbers.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8

LARGE = 2**20
"""Bytes from which a block is given back to the system as soon as it is freed: frames, but nothing small."""


def return_freed_memory() -> None:
    """Keep large frames, freed by other threads than those that made them, from filling the memory.

    Left to itself, glibc keeps such blocks, in pieces, for every thread: 1.5 GB for a video of 1080p on a CPU, which
    needs 1.1. To be called before threads are started. Without glibc it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 2)
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, LARGE)
