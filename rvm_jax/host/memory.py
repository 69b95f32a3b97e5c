"""How the C library keeps freed memory: for the next frame, which needs as much."""

import ctypes
import os
import sys
from pathlib import Path

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


def return_freed_memory() -> None:
    """Give what the C library keeps back to the system: for a server, after something large is gone."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """How much memory of the machine this process takes, 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
