"""Memory of the process: what the C library keeps of it, how seldom cycles are looked for, how much there is."""

import contextlib
import ctypes
import gc
import os
import sys
from pathlib import Path

# glibc's names for these numbers.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8

# Where Linux tells what a container may use: of control groups of version 2, and of version 1.
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


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


def usable_bytes() -> int | None:
    """How much memory the machine has, or its container may use; None where the system does not tell."""
    try:
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (OSError, ValueError, AttributeError):
        return None
    for path in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            found.append(int(path.read_text()))
    return min(found)
