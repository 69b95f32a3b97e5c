"""Videos matted with a clean plate: what is written is what the network says of a frame and of its plate."""

import jax
import numpy as np
import pytest
from PIL import Image

from rvm_jax.errors import InputError
from rvm_jax.video.matting import VideoResult, matte_video
from rvm_jax.video.plates.alignment import aligned, alignment
from rvm_jax.video.streaming.iterator import matte_frames
from tests.rvm_jax import videos
from tests.rvm_jax.video.plates.hand_held import hand_held, small_network, trained
from tests.rvm_jax.video.test_matting import read

COUNT, HEIGHT, WIDTH = 5, 144, 256


@pytest.fixture(scope="module")
def network():
    return small_network()


@pytest.fixture(scope="module")
def clip():
    return hand_held(3, COUNT, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def files(clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    videos.write(folder / "clip.mkv", clip.frames, rate=10, codec="ffv1", pixels="bgr0")
    Image.fromarray(clip.plate).save(folder / "plate.png")
    return folder


def said(network, frames, plates) -> np.ndarray:
    """Alpha of frames with these plates, uint8 [T, H, W]."""
    plates = np.broadcast_to(plates, frames.shape)
    alpha = network(frames[None], background=plates[None]).alpha[0, ..., 0]
    assert (np.abs(alpha - 0.5) < 0.45).mean() > 0.2  # alphas between 0 and 1 are there to tell right from wrong
    return np.rint(np.asarray(alpha) * 255).astype(int)


@pytest.mark.parametrize("align", [False, True])
def test_each_frame_is_matted_with_its_plate(network, clip, files, tmp_path, align):
    plate = alignment(clip.plate, "plate")
    plates = np.stack([aligned(plate, frame) for frame in clip.frames]) if align else clip.plate
    options = {"weights": network, "plate": str(files / "plate.png"), "align_plate": align}
    done = matte_video(files / "clip.mkv", tmp_path / "out", alpha=tmp_path / "alpha", chunk=2, **options)
    assert done == VideoResult(COUNT, complete=True)
    expected = said(network, clip.frames, plates)
    assert np.abs(read(tmp_path / "alpha") - expected).max() <= 1
    assert (read(tmp_path / "out")[..., 3] == read(tmp_path / "alpha")).all()
    one_by_one = matte_frames(iter(clip.frames), weights=network, plate=clip.plate, align_plate=align)
    assert np.abs(np.stack(list(one_by_one))[..., 3] - expected).max() <= 1


def test_the_median_of_the_video_is_its_plate(network, clip, files, tmp_path, capsys):
    matte_video(files / "clip.mkv", tmp_path / "out", weights=network, plate="auto", start=0.1)
    assert "rvm: the plate is the median of 3 frames: whoever stands still is in it" in capsys.readouterr().err
    expected = said(network, clip.frames[1:], np.median(clip.frames[1:4], axis=0).astype(np.uint8))
    assert np.abs(read(tmp_path / "out")[..., 3] - expected).max() <= 1


def test_a_stop_while_the_plate_is_read_writes_nothing(network, files, tmp_path, capsys):
    done = matte_video(files / "clip.mkv", tmp_path / "out.mov", weights=network, plate="auto", stop=lambda: True)
    assert done == VideoResult(0, complete=False)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_frames_that_do_not_fit_the_plate_are_counted(network, clip, tmp_path):
    frames = clip.frames.copy()
    frames[2] = np.random.default_rng(0).integers(0, 255, frames[2].shape)
    videos.write(tmp_path / "clip.mkv", frames, codec="ffv1", pixels="bgr0")
    Image.fromarray(clip.plate).save(tmp_path / "plate.png")
    options = {"weights": network, "plate": str(tmp_path / "plate.png"), "align_plate": True}
    assert matte_video(tmp_path / "clip.mkv", tmp_path / "out", **options).unaligned == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "bgmv2_base_small needs a clean plate"),
        ({"plate": "black.png"}, "black.png is black"),
        ({"plate": "wide.png"}, "wide.png has 256×72 pixels"),
        ({"plate": "clip.mkv", "downsample_ratio": 0.5}, "looks at frames at a size of its own"),
        ({"plate": "plain.png", "align_plate": True}, "plain.png has 0 corners, too few to align it by"),
    ],
    ids=str,
)
def test_what_cannot_be_matted_leaves_nothing(network, files, tmp_path, options, message):
    for name, color, height in (("black", 0, HEIGHT), ("plain", 99, HEIGHT), ("wide", 99, 72)):
        Image.fromarray(np.full((height, WIDTH, 3), color, np.uint8)).save(files / f"{name}.png")
    if "plate" in options:
        options = {**options, "plate": str(files / options["plate"])}
    with pytest.raises(InputError, match=message):
        matte_video(files / "clip.mkv", tmp_path / "out.mov", weights=network, **options)
    assert list(tmp_path.iterdir()) == []


def test_rvm_takes_no_plate(matte, files, tmp_path):
    with pytest.raises(InputError, match="rvm_tiny takes no clean plate: leave --plate out"):
        matte_video(files / "clip.mkv", tmp_path / "out.mov", weights=matte, plate=str(files / "plate.png"))
    with pytest.raises(InputError, match="rvm_tiny takes no clean plate"):
        matte_frames([], weights=matte, plate=np.zeros((4, 4, 3), np.uint8))


@pytest.mark.slow
def test_clips_from_a_hand_are_matted_better_with_alignment(tmp_path):
    """In MAD, by a network that was trained on plates that fit."""
    mad = {False: 0.0, True: 0.0}
    with jax.enable_x64(False):  # as it is trained outside of tests
        network = trained(100)
        for index in range(3):
            clip = hand_held(index, 3, 144, 256)
            videos.write(tmp_path / f"{index}.mkv", clip.frames, codec="ffv1", pixels="bgr0")
            Image.fromarray(clip.plate).save(tmp_path / f"{index}.png")
            for align in mad:
                target = tmp_path / f"{index} {align}.mkv"
                options = {"weights": network, "plate": str(tmp_path / f"{index}.png"), "align_plate": align}
                result = matte_video(tmp_path / f"{index}.mkv", target, alpha=tmp_path / target.stem, **options)
                assert result.unaligned == 0
                mad[align] += np.abs(read(tmp_path / target.stem) - clip.alpha[..., 0].astype(float)).mean() / 255 / 3
    assert mad[False] < 0.15  # it finds people without, of whom a frame has 0.4
    assert mad[True] < 0.8 * mad[False]
