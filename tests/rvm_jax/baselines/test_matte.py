"""The face of the baselines: frames in, mattes out, with stand-ins for the networks.

The stand-ins see what the networks would see, and give it back; how exactly that is what the released scripts do is
seen in `tests/reference/test_baseline_images.py`.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rvm_jax
from rvm_jax.baselines import images
from rvm_jax.baselines.background_matting import MattingBase, MattingRefine, MattingRefineOutput
from rvm_jax.baselines.matte import BaselineMatte
from rvm_jax.baselines.modnet import MODNet, MODNetOutput
from rvm_jax.baselines.names import entries
from rvm_jax.baselines.u2net import U2Net, U2NetOutput
from rvm_jax.errors import InputError
from rvm_jax.foreground import estimate_foreground
from rvm_jax.matte import load_rvm
from rvm_jax.weights.files import read_network
from rvm_jax.weights.names import to_variables

NOTHING = {"params": {"of": jnp.zeros(())}}


class Red(MODNet):
    """Alpha is the red of what it sees."""

    def __call__(self, images, **_):
        assert images.shape[1] % 32 == images.shape[2] % 32 == 0
        return MODNetOutput(images[..., :1] / 2 + 0.5, None, None)


class Salient(U2Net):
    def __call__(self, images, **_):
        return U2NetOutput(images[..., :1], ())


class Difference(MattingRefine):
    """Alpha is how far the red differs from the background's, plus `scale`; foreground is the source."""

    def __call__(self, source, background, **_):
        assert source.shape == background.shape
        assert source.shape[1] % 4 == source.shape[2] % 4 == 0
        alpha = jnp.abs(source - background)[..., :1]
        return MattingRefineOutput(alpha + self.scale, source, *(alpha,) * 4)


class Beyond(MattingRefine):
    """Alpha is the red of the pixel to the lower right, and the foreground the background's."""

    def __call__(self, source, background, **_):
        source, background = (jnp.roll(x, (-1, -1), (1, 2)) for x in (source, background))
        return MattingRefineOutput(source[..., :1], background, *(source,) * 4)


def ramp(height, width):
    """A picture whose red grows from left to right, `[H, W, 3]` of bytes."""
    row = np.linspace(0, 255, width).astype(np.uint8)
    return np.broadcast_to(row[:, None], (height, width, 3)).copy()


@pytest.mark.parametrize(
    ("height", "width", "options"),
    [(530, 401, {}), (530, 401, {"antialias": True}), (530, 401, {"pad": True}), (20, 90, {"pad": True})],
)
def test_mattes_of_modnet_come_back_in_place(monkeypatch, height, width, options):
    monkeypatch.setattr(images, "MODNET_SIDE", 64)
    matte = BaselineMatte(Red(), NOTHING, **options)
    frame = ramp(height, width)
    foreground, alpha, state = matte(frame)
    assert (foreground, state) == (None, None)
    assert alpha.shape == (height, width, 1)
    np.testing.assert_allclose(alpha[..., 0], frame[..., 0] / 255, atol=0.02)
    clip = matte(frame[None, None].repeat(2, 1))
    assert clip.alpha.shape == (1, 2, height, width, 1)
    np.testing.assert_allclose(clip.alpha[0, 1, ..., 0], frame[..., 0] / 255, atol=0.02)


def test_modnet_sees_pictures_and_videos_as_its_scripts_show_them(monkeypatch):
    monkeypatch.setattr(images, "MODNET_SIDE", 64)
    seen = []
    monkeypatch.setattr(Red, "__call__", lambda self, x: seen.append(x.shape) or MODNetOutput(x[..., :1], None, None))
    matte = BaselineMatte(Red(), NOTHING)
    matte(ramp(60, 90))
    matte(ramp(60, 90)[None, None])
    replace(matte, pad=True)(ramp(60, 90))
    assert seen == [(1, 32, 64, 3), (1, 64, 96, 3), (1, 64, 96, 3)]


