"""Preview: mattes in a window as they are made. A program of its own draws them, and nothing waits for it."""

import contextlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rvm_jax.errors import InputError
from rvm_jax.video.backgrounds import checkerboard
from rvm_jax.video.frames import at_depth, resized

OF_SCREEN = 0.6
"""How much of the screen a picture may have, across and down."""

SECONDS_TO_CLOSE = 2.0


@contextlib.contextmanager
def open_preview() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Gives a function that shows the last frame of what became of a chunk: the `look` of `matte_video`.

    It returns at once; of what comes faster than it is drawn only the newest is shown. Who closes the window closes
    that alone.
    """
    command = [sys.executable, "-P", str(Path(__file__).with_name("window.py"))]
    # In a session of its own, where Ctrl-C does not reach it.
    window = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    pipe, answer = window.stdin, window.stdout
    assert pipe is not None
    assert answer is not None
    with window:
        said = answer.readline().decode(errors="replace").strip()
        if not said.startswith("open "):
            raise InputError(f"--preview: no window can be opened here ({said or 'Tk ended'}): leave it out")
        width, height = (OF_SCREEN * int(side) for side in said.split()[1:])
        newest: queue.Queue[Any] = queue.Queue(1)

        def show(made: Mapping[str, Any]) -> None:
            with contextlib.suppress(queue.Empty):
                newest.get_nowait()
            newest.put_nowait(next(iter(made.values())))

        def send() -> None:
            # The window may be closed; and what cannot be computed is told where it is written.
            with contextlib.suppress(OSError, RuntimeError):
                while (made := newest.get()) is not None:
                    pipe.write(_ppm(np.asarray(made)[-1], width, height))
                    pipe.flush()

        thread = threading.Thread(target=send, name="rvm-preview", daemon=True)
        thread.start()
        try:
            yield show
        finally:
            with contextlib.suppress(queue.Full):  # the last is drawn, unless the window hangs or was closed
                newest.put(None, timeout=SECONDS_TO_CLOSE if thread.is_alive() else 0)
            thread.join(SECONDS_TO_CLOSE)
            if thread.is_alive():  # the window takes nothing
                window.kill()
                thread.join()
            with contextlib.suppress(OSError):
                pipe.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                window.wait(SECONDS_TO_CLOSE)
            window.kill()  # which does nothing to what has ended


def _ppm(pixels: np.ndarray, most_width: float, most_height: float) -> bytes:
    """A picture of [H, W, C], C = 1, 3 or 4, that fits in; what is transparent in it is checkered."""
    height, width, channels = pixels.shape
    scale = min(1.0, most_width / width, most_height / height)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = resized(at_depth(pixels, np.uint8), size)
    if channels == 4:
        alpha = small[..., 3:] / np.float32(255)
        small = (small[..., :3] * alpha + checkerboard(*size)[0] * (1 - alpha)).round().astype(np.uint8)
    content = np.broadcast_to(small, (*size, 3)).tobytes()
    return f"P6 {size[1]} {size[0]} 255\n".encode() + content
