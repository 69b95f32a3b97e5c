"""Interlaced videos: no combs, and each frame at its time. HDR: a picture for a screen of BT.709."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rvm_jax.video.frames import Part
from tests.rvm_jax import videos
from tests.rvm_jax.video.test_source import read

COUNT = 20
INTERLACED = {"crf": "3", "x264-params": "interlaced=1:tff=1"}


def woven(path: Path, **options: object) -> Path:
    """A block that moves fifty times a second, in fields."""
    fields = videos.moving(2 * COUNT, 96, 128)
    upper = (np.arange(96) % 2 == 0)[:, None, None]
    frames = [np.where(upper, fields[2 * number], fields[2 * number + 1]) for number in range(COUNT)]
    return videos.write(path, frames, options=INTERLACED, **options)  # type: ignore[arg-type]


def combing(pixels: np.ndarray) -> float:
    """How much more a row differs from those beside it than they do from each other."""
    rows = pixels.astype(int)
    near = np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean()
    far = np.abs(rows[:-2] - rows[2:]).mean()
    return near / far


def test_fields_are_taken_apart(tmp_path, capsys):
    path = woven(tmp_path / "a.mp4", sound="aac")
    opened, frames, packets = read(path)
    assert capsys.readouterr().err == f"{path} is interlaced: it is deinterlaced\n"
    assert [frame.time * opened.time_base for frame in frames] == [number * Fraction(1, 25) for number in range(COUNT)]
    assert {frame.duration * opened.time_base for frame in frames} == {Fraction(1, 25)}
    assert packets
    fields = videos.moving(2 * COUNT, 96, 128)
    for number, frame in enumerate(frames):
        assert combing(frame.pixels) < 1
        assert np.abs(frame.pixels.astype(int) - fields[2 * number]).mean() < 4
    both = np.where((np.arange(96) % 2 == 0)[:, None, None], fields[0], fields[1])
    assert combing(both) > 2


def test_a_part_of_it(tmp_path):
    _, frames, _ = read(woven(tmp_path / "a.mp4"), Part(Fraction(1, 5), Fraction(3, 5)))
    assert len(frames) == 10
    assert np.abs(frames[0].pixels.astype(int) - videos.moving(11, 96, 128)[10]).mean() < 4


def test_what_is_progressive_goes_through_untouched(tmp_path, capsys):
    _, frames, _ = read(videos.write(tmp_path / "a.mp4", videos.moving(5)))
    assert len(frames) == 5
    assert capsys.readouterr().err == ""


def steps(path: Path, transfer: int, codes: np.ndarray) -> Path:
    """Gray steps of 16 pixels, whose codes are 0..1 of the transfer; 10 bits in BT.2020."""
    row = np.round(64 + codes.repeat(16) * 876).astype(np.uint16)
    frame = av.VideoFrame(len(row), 32, "yuv420p10le")
    for plane, values in zip(frame.planes, (row, *[np.full(len(row) // 2, 512, np.uint16)] * 2), strict=True):
        lines = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        lines[:, : len(values)] = values
        plane.update(lines.tobytes())
    # Of one picture alone x265 leaves the decoding time unset, unless nothing can be reordered.
    options = {"crf": "1", "x265-params": "log-level=none:bframes=0"}
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx265", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = len(row), 32, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, transfer, 1
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "transfer", "white"), [("HLG", 18, 0.75), ("PQ", 16, 0.58)])
def test_hdr_is_tone_mapped(tmp_path, capsys, kind, transfer, white):
    """`white` is the code of 203 nits, which are those of a sheet of paper (BT.2408)."""
    codes = np.linspace(0, 1, 33)
    path = steps(tmp_path / "a.mp4", transfer, codes)
    opened, (frame,), _ = read(path)
    assert capsys.readouterr().err == f"{path} is HDR ({kind}): it is tone-mapped to BT.709\n"
    assert opened.colors == (1, 1, 1)
    assert frame.pixels.dtype == np.uint16
    shown = frame.pixels[16, 8::16] / 257
    assert np.ptp(shown, axis=-1).max() <= 1  # gray stays gray
    gray = shown[:, 1]
    assert (np.diff(gray) >= 0).all()
    assert gray[0] < 0.5
    assert gray[-1] >= 250
    assert 140 < np.interp(white, codes, gray) < 200  # there is room above it for lights


@pytest.mark.parametrize(("first", "then"), [("yuv444p", "yuv420p"), ("yuv420p", "yuv444p")])
def test_fields_of_another_format_are_taken_apart_anew(tmp_path, first, then):
    """As broadcasts change between programmes: FFmpeg's filter would take one for the other, or end the process."""
    parts = [woven(tmp_path / f"{pixels}.ts", pixels=pixels) for pixels in (first, then)]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    _, frames, _ = read(path)
    assert len(frames) == 2 * COUNT
    fields = videos.moving(2 * COUNT, 96, 128)[::2]
    for frame, expected in zip(frames, [*fields, *fields], strict=True):
        assert np.abs(frame.pixels.astype(int) - expected).mean() < 5
