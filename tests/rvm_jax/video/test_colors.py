"""Colours on the way from a file and into one: true in the mean, and no worse from generation to generation."""

from pathlib import Path

import av
import numpy as np
import pytest

from rvm_jax.errors import InputError
from rvm_jax.video import sink, source
from rvm_jax.video.frames import Frame
from tests.rvm_jax import videos
from tests.rvm_jax.video.test_sink import copy, frames

FINEST = {"low": 0, "medium": 0, "high": 0}
"""Which is lossless in an .mp4, so that what is seen is not the codec's."""


@pytest.fixture
def finest(monkeypatch):
    for ending in (".mp4", ".webm"):
        monkeypatch.setitem(sink.FORMATS, ending, sink.FORMATS[ending]._replace(crf=FINEST))


def lossless(path: Path, picture: np.ndarray) -> Path:
    return videos.write(path, [picture] * 2, codec="ffv1", pixels="bgr0")


def error(path: Path, picture: np.ndarray) -> np.ndarray:
    return frames(path)[0].astype(int) - picture


def blocks() -> np.ndarray:
    return np.kron(np.random.default_rng(0).integers(0, 256, (16, 24, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def smooth() -> np.ndarray:
    y, x = np.mgrid[:96, :128]
    waves = [np.sin(x / 9) * np.cos(y / 13), np.sin(y / 7 + 1), np.cos((x + y) / 11)]
    return (128 + 90 * np.stack(waves, -1)).astype(np.uint8)


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".mov"])
def test_nothing_gets_darker(tmp_path, finest, ending):
    copy(lossless(tmp_path / "a.mkv", blocks()), tmp_path / f"b{ending}")
    assert np.abs(error(tmp_path / f"b{ending}", blocks()).mean((0, 1))).max() < 0.3


def test_generations_do_not_drift(tmp_path, finest):
    path = lossless(tmp_path / "0.mkv", smooth())
    errors = []
    for number in range(1, 11):
        copy(path, path := tmp_path / f"{number}.mp4")
        errors.append(error(path, smooth()))
    assert np.abs(errors[-1].mean((0, 1))).max() < 0.3
    assert np.abs(errors[-1]).mean() < np.abs(errors[0]).mean() + 0.3


def test_a_ramp_of_colours_has_no_steps(tmp_path, finest):
    slope = np.arange(256).astype(np.uint8)
    ramp = np.stack([slope, np.full_like(slope, 128), slope[::-1]], -1)[None].repeat(64, 0)
    copy(lossless(tmp_path / "a.mkv", ramp), tmp_path / "b.mp4")
    red = frames(tmp_path / "b.mp4")[0, 32, :, 0].astype(int)
    assert np.diff(red).min() >= 0
    assert np.diff(red).max() <= 2


@pytest.mark.parametrize("ending", [".mp4", ".mov"])
def test_frames_are_marked_as_their_file_is(tmp_path, ending):
    path = tmp_path / "a.mp4"
    marked(path, primaries=9, transfer=14, matrix=9)
    copy(path, tmp_path / f"b{ending}")
    with av.open(str(tmp_path / f"b{ending}")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (9, 9, 14)


def marked(path: Path, *, primaries: int, transfer: int, matrix: int) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = videos.WIDTH, videos.HEIGHT, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = matrix, primaries, transfer
        for number, pixels in enumerate(videos.moving(2)):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def test_colours_that_cannot_be_converted_are_no_damage(tmp_path):
    path = tmp_path / "a.mp4"
    marked(path, primaries=2, transfer=2, matrix=8)
    with (
        pytest.raises(InputError, match=r"has colours that FFmpeg cannot convert \(yuv420p, matrix 8\): "),
        source.open_source(str(path)) as opened,
    ):
        assert [item for item in opened.items if isinstance(item, Frame)]
