"""What a camera gave is kept, whatever ends it."""

import threading

import av
import jax
import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video import matting
from rvm_jax.video.matting import VideoResult, matte_video
from rvm_jax.video.streaming import cameras
from tests.rvm_jax import videos
from tests.rvm_jax.video import fake_camera

OPTIONS = fake_camera.OPTIONS


def count(path) -> int:
    if path.is_dir():
        return len([Image.open(picture).load() for picture in path.iterdir()])
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("name", ["seen.mp4", "seen.mov", "seen.webm", "seen"])
def test_what_a_camera_gave_until_it_was_unplugged(matte, tmp_path, monkeypatch, name):
    with fake_camera.plugged_in(tmp_path, videos.moving(30), monkeypatch):
        done = matte_video("webcam", tmp_path / name, weights=matte, **OPTIONS)
    assert done == VideoResult(30, complete=True)
    assert count(tmp_path / name) == 30


@pytest.mark.parametrize("name", ["seen.mp4", "seen.mov", "seen.webm", "seen"])
def test_it_can_be_played_while_it_is_recorded(matte, tmp_path, monkeypatch, name):
    """As it is on the disk when the process is killed: all but the last second."""
    unplug = threading.Event()
    found = []

    def look(done, _):
        if done == 100:
            found.append(count(tmp_path / name))
            unplug.set()

    with fake_camera.plugged_in(tmp_path, videos.moving(100), monkeypatch, then=lambda: unplug.wait(20)):
        done = matte_video("webcam", tmp_path / name, weights=matte, progress=look, chunk=1, **OPTIONS)
    assert done.frames == count(tmp_path / name) == 100
    if name in ("seen.mp4", "seen.mov"):
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].frames == 100  # in the end it has an index
    assert found[0] >= 100 - 25 - 2 * matting.QUEUED


def test_a_camera_that_stalls_is_left_on_demand(matte, tmp_path, monkeypatch):
    unplug = threading.Event()
    read, asked = 0, []

    def stop():
        """Once nothing has come for long: after the last frame it is asked again and again."""
        asked.append(read)
        return asked[-3:] == [10, 10, 10]

    def progress(done, _):
        nonlocal read
        read = done

    with fake_camera.plugged_in(tmp_path, videos.moving(10), monkeypatch, then=lambda: unplug.wait(20)):
        done = matte_video("webcam", tmp_path / "seen.mp4", weights=matte, progress=progress, stop=stop, **OPTIONS)
        assert not unplug.is_set()
        assert count(tmp_path / "seen.mp4") == done.frames == 10
        unplug.set()
    assert not done.complete


def test_a_camera_that_never_gives_a_frame_is_left_on_demand(matte, tmp_path, monkeypatch):
    unplug = threading.Event()
    with fake_camera.plugged_in(tmp_path, videos.moving(0), monkeypatch, then=lambda: unplug.wait(20)):
        done = matte_video("webcam", tmp_path / "seen.mp4", weights=matte, stop=lambda: True, **OPTIONS)
        unplug.set()
    assert done == VideoResult(0, complete=False)
    assert [path.name for path in tmp_path.iterdir()] == ["video0"]


def test_a_camera_that_gives_nothing_for_long_is_taken_to_be_gone(matte, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cameras, "PATIENCE", 0.3)
    unplug = threading.Event()
    with fake_camera.plugged_in(tmp_path, videos.moving(10), monkeypatch, then=lambda: unplug.wait(20)):
        done = matte_video("webcam", tmp_path / "seen.mp4", weights=matte, **OPTIONS)
        unplug.set()
    assert done == VideoResult(10, complete=True)
    assert count(tmp_path / "seen.mp4") == 10
    assert capsys.readouterr().err == "webcam has given nothing for 0.3 s: it is taken to be gone\n"


def test_what_was_recorded_is_kept_if_the_device_fails(matte, tmp_path, monkeypatch):
    compute, calls = matting.matte_chunk, []

    def fail_at_last(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 8:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
        return compute(*arguments, **options)

    monkeypatch.setattr(matting, "matte_chunk", fail_at_last)
    message = (
        r"^webcam: the memory of cpu is too small for 2 frames of 64×48 at once: give --chunk 1, a smaller "
        r"--downsample-ratio or --resize, or --precision bfloat16; what was recorded until then is kept$"
    )
    with (
        fake_camera.plugged_in(tmp_path, videos.moving(30), monkeypatch),
        pytest.raises(InputError, match=message),
    ):
        matte_video("webcam", tmp_path / "seen.webm", weights=matte, chunk=2, **OPTIONS)
    assert 0 < count(tmp_path / "seen.webm") <= 14


def test_too_little_memory_is_told_with_the_mend(matte, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")

    clip = videos.write(tmp_path / "clip.mp4", videos.moving(5))
    monkeypatch.setattr(matting, "matte_chunk", fail)
    with pytest.raises(InputError, match=r"clip.mp4: the memory of cpu is too small for 1 frame of 64×48 at once"):
        matte_video(clip, tmp_path / "out.mp4", weights=matte, chunk=1)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_it_is_kept_on_a_second_ctrl_c(matte, tmp_path):
    """Of a file as well: the first would have closed it after what is on its way."""
    clip = videos.write(tmp_path / "clip.mp4", videos.moving(60))
    asked = []

    def interrupt_again(done, _):
        if done == 40:
            asked.append(done)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matte_video(clip, tmp_path / "out.mov", weights=matte, progress=interrupt_again, stop=lambda: bool(asked))
    assert 30 <= count(tmp_path / "out.mov") <= 40
    asked.clear()
    with pytest.raises(KeyboardInterrupt):  # of a program that asks no `stop`
        matte_video(clip, tmp_path / "b.mov", weights=matte, progress=interrupt_again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mov"]


def test_what_exists_is_overwritten_by_a_recording_only_if_forced(matte, tmp_path, monkeypatch):
    out = tmp_path / "seen.mp4"
    out.write_text("precious")
    with pytest.raises(InputError, match=r"seen.mp4 exists already"):
        matte_video("webcam", out, weights=matte, **OPTIONS)
    with fake_camera.plugged_in(tmp_path, videos.moving(5), monkeypatch):
        matte_video("webcam", out, weights=matte, force=True, **OPTIONS)
    assert count(out) == 5


def test_frames_are_those_of_the_camera(matte, tmp_path, monkeypatch):
    frames = videos.moving(8)
    with fake_camera.plugged_in(tmp_path, frames, monkeypatch):
        matte_video("webcam", tmp_path / "seen", weights=matte, **OPTIONS)
    clip = videos.write(tmp_path / "clip.mkv", frames, codec="ffv1", pixels="bgr0")
    matte_video(clip, tmp_path / "read", weights=matte)
    for one, other in zip(sorted((tmp_path / "seen").iterdir()), sorted((tmp_path / "read").iterdir()), strict=True):
        np.testing.assert_array_equal(Image.open(one), Image.open(other))