def test_u2net_is_shown_squares_and_stretched_to_full_contrast():
    frame = ramp(60, 100) // 2
    for options in ({}, {"antialias": True}, {"pad": True}):
        alpha = BaselineMatte(Salient(), NOTHING, **options)(frame).alpha
        assert alpha.shape == (60, 100, 1)
        np.testing.assert_allclose(alpha[5:-5, 5:-5, 0], ramp(60, 100)[5:-5, 5:-5, 0] / 255, atol=0.03)
    clip = np.stack([frame, frame // 2])[None]
    darker = BaselineMatte(Salient(), NOTHING, antialias=True)(clip).alpha  # each by itself
    np.testing.assert_allclose(darker[0, 1], darker[0, 0], atol=0.03)
    bytes_ = np.asarray(BaselineMatte(Salient(), NOTHING)(frame).alpha) * 255
    np.testing.assert_allclose(bytes_, np.round(bytes_), atol=1e-4)


def test_background_matting_takes_any_size_and_one_background_for_all_frames():
    matte = BaselineMatte(Difference(), NOTHING)
    assert matte.needs == ("background",)
    frames = np.stack([ramp(30, 41), ramp(30, 41) // 2])[None]  # [1, 2, H, W, 3]
    background = np.full((30, 41, 3), 1, np.uint8)
    foreground, alpha, _ = matte(frames, background=background, downsample_ratio=0.125)
    np.testing.assert_allclose(foreground, frames / 255, atol=1e-6)
    expected = np.abs(frames[..., :1] / 255 - 1 / 255) + 0.125
    np.testing.assert_allclose(alpha, expected.clip(0, 1), atol=1e-6)
    per_frame = matte(frames, background=np.broadcast_to(background, frames.shape), downsample_ratio=0.125)
    np.testing.assert_array_equal(alpha, per_frame.alpha)
    one = matte(frames[0, 1], background=background, downsample_ratio=0.125)
    np.testing.assert_array_equal(alpha[0, 1], one.alpha)
    np.testing.assert_allclose(matte(frames, background=background).alpha, (expected + 0.125).clip(0, 1), atol=1e-6)


def test_what_is_padded_goes_on_as_it_ends():
    frame, plate = ramp(30, 41), ramp(30, 41) // np.array([2, 3, 4], np.uint8)
    foreground, alpha, _ = BaselineMatte(Beyond(), NOTHING)(frame, background=plate)
    np.testing.assert_allclose(alpha[-1, -1], frame[-1, -1, :1] / 255, atol=1e-6)
    np.testing.assert_allclose(foreground[-1, -1], plate[-1, -1] / 255, atol=1e-6)


def test_a_foreground_is_estimated_on_request(monkeypatch):
    monkeypatch.setattr(images, "MODNET_SIDE", 64)
    frame = ramp(64, 64)
    matte = BaselineMatte(Red(), NOTHING, estimate_foreground=True)
    foreground, alpha, _ = matte(frame[None, None])
    expected = estimate_foreground(frame.astype(np.float32) / 255, np.asarray(alpha[0, 0]))
    np.testing.assert_array_equal(foreground[0, 0], expected)


def test_it_can_be_traced():
    background = np.full((8, 8, 3), 0.5, np.float32)
    frames = np.random.default_rng(0).random((1, 2, 8, 8, 3), np.float32)
    matte = BaselineMatte(Difference(), NOTHING)
    traced = jax.jit(lambda matte, frames: matte(frames, background=background).alpha)(matte, frames)
    np.testing.assert_array_equal(traced, matte(frames, background=background).alpha)


def test_a_file_is_loaded_as_what_it_is(tmp_path):
    network, path = MattingBase("mobilenetv2"), tmp_path / "base.safetensors"
    variables = to_variables({entry.name: zeros_of(entry) for entry in entries(network)}, entries(network))
    rvm_jax.save(BaselineMatte(network, variables), path)
    matte = rvm_jax.load(path, "bfloat16")
    assert (matte.name, matte.needs, matte.keeps_state) == ("bgmv2_base_mobilenetv2", ("background",), False)
    assert repr(matte) == "BaselineMatte(bgmv2_base_mobilenetv2, 4,991,395 parameters, bfloat16)"
    assert matte.dtype == jnp.float32
    with pytest.raises(InputError, match=r"base\.safetensors holds bgmv2_base_mobilenetv2: expected weights of RVM"):
        load_rvm(path)
    with pytest.raises(InputError, match=r"base\.safetensors holds BackgroundMattingV2, and RVM is wanted"):
        read_network(path)


def zeros_of(entry):
    return np.zeros(entry.torch_shape, np.int64 if entry.path[-1] == "count" else np.float32)


MODNET, BGMV2 = BaselineMatte(Red(), NOTHING), BaselineMatte(Difference(), NOTHING)
FRAME = np.full((8, 12, 3), 7, np.uint8)
WRONG = {
    "a state": (MODNET, {"state": ()}, "modnet keeps no state from frame to frame"),
    "a ratio": (MODNET, {"downsample_ratio": 0.5}, "size of its own: leave downsample_ratio out"),
    "a background too many": (MODNET, {"background": FRAME}, "modnet takes no background"),
    "no background": (BGMV2, {}, "bgmv2_resnet50 needs background=: .*of 12x8 pixels"),
    "a background of another size": (BGMV2, {"background": FRAME[:4]}, r"shape \(4, 12, 3\) and frames \(8, 12, 3\)"),
    "a black background": (BGMV2, {"background": 0 * FRAME}, "black all over"),
    "a path": (BGMV2, {"background": "plate.png"}, "background is a str"),
    "whole numbers": (BGMV2, {"background": FRAME.astype(np.int32)}, "background are int32|background is int32"),
}


@pytest.mark.parametrize(("matte", "given", "message"), WRONG.values(), ids=WRONG)
def test_wrong_calls_are_refused(matte, given, message):
    with pytest.raises(InputError, match=message):
        matte(FRAME, **given)


def test_as_many_backgrounds_as_frames_or_one():
    with pytest.raises(InputError, match=r"shape \(1, 3, 8, 12, 3\) and frames \(1, 2, 8, 12, 3\): give one picture"):
        BGMV2(FRAME[None, None].repeat(2, 1), background=FRAME[None, None].repeat(3, 1))


def test_small_pictures_are_refused_as_modnets_script_would_fail():
    with pytest.raises(InputError, match=r"short side has 31 pixels: .*pad=True"):
        BaselineMatte(Red(), NOTHING)(np.zeros((31, 640, 3), np.uint8))
