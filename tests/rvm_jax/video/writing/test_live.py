"""Mattes to a stream and to a virtual camera: what arrives there."""

import socket
import sys
import threading
import time
from fractions import Fraction
from types import ModuleType, SimpleNamespace

import av
import numpy as np
import pytest

from rvm_jax.errors import InputError
from rvm_jax.video.frames import Colors, Source
from rvm_jax.video.matting import matte_video
from rvm_jax.video.writing import live
from tests.rvm_jax import videos
from tests.rvm_jax.video import fake_camera


@pytest.fixture
def clip(tmp_path):
    return videos.write(tmp_path / "clip.mp4", videos.moving(12), rate=100, sound="aac")


def test_a_stream_gets_the_matte_and_the_sound(matte, clip, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        received = bytearray()

        def receive():
            connection, _ = server.accept()
            with connection:
                while part := connection.recv(1 << 16):
                    received.extend(part)

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        done = matte_video(clip, f"tcp://127.0.0.1:{server.getsockname()[1]}", weights=matte, background="#00ff00")
        thread.join(20)
    assert done.frames == 12
    matte_video(clip, tmp_path / "file.mp4", weights=matte, background="#00ff00")
    (tmp_path / "received.ts").write_bytes(received)
    with av.open(str(tmp_path / "received.ts")) as sent, av.open(str(tmp_path / "file.mp4")) as file:
        assert [stream.type for stream in sent.streams] == ["video", "audio"]
        pairs = zip(sent.decode(video=0), file.decode(video=0), strict=True)
        for one, other in pairs:
            difference = one.to_ndarray(format="rgb24").astype(float) - other.to_ndarray(format="rgb24")
            assert np.abs(difference).mean() < 6


def test_nobody_at_the_other_end_is_told(matte, clip):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError, match=f"^cannot write rtmp://127.0.0.1:{port}/live: "):
        matte_video(clip, f"rtmp://127.0.0.1:{port}/live", weights=matte)


class Camera:
    """What pyvirtualcam gives."""

    def __init__(self, width, height, fps, *, device=None):
        if device == "none":
            raise RuntimeError("'v4l2loopback' backend: no device\n  found")
        self.given = (width, height, fps, device)
        self.frames = []
        Camera.last = self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def send(self, frame):
        assert frame.dtype == np.uint8
        assert frame.flags["C_CONTIGUOUS"]
        self.frames.append(frame)


@pytest.fixture
def pyvirtualcam(monkeypatch):
    module = ModuleType("pyvirtualcam")
    module.Camera = Camera
    monkeypatch.setitem(sys.modules, "pyvirtualcam", module)


def test_a_virtual_camera_gets_frames_at_their_times(matte, clip, pyvirtualcam, monkeypatch):
    slept = []
    monkeypatch.setattr(live, "time", SimpleNamespace(sleep=slept.append, monotonic=lambda: 7.0))  # no time passes
    matte_video(clip, "virtual:/dev/video9", weights=matte)
    assert Camera.last.given == (64, 48, 100, "/dev/video9")
    assert [frame.shape for frame in Camera.last.frames] == [(48, 64, 3)] * 12
    assert Camera.last.closed
    assert slept == pytest.approx([number / 100 for number in range(12)])


def test_what_is_missing_for_a_virtual_camera_is_told(matte, clip, pyvirtualcam, monkeypatch):
    with pytest.raises(
        InputError, match=r"^virtual:none: there is no virtual camera \('v4l2loopback' backend: no device f"
    ):
        matte_video(clip, "virtual:none", weights=matte)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(InputError, match=r"^virtual needs pyvirtualcam: pip install 'rvm-jax\[camera\]'$"):
        matte_video(clip, "virtual", weights=matte)


def test_of_a_live_source_only_the_newest_frame_is_sent(matte, tmp_path, pyvirtualcam, monkeypatch):
    """The first frame is not done before all have come: then only the last is left to be matted."""
    frames = videos.moving(30)
    all_read = threading.Event()
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=time.monotonic))  # frames of a camera are not held back
    send = Camera.send

    def send_late(self, frame):
        if not self.frames:
            assert all_read.wait(20)
        send(self, frame)

    monkeypatch.setattr(Camera, "send", send_late)
    with fake_camera.plugged_in(tmp_path, frames, monkeypatch, then=all_read.set):
        done = matte_video("webcam", "virtual", weights=matte, **fake_camera.OPTIONS)
    assert done.frames + done.dropped == 30
    assert done.dropped > 0
    assert len(Camera.last.frames) == done.frames
    assert done.latency is not None


def test_who_takes_nothing_any_more_is_left(matte, clip, pyvirtualcam, monkeypatch):
    monkeypatch.setattr(live, "PATIENCE", 0.2)
    released = threading.Event()
    monkeypatch.setattr(Camera, "send", lambda self, frame: released.wait(20))
    with pytest.raises(InputError, match=r"^virtual has taken nothing for 0\.2 s: look whether who receives it still "):
        matte_video(clip, "virtual", weights=matte)
    assert not released.is_set()
    released.set()


def test_who_takes_nothing_does_not_keep_one_from_stopping(matte, clip, pyvirtualcam, monkeypatch):
    monkeypatch.setattr(live, "PATIENCE_WHEN_STOPPED", 0.2)
    released = threading.Event()
    monkeypatch.setattr(Camera, "send", lambda self, frame: released.wait(20))
    with pytest.raises(InputError, match=r"^virtual: what was on its way is not taken, and is lost$"):
        matte_video(clip, "virtual", weights=matte, stop=lambda: True)
    released.set()


def test_a_pipe_may_rest_which_is_told_once(monkeypatch, capsys):
    delivery = live.Delivery("-", lambda: False)

    def check_while_it_rests(item):
        for _ in range(3):
            delivery.check()
        monkeypatch.setattr(live, "PATIENCE", -1.0)
        for _ in range(3):
            delivery.check()

    delivery.watched(check_while_it_rests)(None)
    delivery.check()
    assert capsys.readouterr().err == "rvm: nobody reads what is written to standard output: waiting for it\n"


def test_nvenc_is_refused_where_it_is_not(matte, clip, tmp_path):
    with pytest.raises(InputError, match=r"^--encoder nvenc is given, but nothing is written as H.264"):
        matte_video(clip, tmp_path / "out.mov", weights=matte, encoder="nvenc")
    with pytest.raises(InputError, match=r"^--encoder nvenc: no NVIDIA encoder answers here "):
        matte_video(clip, tmp_path / "out.mp4", weights=matte, encoder="nvenc")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def source(**options):
    sizes = {"height": 48, "width": 64, "time_base": Fraction(1, 25), "rate": Fraction(25), "length": None}
    others = {"items": iter(()), "colors": Colors(), "pixel_aspect": Fraction(1), "sounds": ()}
    return Source("in", **(sizes | others | options))


def test_nvenc_keeps_what_streams_need():
    """Frames in order, which come out when they go in, and key frames for who comes later."""
    whole = live.form(".mp4", "nvenc", source(), growing=False)
    assert whole.codec == "h264_nvenc"
    assert whole.options["bf"] == "0"
    for one in (live.form(".mp4", "nvenc", source(), growing=True), live.form("flv", "nvenc", source(), growing=False)):
        assert one.options.items() >= {"bf": "0", "g": "60", "zerolatency": "1", "delay": "0"}.items()
    with pytest.raises(InputError, match=r"--encoder nvenc makes H\.264, which holds no HDR"):
        live.form(".mp4", "nvenc", source(deep=True, colors=Colors(9, 9, 18)), growing=False)
