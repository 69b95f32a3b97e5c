"""`rvm matte` in a pipeline and on what cannot be made again: a process of its own, stopped, killed, out of disk."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from rvm_jax.cli.main import main
from tests.compiling import QUICKLY
from tests.rvm_jax import videos
from tests.rvm_jax.conftest import write_tiny


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> str:
    return str(write_tiny(tmp_path_factory.mktemp("weights")))


def run(*arguments: str, before: str = "pass", **streams: Any) -> "subprocess.Popen[bytes]":
    """The command in a process of its own, which does something before."""
    program = f"import sys; {before}; from rvm_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "XLA_FLAGS": QUICKLY}
    return subprocess.Popen(
        [sys.executable, "-c", program, "matte", *arguments], env=environment, stderr=subprocess.PIPE, **streams
    )


def count(path: Path) -> int:
    """How many frames a player shows; the last may be cut."""
    shown = 0
    with av.open(str(path)) as container, contextlib.suppress(av.InvalidDataError):
        for _ in container.decode(video=0):
            shown += 1
    return shown


def give(process: "subprocess.Popen[bytes]", frames: np.ndarray) -> Any:
    """Write frames to its standard input, which stays open."""
    assert process.stdin is not None
    output = av.open(process.stdin, "w", format="nut", options={"flush_packets": "1"})
    stream: Any = output.add_stream("rawvideo", rate=25)
    stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "rgb24"
    for frame in frames:
        output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        process.stdin.flush()
    return output


def grown(path: Path, size: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until so much of a file is on the disk."""
    while process.poll() is None and not (path.exists() and path.stat().st_size > size):
        time.sleep(0.05)


PIPES = {"nut": ("nut", "rgba"), "y4m": ("yuv4mpegpipe", "yuv444p"), "raw": (None, None)}


@pytest.mark.slow
@pytest.mark.parametrize("pipe", PIPES)
def test_a_pipeline(network, tmp_path, pipe):
    """NUT in, mattes out: the same as in a folder of pictures."""
    frames = videos.moving(6)
    options = ["--weights", network, "--background", "green" if pipe == "y4m" else "transparent"]
    with run("-", "-", "--pipe", pipe, *options, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        give(process, frames).close()
        process.stdin.close()
        sent = process.stdout.read()
        error = process.stderr.read().decode()
    assert process.returncode == 0, error
    assert error.splitlines()[-1] == "-: 6 frames"
    clip = videos.write(tmp_path / "clip.mkv", frames, codec="ffv1", pixels="bgr0")
    assert main(["matte", str(clip), str(tmp_path / "out"), *options]) == 0
    expected = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").iterdir())])
    form, pixels = PIPES[pipe]
    if form is None:
        np.testing.assert_array_equal(np.frombuffer(sent, np.uint8).reshape(expected.shape), expected)
        return
    (tmp_path / "sent").write_bytes(sent)
    with av.open(str(tmp_path / "sent"), format=form) as container:
        assert container.streams.video[0].codec_context.pix_fmt == pixels
        assert container.streams.video[0].average_rate == 25
        kind = "rgba" if pipe == "nut" else "rgb24"
        received = np.stack([frame.to_ndarray(format=kind) for frame in container.decode(video=0)])
    assert np.abs(received.astype(float) - expected).max() <= (0 if pipe == "nut" else 3)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "one signal", "two signals"])
def test_what_came_by_a_pipe_that_stalls_is_kept(network, tmp_path, end):
    noise = np.random.default_rng(0).integers(0, 256, (80, 48, 64, 3), np.uint8)
    out = tmp_path / "out.mp4"
    with run("-", str(out), "--weights", network, "--chunk", "1", stdin=subprocess.PIPE) as process:
        output = give(process, noise)
        grown(out, 100_000, process)  # all but the last second has 136 kB
        if end == "killed":
            process.kill()
        else:
            process.send_signal(signal.SIGINT)
            if end == "two signals":
                process.send_signal(signal.SIGINT)
        error = process.stderr.read().decode()
        process.wait()
        process.stdin.close()
        del output
    assert 20 <= count(out) <= 80
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    if end == "one signal":
        assert process.returncode == 130
        assert "rvm: SIGINT: closing what was written; once more leaves at once, with what is on the disk\n" in error
        assert error.splitlines()[-1] == f"rvm: stopped: {out} holds the first {count(out)} frames of -"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.webm"])
def test_a_full_disk_leaves_what_was_recorded(network, tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (100, 48, 64, 3), np.uint8)
    out = tmp_path / name
    full = "from tests.full_disk import fill; fill(300_000)"
    options = (
        ["--weights", network, "--background", "#808080", "--mbps", "8"]
        if name != "out.mov"
        else ["--weights", network]
    )
    with run("-", str(out), *options, before=full, stdin=subprocess.PIPE) as process:
        with contextlib.suppress(OSError):  # it may be gone before it has read all
            give(process, noise).close()
        with contextlib.suppress(OSError):
            process.stdin.close()
        error = process.stderr.read().decode()
    assert process.returncode == 2
    assert error.splitlines()[-1] == f"rvm: cannot write {out}: File too large; what was recorded until then is kept"
    assert 10 <= count(out) < 100


@pytest.mark.slow
def test_who_reads_a_pipe_may_leave(network, tmp_path):
    clip = videos.write(tmp_path / "clip.mp4", videos.moving(200, 96, 128))
    with run(str(clip), "-", "--weights", network, stdout=subprocess.PIPE) as process:
        process.stdout.read(1000)
        process.stdout.close()
        error = process.stderr.read().decode()
    assert process.returncode in (2, 141)
    assert "Traceback" not in error


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_is_left_on_demand(network, tmp_path):
    clip = videos.write(tmp_path / "clip.mp4", videos.moving(20, 192, 256))
    with run(str(clip), "-", "--weights", network, stdout=subprocess.PIPE) as process:
        while process.poll() is None and held(process.stdout) < 1 << 15:  # of the 192 KiB of the first frame
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        error = process.stderr.read().decode()  # until it is gone
    assert process.returncode == 130
    assert error.splitlines()[-1] == "rvm: stopped: -: what was on its way is not taken, and is lost"


def held(pipe: Any) -> int:
    """How many bytes wait in it."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
