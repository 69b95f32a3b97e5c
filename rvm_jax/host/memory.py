"""How the C library keeps freed memory: for the next frame, which needs as much."""

import ctypes
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
