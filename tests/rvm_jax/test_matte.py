"""Loading a network and calling it on arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import rvm_jax
from rvm_jax.export import torch_network
from rvm_jax.matte import automatic_ratio
from rvm_jax.model.resize import scaled_size
from tests.rvm_jax.conftest import random_frames


@pytest.fixture(scope="module")
def twin() -> torch_network.MattingNetwork:
    torch.manual_seed(0)
    return torch_network.MattingNetwork("tiny").eval()


@pytest.fixture(scope="module")
def path(twin, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(twin.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def matte(path) -> rvm_jax.Matte:
    return rvm_jax.load(path)


def test_it_mattes_as_pytorch_does_and_goes_on_from_the_state(matte, twin):
    frames = random_frames(1, 4, 48, 64, 3, dtype=jnp.float32)
    first = matte(np.asarray(frames[:, :3]), downsample_ratio=0.5)
    foreground, alpha, state = matte(frames[:, 3:], first.state, 0.5)
    assert isinstance(state, rvm_jax.State)
    with torch.inference_mode():
        expected = twin(torch.tensor(np.moveaxis(frames, -1, 2)), downsample_ratio=0.5)
    np.testing.assert_allclose(foreground, np.moveaxis(expected[0][:, 3:].numpy(), 2, -1), atol=1e-4)
    np.testing.assert_allclose(alpha, np.moveaxis(expected[1][:, 3:].numpy(), 2, -1), atol=1e-4)


def test_it_segments(matte, twin):
    frames = random_frames(1, 2, 48, 64, 3, dtype=jnp.float32)
    logits, _ = matte.segment(frames)
    with torch.inference_mode():
        expected = twin(torch.tensor(np.moveaxis(frames, -1, 2)), segmentation_pass=True)
    np.testing.assert_allclose(logits, np.moveaxis(expected[0].numpy(), 2, -1), atol=1e-4)


def test_the_first_frame_and_the_next_share_a_program(matte):
    frames = random_frames(1, 1, 32, 48, 3, dtype=jnp.float32)
    state = matte(frames).state
    before = rvm_jax.matte._apply._cache_size()
    matte(frames, state)
    assert rvm_jax.matte._apply._cache_size() == before


def test_the_automatic_ratio_brings_the_longest_side_to_512():
    assert automatic_ratio((1080, 2048)) == 0.25
    assert automatic_ratio((1024, 300)) == 0.5
    assert automatic_ratio((288, 512)) == automatic_ratio((100, 100)) == 1
    # A long strip keeps what the network needs of its short side.
    for short in range(16, 40):
        height, _ = scaled_size((short, 2000), automatic_ratio((short, 2000)))
        assert height >= 16


def test_dtypes(path, matte):
    frames = random_frames(1, 2, 64, 64, 3)
    exact = rvm_jax.load(path, dtype=jnp.float64)(frames)
    assert exact.alpha.dtype == jnp.float64
    rough = rvm_jax.load(path, dtype=jnp.bfloat16)(frames)
    assert rough.alpha.dtype == jnp.float32
    np.testing.assert_allclose(matte(frames).alpha, exact.alpha, atol=1e-5)
    np.testing.assert_allclose(rough.alpha, exact.alpha, atol=0.05)
    for dtype in (jnp.int32, "half-ish", "float8_e4m3fn"):
        with pytest.raises(rvm_jax.InputError, match="expected one of float32, float64, bfloat16, float16"):
            rvm_jax.load(path, dtype=dtype)


def test_float64_needs_x64_mode(path):
    with jax.enable_x64(False), pytest.raises(rvm_jax.InputError, match="needs JAX's x64 mode"):
        rvm_jax.load(path, dtype="float64")


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.full((1, 1, 32, 32, 3), 255.0), "frames range from 255 to 255: expected 0..1"),
        (np.full((1, 1, 32, 32, 3), -0.5), "frames range from -0.5 to -0.5: expected 0..1, so clip them"),
        (np.full((1, 1, 32, 32, 3), np.nan), "frames range from nan to nan"),
        (np.zeros((1, 1, 32, 32, 3), np.uint8), "frames are uint8: expected floats in 0..1"),
        (np.zeros((32, 32, 3)), r"shape \(32, 32, 3\): expected \[B, T, H, W, 3\]"),
        ([[0.5]], "frames are a list: expected a NumPy or JAX array"),
    ],
)
def test_bad_frames(matte, frames, message):
    with pytest.raises(rvm_jax.InputError, match=message) as caught:
        matte(frames)
    assert "\n" not in str(caught.value)


def test_a_state_of_another_size_is_refused(matte):
    state = matte(random_frames(1, 1, 32, 48, 3, dtype=jnp.float32)).state
    with pytest.raises(
        rvm_jax.InputError, match=r"frames are 32×48 after down-sampling .* of 64×64\. Start a new video"
    ):
        matte(random_frames(1, 1, 64, 64, 3, dtype=jnp.float32), state)
    with pytest.raises(rvm_jax.InputError, match="state has 3 parts"):
        matte(random_frames(1, 1, 32, 48, 3, dtype=jnp.float32), state[:3])


def test_what_is_no_state_is_refused(matte):
    frames = random_frames(1, 1, 32, 48, 3, dtype=jnp.float32)
    state = matte(frames).state
    with pytest.raises(rvm_jax.InputError, match=r"state holds NoneType: .* or state=None to start a new video"):
        matte(frames, [None] * 4)
    with pytest.raises(rvm_jax.InputError, match="state holds int32"):
        matte(frames, [r.astype(jnp.int32) for r in state])
    assert matte(frames, [r.astype(jnp.float16) for r in state]).state.r1.dtype == jnp.float32


def test_it_can_be_part_of_a_larger_program(matte):
    frames = random_frames(1, 2, 32, 48, 3, dtype=jnp.float32)
    np.testing.assert_allclose(jax.jit(matte)(frames).alpha, matte(frames).alpha, atol=1e-5)


def test_an_encoder_alone_cannot_matte(path, tmp_path):
    encoder = {n: t for n, t in torch.load(path, weights_only=True).items() if n.startswith("backbone")}
    torch.save(encoder, tmp_path / "encoder.pth")
    with pytest.raises(rvm_jax.InputError, match="holds an encoder alone, which cannot matte"):
        rvm_jax.load(tmp_path / "encoder.pth")
