"""Plates that fit, that are scaled, and that are refused in one line; the median of a video in bounded memory."""

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video import source
from rvm_jax.video.frames import Frame, Part, Size
from rvm_jax.video.plates import opening
from rvm_jax.video.plates.opening import spread_frames, temporal_median
from tests.rvm_jax import videos

REMEMBERS = SimpleNamespace(name="rvm_tiny", needs=(), keeps_state=True)
FORGETS = SimpleNamespace(name="modnet", needs=(), keeps_state=False)
COMPARES = SimpleNamespace(name="bgmv2_resnet50", needs=("background",), keeps_state=False)


@pytest.mark.parametrize(
    ("plate", "align", "name", "message"),
    [
        (None, True, "a.mp4", "--align-plate without a plate: give --plate FILE as well"),
        ("auto", True, "a.mp4", "--plate auto is for a camera that stands still"),
        ("auto", False, "-", "--plate auto reads a video twice, and - can be read once"),
        ("webcam", False, "a.mp4", "--plate webcam: expected a file, a picture or a video"),
        ("nothing.png", False, "a.mp4", "nothing.png does not exist: expected a picture or a video of the view"),
    ],
)
def test_what_cannot_be_done_is_refused(plate, align, name, message):
    with pytest.raises(InputError) as caught:
        opening.check_options(plate, align, name)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("matte", "plate", "smooth", "message"),
    [
        (REMEMBERS, None, True, "rvm_tiny remembers the frames before, and does not flicker"),
        (FORGETS, "p.png", False, "modnet takes no clean plate: leave --plate out"),
        (COMPARES, None, False, "bgmv2_resnet50 needs a clean plate: give --plate FILE, a picture"),
    ],
)
def test_what_the_network_does_not_take_is_refused(matte, plate, smooth, message):
    with pytest.raises(InputError) as caught:
        opening.check_network(matte, plate, smooth)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def fitted(pixels, size=(48, 64), align=False):
    return opening.fitted(pixels, "--plate p.png", size, "a.mp4", align)


def test_a_plate_of_the_same_shape_is_scaled_and_that_is_said(capsys):
    plate = videos.moving(1, 96, 128)[0]
    assert fitted(plate).shape == (48, 64, 3)
    assert capsys.readouterr().err == "rvm: --plate p.png is scaled from 128×96 to 64×48 pixels\n"
    assert fitted(plate, (96, 128)) is plate
    assert capsys.readouterr().err == ""


def test_one_of_another_shape_is_refused_unless_it_is_aligned():
    with pytest.raises(InputError, match=r"--plate p.png has 128×72 pixels, and a.mp4 64×48, another shape: crop one"):
        fitted(videos.moving(1, 72, 128)[0])
    assert fitted(videos.moving(1, 72, 128)[0], align=True).shape == (36, 64, 3)
    assert fitted(videos.moving(1, 36, 64)[0], (90, 120), align=True).shape == (36, 64, 3)  # no finer than it is


def test_a_black_plate_is_refused():
    for dtype, black in ((np.uint8, 8), (np.uint16, 8 * 257)):
        with pytest.raises(InputError, match=r"--plate p.png is black: expected the same view as in a.mp4"):
            fitted(np.full((48, 64, 3), black, dtype))
        fitted(np.full((48, 64, 3), black + 1, dtype))


def test_a_plate_that_is_no_picture_is_told(tmp_path):
    with pytest.raises(InputError, match=r"nothing.png does not exist"):
        opening.read_plate(str(tmp_path / "nothing.png"))


def test_the_median_of_a_video_has_nobody_in_it(tmp_path, monkeypatch):
    """Someone who walks by, in a clip of which every frame but three in eight are left out to save memory."""
    monkeypatch.setattr(opening, "MOST_BYTES", 48 * 64 * 3 * 6)
    frames = videos.moving(17)
    clip = videos.write(tmp_path / "clip.mkv", frames, codec="ffv1", pixels="bgr0")
    with source.open_source(str(clip)) as video:
        middle, count = temporal_median(spread_frames(video, 3))
    assert count == 5  # of the frames 0, 4, 8, 12 and 16
    assert (middle == np.median(frames, axis=0)).all()  # the block is where it is in a third of the frames


