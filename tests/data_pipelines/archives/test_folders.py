"""Clips found, and read: what is wrong with them is said before anything is built, or at the frame where it shows."""

import numpy as np
import pytest

from data_pipelines.archives import decode, folders
from rvm_jax.errors import InputError
from rvm_jax.host import progress
from tests.data_pipelines import fake_archives
from tests.data_pipelines.building import pixels

COUNT = 4


def videos(folder, codec, foregrounds, alphas):
    return (
        fake_archives.write_video(folder / "fgr.mp4", foregrounds, codec),
        fake_archives.write_video(folder / "pha.mp4", alphas, codec),
    )


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9"])
def test_swapped_videos_are_refused(tmp_path, codec):
    foreground, alpha = videos(
        tmp_path, codec, map(fake_archives.stamped, range(COUNT)), map(fake_archives.stamped_alpha, range(COUNT))
    )
    assert len(list(folders.matting_records(foreground, alpha))) == COUNT
    with pytest.raises(InputError, match=rf"^{foreground} is in colour: an alpha must be gray; is this a foreground"):
        list(folders.matting_records(alpha, foreground))
    with pytest.raises(InputError, match=rf"^{alpha} is gray: a foreground must be in colour; is this an alpha"):
        list(folders.matting_records(alpha, alpha))
    assert len(list(folders.background_records(alpha, short_side=48))) == COUNT  # a gray background is one


def test_one_frame_with_a_little_color_makes_a_foreground(tmp_path):
    black = np.zeros((fake_archives.HEIGHT, fake_archives.WIDTH, 3), np.uint8)
    face = black.copy()
    face[40:56, 60:76] = (150, 110, 90)
    alphas = [black[..., 0]] * 3
    foreground, alpha = videos(tmp_path, "hevc", [black, face, black], alphas)
    assert len(list(folders.matting_records(foreground, alpha))) == 3
    foreground, alpha = videos(tmp_path, "hevc", [black] * 3, alphas)
    with pytest.raises(InputError, match=r"fgr\.mp4 is gray"):
        list(folders.matting_records(foreground, alpha))


def test_a_colored_frame_in_the_middle_of_an_alpha_is_refused(tmp_path):
    frames = [np.repeat(fake_archives.stamped_alpha(number)[..., None], 3, axis=2) for number in range(5)]
    frames[3] = fake_archives.stamped(3)
    foreground, alpha = videos(tmp_path, "h264", map(fake_archives.stamped, range(5)), frames)
    with pytest.raises(InputError, match=r"pha\.mp4 is in colour"):
        list(folders.matting_records(foreground, alpha))


@pytest.mark.parametrize("channel", range(3))
def test_as_much_color_as_codecs_add_is_gray(channel):
    frame = np.full((64, 64, 3), 100, np.uint8)
    frame[24:32, 40:48, channel] += decode.GRAY_NOISE  # a block, which every 8th pixel hits wherever it lies
    assert decode._is_gray(frame)
    frame[24:32, 40:48, channel] += 1
    assert not decode._is_gray(frame)
    assert decode._is_gray(np.full((1, 1, 3), 255, np.uint8))


def test_alphas_of_videos_are_gray_pictures(tmp_path):
    foreground, alpha = videos(
        tmp_path, "hevc", map(fake_archives.stamped, range(COUNT)), map(fake_archives.stamped_alpha, range(COUNT))
    )
    for number, record in enumerate(folders.matting_records(foreground, alpha, short_side=48)):
        assert pixels(record["alpha"]).shape == (48, 64)
        assert fake_archives.number_in(pixels(record["alpha"])) == number


def test_a_phone_held_upright(tmp_path):
    """Its foregrounds are tagged; the alphas, made from what is seen, are upright already."""
    tagged = fake_archives.tag_picture(
        fake_archives.write_picture(tmp_path / "fgr.jpg", fake_archives.stamped(3)), 6, quality=95
    )
    upright = np.rot90(fake_archives.stamped_alpha(3), -1)
    alpha = fake_archives.write_picture(tmp_path / "pha.png", upright)
    [record] = folders.matting_records(tagged, alpha)
    np.testing.assert_array_equal(pixels(record["alpha"]), upright)
    assert record["foreground"] != tagged.read_bytes()
    foreground = pixels(record["foreground"])
    assert foreground.shape == (fake_archives.WIDTH, fake_archives.HEIGHT, 3)
    assert fake_archives.number_in(np.rot90(foreground)) == 3


def test_clips_without_frames_are_found_before_anything_is_built(tmp_path):
    for half in ("fgr", "pha"):
        for name in ("a", "b"):
            (tmp_path / half / name).mkdir(parents=True)
        (tmp_path / half / "b" / "0000.TIF").touch()
        (tmp_path / half / "b" / "0001.exr").touch()
        (tmp_path / half / "b" / ".hidden.txt").touch()
    pairs, errors = folders.pairs_in(tmp_path / "fgr", tmp_path / "pha")
    expected = "expected .bmp, .jpeg, .jpg, .png, .webp; get it again, or remove it"
    assert errors == [
        f"{tmp_path}/fgr/a has no frames: {expected}",
        f"{tmp_path}/fgr/b has no frames, only .exr, .tif files: {expected}",
    ]
    for pair, error in zip(pairs.values(), errors, strict=True):
        with pytest.raises(InputError) as caught:
            list(folders.matting_records(*pair))
        assert str(caught.value) == error


def test_names_that_are_not_utf_8_are_told_in_ascii(tmp_path):
    good, bad = tmp_path / "fgr", tmp_path / "pha"
    fake_archives.write_picture(good / "a" / "0.png", fake_archives.stamped(0))
    fake_archives.write_picture(bad / "a" / "caf\udce9.png", fake_archives.stamped_alpha(0))
    expected = "{} has a name that is not UTF-8: rename it"
    assert folders.pairs_in(good, bad)[1] == [expected.format(f"{bad}/a/caf\\xe9.png")]
    (bad / "caf\udce9").mkdir()
    assert folders.pairs_in(good, bad)[1] == [expected.format(f"{bad}/caf\\xe9")]


def test_looking_at_many_clips_says_so_in_a_log(tmp_path, capfd, monkeypatch):
    for half in ("fgr", "pha"):
        fake_archives.write_picture(tmp_path / half / "a.png", fake_archives.stamped(0))
        fake_archives.write_picture(tmp_path / half / "b.png", fake_archives.stamped(0))
    folders.pairs_in(tmp_path / "fgr", tmp_path / "pha")
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(progress, "SECONDS_IN_SILENCE", 0)
    folders.pairs_in(tmp_path / "fgr", tmp_path / "pha")
    assert capfd.readouterr().err == f"looking at {tmp_path}: 2 clips\n"
