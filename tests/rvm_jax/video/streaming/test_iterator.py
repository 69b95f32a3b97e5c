"""Frames in, mattes out, one by one."""

import numpy as np
import pytest
from PIL import Image

import rvm_jax
from rvm_jax.errors import InputError
from rvm_jax.video.matting import matte_video
from tests.rvm_jax import videos


def test_mattes_are_those_of_the_whole_video(matte, tmp_path):
    frames = videos.moving(5)
    clip = videos.write(tmp_path / "clip.mkv", frames, codec="ffv1", pixels="bgr0")
    for background, options in (("transparent", {}), ("#0a141e", {"background": "#0a141e"}), ("blur", {})):
        out = tmp_path / background
        matte_video(clip, out, weights=matte, background=background)
        options = {} if background == "transparent" else {"background": background}
        mattes = list(rvm_jax.matte_frames(frames, weights=matte, **options))
        written = np.stack([np.asarray(Image.open(path)) for path in sorted(out.iterdir())])
        np.testing.assert_array_equal(mattes, written)


def test_each_matte_is_given_before_the_next_frame_is_asked_for(matte):
    asked = 0

    def camera():
        nonlocal asked
        for frame in videos.moving(4):
            asked += 1
            yield frame

    for number, matted in enumerate(rvm_jax.matte_frames(camera(), weights=matte, downsample_ratio=0.5), 1):
        assert asked == number
        assert matted.shape == (48, 64, 4)
        assert matted.dtype == np.uint8
    assert asked == 4


def test_no_frames_give_no_mattes(matte):
    assert list(rvm_jax.matte_frames([], weights=matte)) == []


FRAME = np.zeros((48, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        ([FRAME, FRAME[:40]], {}, "^frame 1 has 64×40 pixels, those before it 64×48: expected one size$"),
        ([FRAME / 255], {}, r"^a frame is float64 of shape \(48, 64, 3\): expected a NumPy array, uint8"),
        ([FRAME[None]], {}, r"^a frame is uint8 of shape \(1, 48, 64, 3\)"),
        ([[1, 2]], {}, r"^a frame is list of shape \(\)"),
        ([FRAME], {"background": "greenish"}, "^--background greenish is no colour and no file"),
        ([FRAME], {"weights": "none.pth"}, r"^none.pth does not exist"),
        ([FRAME], {"downsample_ratio": 2}, "downsample_ratio is 2"),
    ],
)
def test_what_are_no_frames_is_told(matte, frames, options, message):
    with pytest.raises(InputError, match=message):
        list(rvm_jax.matte_frames(frames, **{"weights": matte, **options}))


def test_a_background_that_moves_is_refused(matte, tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.moving(2))
    with pytest.raises(InputError, match="is a video, which has times, and frames have none: give a picture"):
        list(rvm_jax.matte_frames([FRAME], weights=matte, background=str(path)))
