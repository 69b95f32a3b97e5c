"""Cameras by their names on every system, and what they are asked for."""

import errno
import re
import sys
from types import SimpleNamespace

import av
import numpy as np
import pytest

from rvm_jax.errors import InputError
from rvm_jax.video import source
from rvm_jax.video.frames import Frame
from rvm_jax.video.streaming import cameras
from rvm_jax.video.streaming.cameras import CameraMode, Device
from tests.rvm_jax import videos
from tests.rvm_jax.video import fake_camera


@pytest.mark.parametrize(
    ("platform", "name", "expected"),
    [
        ("linux", "webcam", Device("/dev/video0", "v4l2")),
        ("linux", "webcam:2", Device("/dev/video2", "v4l2")),
        ("linux", "/dev/video1", Device("/dev/video1", "v4l2")),
        ("darwin", "webcam", Device("0", "avfoundation")),
        ("darwin", "webcam:1", Device("1", "avfoundation")),
        ("win32", "webcam", Device("video=Built-in", "dshow")),
        ("win32", "webcam:1", Device("video=USB camera", "dshow")),
        ("win32", "webcam:USB camera", Device("video=USB camera", "dshow")),
        ("linux", "webcam.mp4", None),
        ("linux", "rtsp://127.0.0.1/webcam", None),
    ],
)
def test_names_of_cameras(platform, name, expected, monkeypatch):
    kinds = {"Built-in": ["video"], "Microphone": ["audio"], "USB camera": ["video", "audio"]}
    found = [SimpleNamespace(name=name, media_types=kinds) for name, kinds in kinds.items()]
    monkeypatch.setattr(av, "enumerate_input_devices", lambda form: found if form == "dshow" else [])
    monkeypatch.setattr(sys, "platform", platform)
    assert cameras.device(name) == expected


def test_windows_tells_which_cameras_there_are(monkeypatch):
    found = [SimpleNamespace(name="Built-in", media_types=["video"])]
    monkeypatch.setattr(av, "enumerate_input_devices", lambda form: found)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(InputError, match=r"^webcam:1: there is no such camera; there are: Built-in$"):
        cameras.device("webcam:1")


@pytest.mark.parametrize(
    ("form", "mode", "expected"),
    [
        ("v4l2", CameraMode(), {}),
        ("avfoundation", CameraMode(), {"framerate": "30"}),
        ("v4l2", CameraMode((1280, 720), 60, "mjpeg"), ("1280x720", "60", "input_format", "mjpeg")),
        ("avfoundation", CameraMode((1280, 720), 29.97, "nv12"), ("1280x720", "29.97", "pixel_format", "nv12")),
        ("dshow", CameraMode((1280, 720), 30, "mjpeg"), ("1280x720", "30", "vcodec", "mjpeg")),
        ("dshow", CameraMode((1280, 720), 30, "yuyv422"), ("1280x720", "30", "pixel_format", "yuyv422")),
    ],
)
def test_what_a_camera_is_asked_for(form, mode, expected):
    if isinstance(expected, tuple):
        size, rate, option, value = expected
        expected = {"video_size": size, "framerate": rate, option: value}
    assert cameras.options(form, mode) == expected


def test_a_camera_gives_frames_of_the_size_and_rate_it_was_asked_for(tmp_path, monkeypatch):
    frames = videos.moving(10)
    with (
        fake_camera.plugged_in(tmp_path, frames, monkeypatch),
        source.open_source("webcam", camera=fake_camera.MODE) as opened,
    ):
        assert (opened.width, opened.height, opened.rate) == (64, 48, 25)
        read = [item.pixels for item in opened.items if isinstance(item, Frame)]
    np.testing.assert_array_equal(read, frames)


@pytest.mark.parametrize(
    ("error", "there", "expected"),
    [
        (OSError(errno.ENOENT, "No such file"), False, "there is no such camera: plug one in, or give "),
        (PermissionError(errno.EACCES, "Denied"), True, "you may not use it: join its group "),
        (OSError(errno.EBUSY, "Busy"), True, "another program uses it: close that"),
        (OSError(errno.EINVAL, "Invalid argument"), True, "invalid argument; it may not do 64x48 25 rgb24"),
    ],
)
def test_why_a_camera_does_not_open_is_told(error, there, expected, tmp_path, monkeypatch):
    path = tmp_path / "video0"
    if there:
        path.touch()

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(av, "open", fail)
    monkeypatch.setattr(cameras, "device", lambda name: Device(str(path), "v4l2"))
    with (
        pytest.raises(InputError, match=rf"^webcam \(.*video0\): {re.escape(expected)}"),
        source.open_source("webcam", camera=fake_camera.MODE),
    ):
        pass


def test_what_is_no_camera_is_not_asked(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.moving(2))
    with (
        pytest.raises(InputError, match=r"a.mp4 is no camera: --camera-size, --camera-rate and --camera-format"),
        source.open_source(str(path), camera=fake_camera.MODE),
    ):
        pass
