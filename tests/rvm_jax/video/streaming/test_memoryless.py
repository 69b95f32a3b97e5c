"""Networks without memory: a delay of one frame that takes out flicker, whatever the chunks, and foregrounds."""

import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.errors import InputError
from rvm_jax.foreground import estimate_foreground
from rvm_jax.video.matting import matte_video
from rvm_jax.video.streaming import memoryless
from rvm_jax.video.streaming.memoryless import Prediction, one_frame_delay
from tests.rvm_jax import videos
from tests.rvm_jax.video.plates.hand_held import small_network
from tests.rvm_jax.video.test_matting import read

COUNT, HEIGHT, WIDTH = 7, 48, 64


@pytest.fixture(scope="module")
def network():
    return small_network()


def flicker() -> np.ndarray:
    """Alphas float32 [T, H, W, 1] that stay, move, and flicker for a frame, at the ends as well."""
    alphas = np.random.default_rng(0).random((COUNT, HEIGHT, WIDTH, 1), np.float32)
    alphas[:, :16] = 0.2
    alphas[:, 16:32] = np.linspace(0, 1, COUNT, dtype=np.float32)[:, None, None, None]
    for frame in (0, 2, 3, 5):
        alphas[frame, :8] = 0.9
    return alphas


def smoothed(alphas: np.ndarray) -> np.ndarray:
    """By the paper's words, pixel by pixel."""
    made = alphas.copy()
    for t in range(1, len(alphas) - 1):
        before, now, after = alphas[t - 1 : t + 2]
        alone = (abs(before - after) <= 0.1) & (abs(now - before) > 0.1) & (abs(now - after) > 0.1)
        made[t][alone] = ((before + after) / 2)[alone]
    return made


def test_what_one_frame_alone_says_is_the_mean_of_its_neighbours():
    alphas = flicker()
    made = np.asarray(one_frame_delay(jnp.asarray(alphas[:1]), jnp.asarray(alphas[1:-1]), jnp.asarray(alphas[-1:])))
    np.testing.assert_allclose(made, smoothed(alphas)[1:-1], rtol=0, atol=1e-6)
    assert (made[4, :8] == 0.2).all()  # of frame 5
    assert (made[1:3, :8] == np.float32(0.9)).all()  # two that agree are no flicker
    assert (made[:, 16:32] == alphas[1:-1, 16:32]).all()


@pytest.mark.parametrize("chunk", [1, 2, 3, 10])
def test_the_delay_is_the_same_whatever_the_chunk_and_loses_no_frame(network, tmp_path, monkeypatch, chunk):
    alphas, seen = flicker(), []
    frames = videos.moving(COUNT, HEIGHT, WIDTH)
    clip = videos.write(tmp_path / "clip.mkv", frames, codec="ffv1", pixels="bgr0")

    def predict(matte, pixels, plate, ratio, transfer):
        first = len(seen)
        seen.extend(range(first, min(first + len(pixels), COUNT)))
        chosen = np.minimum(np.arange(first, first + len(pixels)), COUNT - 1)
        return Prediction(None, jnp.asarray(alphas[chosen]))

    monkeypatch.setattr(memoryless, "predict", predict)
    monkeypatch.setattr(memoryless, "check", lambda *_: None)
    options = {"weights": network, "plate": str(clip), "one_frame_delay": True, "chunk": chunk}
    done = matte_video(clip, tmp_path / "out", **options)
    assert done.frames == COUNT
    written = read(tmp_path / "out")
    assert np.abs(written[..., 3] - smoothed(alphas)[..., 0] * 255).max() <= 0.51
    for frame, alpha, made in zip(frames, smoothed(alphas), written, strict=True):  # none was given: it is estimated
        expected = estimate_foreground(frame.astype(np.float32) / 255, alpha)
        assert np.abs(made[..., :3] / 255 - expected)[alpha[..., 0] > 0.01].max() < 0.01


@pytest.mark.parametrize("delay", [False, True])
def test_all_that_was_computed_is_written_when_it_is_stopped(network, tmp_path, monkeypatch, delay):
    clip = videos.write(tmp_path / "clip.mkv", videos.moving(COUNT, HEIGHT, WIDTH), codec="ffv1", pixels="bgr0")
    asked = []
    monkeypatch.setattr(memoryless, "predict", lambda *_: Prediction(None, jnp.full((2, HEIGHT, WIDTH, 1), 0.5)))
    monkeypatch.setattr(memoryless, "check", lambda *_: None)
    options = {"weights": network, "plate": str(clip), "one_frame_delay": delay, "chunk": 2}
    done = matte_video(clip, tmp_path / "out", **options, stop=lambda: asked.append(1) or len(asked) > COUNT + 1)
    assert (done.frames, done.complete) == (4, False)
    assert len(read(tmp_path / "out")) == 4


def test_alpha_alone_needs_no_foreground(monkeypatch):
    monkeypatch.setattr(memoryless, "estimate_foreground", None)
    pixels = videos.moving(2)
    alpha = jnp.full((2, videos.HEIGHT, videos.WIDTH, 1), 0.5)
    made = memoryless.finish(pixels, Prediction(None, alpha), None, ("alpha",))
    assert (np.asarray(made["alpha"]) == 128).all()


def test_networks_that_remember_are_not_smoothed(matte, tmp_path):
    clip = videos.write(tmp_path / "clip.mkv", videos.moving(3), codec="ffv1", pixels="bgr0")
    with pytest.raises(InputError, match="rvm_tiny remembers the frames before, and does not flicker"):
        matte_video(clip, tmp_path / "out", weights=matte, one_frame_delay=True)
