"""A camera where there is none: a pipe with raw frames, read by FFmpeg's device for those."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rvm_jax.video.streaming import cameras
from rvm_jax.video.streaming.cameras import CameraMode, Device

MODE = CameraMode((64, 48), 25, "rgb24")
OPTIONS: Any = {"camera_size": (64, 48), "camera_rate": 25, "camera_format": "rgb24"}


@contextlib.contextmanager
def plugged_in(
    folder: Path, frames: np.ndarray, monkeypatch: Any, then: Callable[[], Any] = lambda: None
) -> Iterator[None]:
    """`webcam` gives these frames; after them `then` is called, and when that returns the camera is unplugged."""
    pipe = folder / "video0"
    os.mkfifo(pipe)
    device = cameras.device
    monkeypatch.setattr(
        cameras, "device", lambda name: Device(str(pipe), "rawvideo") if name == "webcam" else device(name)
    )

    def give() -> None:
        with contextlib.suppress(BrokenPipeError), pipe.open("wb") as file:
            for frame in frames:
                file.write(frame.tobytes())
                file.flush()
            then()

    thread = threading.Thread(target=give, daemon=True)
    thread.start()
    yield
    thread.join(20)
    assert not thread.is_alive()
