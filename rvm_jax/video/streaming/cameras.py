"""Cameras: their names here, and what FFmpeg's devices call them and the size, rate and format to ask them for."""

import errno
import re
import sys
from pathlib import Path
from typing import NamedTuple

import av

from rvm_jax.errors import InputError

PATIENCE = 20.0
"""Seconds after which a camera that gives nothing is taken to be gone: FFmpeg would wait for it forever."""


class CameraMode(NamedTuple):
    """What to ask a camera for; what it does by itself where nothing is given."""

    size: tuple[int, int] | None = None
    """Width and height."""
    rate: float | None = None
    """Frames a second."""
    format: str | None = None
    """How it sends them: mjpeg, yuyv422, nv12 …; many cameras send large frames fast enough as mjpeg alone."""


AS_IT_IS = CameraMode()


class Device(NamedTuple):
    name: str
    form: str
    """FFmpeg's name of the kind of device."""


def device(name: str) -> Device | None:
    """The device that a name such as webcam, webcam:1 or /dev/video1 stands for; None if it is not that of a camera."""
    if re.fullmatch(r"/dev/video\d+", name):
        return Device(name, "v4l2")
    match = re.fullmatch(r"webcam(?::(.+))?", name)
    if match is None:
        return None
    which = match[1]
    if sys.platform == "darwin":
        return Device(which or "0", "avfoundation")
    if sys.platform == "win32":
        return Device(f"video={_named(which)}", "dshow")
    return Device(f"/dev/video{which or 0}", "v4l2")


def options(form: str, mode: CameraMode) -> dict[str, str]:
    """FFmpeg's options of a kind of device."""
    chosen = {}
    if mode.size is not None:
        chosen["video_size"] = f"{mode.size[0]}x{mode.size[1]}"
    if mode.rate is not None:
        chosen["framerate"] = f"{mode.rate:g}"
    elif form == "avfoundation":
        chosen["framerate"] = "30"  # by itself it asks for 29.97, which most cameras refuse
    if mode.format is not None:
        option = "input_format" if form == "v4l2" else "pixel_format"
        compressed = form == "dshow" and mode.format in ("mjpeg", "h264")
        chosen["vcodec" if compressed else option] = mode.format
    return chosen


def mend(device: Device, mode: CameraMode, error: av.FFmpegError | OSError) -> str:
    """Why a camera does not open, and what to do."""
    if isinstance(error, PermissionError):
        return "you may not use it: join its group (on Linux: sudo usermod -aG video $USER, and log in again)"
    if error.errno == errno.EBUSY:
        return "another program uses it: close that"
    if device.form == "v4l2" and not Path(device.name).exists():
        others = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video*"))
        there = ", ".join(f"webcam:{number}" for number in others)
        return f"there is no such camera: plug one in, or give {f'one of {there}' if there else 'a video'}"
    asked = "".join(f" {text}" for text in options(device.form, mode).values())
    return str(error.strerror).lower() + (f"; it may not do{asked}" if asked else "")


def _named(which: str | None) -> str:
    """DirectShow knows cameras by their names alone, so a number, from 0 on, is looked up."""
    if which is not None and not which.isdecimal():
        return which
    found = [one.name for one in av.enumerate_input_devices("dshow") if "video" in one.media_types]
    number = int(which or 0)
    if number >= len(found):
        names = ", ".join(found) or "none"
        raise InputError(f"webcam{'' if which is None else f':{which}'}: there is no such camera; there are: {names}")
    return found[number]
