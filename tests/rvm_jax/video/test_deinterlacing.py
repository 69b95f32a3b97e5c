"""Interlaced videos: no combs, and each frame at its time."""

from fractions import Fraction
from pathlib import Path

import numpy as np

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