def test_no_more_frames_are_kept_than_memory_allows(monkeypatch):
    alive: set[int] = set()
    most = 0

    class Pixels(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def frames():
        nonlocal most
        for number in range(40):
            pixels = np.full((4, 4, 3), number, np.uint8).view(Pixels)
            alive.add(id(pixels))
            most = max(most, len(alive))
            yield pixels

    monkeypatch.setattr(opening, "MOST_BYTES", 4 * 4 * 3 * 6)
    items = (Frame(pixels, 0, 1, "") for pixels in frames())
    video = SimpleNamespace(height=4, width=4, name="a.mp4", deep=False, length=None, spread=None, items=items)
    middle, count = temporal_median(spread_frames(video, 3))
    assert most <= 8  # six, one that comes, and one that goes
    assert (count, int(middle[0, 0, 0])) == (5, 16)


def test_a_picture_has_no_median(tmp_path):
    Image.fromarray(videos.moving(1)[0]).save(tmp_path / "one.png")
    with (
        source.open_source(str(tmp_path / "one.png")) as video,
        pytest.raises(InputError, match=r"one.png has 1 frame: --plate auto wants 3; give --plate FILE"),
    ):
        spread_frames(video, 3)


def a_folder(path, frames):
    path.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{number}.png")
    return path


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_of_a_long_video_frames_are_read_that_are_evenly_spread(tmp_path, monkeypatch, capsys, kind):
    """From key frames that are farther apart than these are, and nearer; nothing is read in order."""
    frames = np.repeat(np.arange(60, dtype=np.uint8)[:, None, None, None], 3, -1) * np.ones((48, 64, 1), np.uint8) * 4
    clips = {
        "video": lambda: videos.write(tmp_path / "clip.mp4", frames, options={"crf": "0", "g": "25"}),
        "folder": lambda: a_folder(tmp_path / "clip", frames),
    }
    monkeypatch.setattr(opening, "LONG", 20)
    monkeypatch.setattr(opening, "MOST_BYTES", 48 * 64 * 3 * 6)
    rate = Fraction(25)
    name = str(clips[kind]())
    for start, expected in ((0, [5, 15, 25, 35, 45, 55]), (Fraction(36, 25), [38, 42, 46, 50, 54, 58])):
        with source.open_source(name, Part(start=Fraction(start)), rate=rate) as video:
            kept = spread_frames(replace(video, items=iter(())), 3)
        assert [int(pixels.mean() / 4 + 0.5) for pixels in kept] == expected
    with source.open_source(name, Part(size=Size(32)), rate=rate) as video:
        assert {pixels.shape for pixels in spread_frames(video, 3)} == {(24, 32, 3)}
    assert capsys.readouterr().err == ""


def test_a_long_video_without_an_index_is_read_whole(tmp_path, monkeypatch):
    """MPEG-TS is entered at any packet, and what is decoded begins with the key frame after it."""
    frames = np.repeat(np.arange(60, dtype=np.uint8)[:, None, None, None], 3, -1) * np.ones((48, 64, 1), np.uint8) * 4
    clip = videos.write(tmp_path / "clip.ts", frames, options={"crf": "0", "g": "25"})
    monkeypatch.setattr(opening, "LONG", 20)
    monkeypatch.setattr(opening, "MOST_BYTES", 48 * 64 * 3 * 6)
    for start, expected in ((0, [0, 16, 32, 48]), (Fraction(36, 25), [36, 40, 44, 48, 52, 56])):
        with source.open_source(str(clip), Part(start=Fraction(start))) as video:
            kept = spread_frames(video, 3)
        assert [int(pixels.mean() / 4 + 0.5) for pixels in kept] == expected


def test_reading_stops_on_demand(tmp_path):
    frames = videos.moving(9)
    clip = videos.write(tmp_path / "clip.mkv", frames, codec="ffv1", pixels="bgr0")
    asked = []
    with source.open_source(str(clip)) as video:
        assert spread_frames(video, 3, lambda: asked.append(1) or len(asked) == 4) is None
    assert len(asked) == 4
