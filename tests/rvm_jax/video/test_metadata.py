"""Metadata that a copy keeps: titles and times as they are, timecodes as far on as the part that is read."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from rvm_jax.video import sink, source
from rvm_jax.video.frames import Frame, Part
from rvm_jax.video.reading.metadata import advanced
from tests.rvm_jax import videos

NTSC = Fraction(30000, 1001)
TAGS = {"title": "Größe", "creation_time": "2026-11-27T12:00:00.000000Z", "timecode": "01:00:00:10"}


@pytest.mark.parametrize(
    ("timecode", "frames", "rate", "later"),
    [
        ("01:00:00:10", 0, Fraction(25), "01:00:00:10"),
        ("00:59:59:24", 1, Fraction(25), "01:00:00:00"),
        ("23:59:59:23", 1, Fraction(24000, 1001), "00:00:00:00"),
        ("00:00:59;28", 1, NTSC, "00:00:59;29"),
        ("00:00:59;29", 1, NTSC, "00:01:00;02"),  # SMPTE 12M: 0 and 1 are left out
        ("00:09:59;29", 1, NTSC, "00:10:00;00"),
        ("00:00:00;00", 17982, NTSC, "00:10:00;00"),
        ("00:00:00;00", 107892, NTSC, "01:00:00;00"),
        ("00:00:59;59", 1, Fraction(60000, 1001), "00:01:00;04"),
        ("00:01:00;02", 0, NTSC, "00:01:00;02"),
        ("00:01:59:29", 1, NTSC, "00:02:00:00"),
        ("00:00:00;00", 0, Fraction(25), None),
        ("00:00:00:25", 0, Fraction(25), None),
        ("yesterday", 0, Fraction(25), None),
    ],
)
def test_timecodes_go_on(timecode, frames, rate, later):
    assert advanced(timecode, frames, rate) == later


def tagged(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        output.metadata.update(TAGS)
        stream: Any = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = videos.WIDTH, videos.HEIGHT, "yuv420p"
        for number, pixels in enumerate(videos.moving(50)):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def tags(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        found = {key.lower(): value for key, value in container.metadata.items()}
        for stream in container.streams:
            found |= {key: value for key, value in stream.metadata.items() if key in ("timecode",)}
        return found


@pytest.mark.parametrize("ending", [".mov", ".mp4", ".mkv"])
def test_a_copy_keeps_them(tmp_path, ending):
    original = tagged(tmp_path / "a.mov")
    for part, timecode in ((Part(), "01:00:00:10"), (Part(Fraction(1)), "01:00:01:10")):
        path = tmp_path / f"{part.start}{ending}"
        with source.open_source(str(original), part) as opened, sink.open_sink(path, ending, opened, 3) as put:
            count = sum(put(item) is None for item in opened.items if isinstance(item, Frame))
        assert tags(path).items() >= (TAGS | {"timecode": timecode}).items()
        assert len(videos.timing(path)) == count
