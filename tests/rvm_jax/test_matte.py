"""Loading a network, calling it on arrays, saving it."""

import ast
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax
from PIL import Image

import rvm_jax
from rvm_jax.export import torch_network
from rvm_jax.matte import automatic_ratio
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.resize import scaled_size
from rvm_jax.video import matting
from tests.rvm_jax.conftest import TINY_RESNET, random_frames, random_variables

BFLOAT16, FLOAT16 = 0.02, 0.003


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
    assert automatic_ratio((100, 480), 384) == np.float32(0.8)
    # A long strip keeps what the network needs of its short side.
    for short in range(16, 40):
        height, _ = scaled_size((short, 2000), automatic_ratio((short, 2000)))
        assert height >= 16


def test_every_runtime_multiplies_the_automatic_ratio_to_the_same_size():
    """In float32, as ONNX Runtime does, and in float64, as Python does; and it is 512, not 511."""
    widths = np.arange(513, 4097)
    heights = [width * up // down for width in widths for up, down in ((9, 16), (3, 4))]
    for height, width in zip(heights, np.repeat(widths, 2).tolist(), strict=True):
        ratio = automatic_ratio((height, width))
        assert ratio == np.float32(ratio)
        assert ratio - 512 / width < 1e-7
        low = scaled_size((height, width), ratio)
        assert low == (height * 512 // width, 512)
        assert low == tuple(int(np.floor(np.float32(side) * np.float32(ratio))) for side in (height, width))


@pytest.fixture(scope="module")
def lively() -> rvm_jax.Matte:
    """Random weights with which every path matters, and four frames of memory show in alpha."""
    network = rvm_jax.MattingNetwork("tiny")
    return rvm_jax.Matte(network, random_variables(network, jnp.float32))


def outputs(matte: rvm_jax.Matte, frames, ratio: float = 0.5) -> list[np.ndarray]:
    foreground, alpha, state = matte(frames, None, ratio)
    return [np.asarray(x) for x in (foreground, alpha, *state)]


# About three times what is seen: bfloat16 keeps 8 bits, float16 11.
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("bfloat16", BFLOAT16), ("float16", FLOAT16)])
def test_dtypes(lively, tmp_path, dtype, atol):
    rvm_jax.save(lively, tmp_path / "net.safetensors")
    frames = random_frames(1, 4, 64, 80, 3)
    exact = outputs(rvm_jax.load(tmp_path / "net.safetensors", dtype="float64"), frames)
    given = outputs(rvm_jax.load(tmp_path / "net.safetensors", dtype=dtype), frames)
    assert {x.dtype for x in exact} == {np.dtype("float64")}
    assert {x.dtype for x in given} == {np.dtype("float32")}
    for one, other in zip(given, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)
    # The memory of four frames, and the precision of the refiner, are more than what is tolerated.
    forgetful = np.asarray(lively(frames[:, 3:], None, 0.5).alpha)
    assert np.abs(forgetful - exact[1][:, 3:]).max() > 3 * atol


def test_unknown_dtypes_are_refused(path):
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
        (np.zeros((1, 1, 32, 32, 3), np.int32), r"frames are int32: expected uint8 in 0..255 or floats in 0..1"),
        (np.zeros((1, 1, 32, 32, 3), bool), "frames are bool: expected uint8"),
        (jnp.zeros((1, 1, 32, 32, 3), jnp.uint16), "frames are uint16: expected uint8"),
        (np.zeros((32, 32)), r"shape \(32, 32\): expected \[B, T, H, W, 3\] for clips or \[H, W, 3\] for one frame"),
        (np.zeros((32, 32, 4)), r"shape \(32, 32, 4\): expected"),
        (np.zeros((8, 32, 32, 3)), r"give frames\[None\] if they are one clip .* or frames\[:, None\] if they have no"),
        (np.zeros((1, 0, 32, 32, 3)), "holds no pixel"),
        (np.zeros((1, 1, 0, 32, 3)), "holds no pixel"),
        (np.zeros((32, 8, 3), np.uint8), "each side needs 16"),
        ([[0.5]], "frames are a list: expected a NumPy or JAX array"),
    ],
)
def test_bad_frames(matte, frames, message):
    for call in (matte, matte.segment):
        with pytest.raises(rvm_jax.InputError, match=message) as caught:
            call(frames)
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


def test_one_frame_after_the_other_is_the_clip(lively):
    clip = np.asarray(random_frames(1, 3, 48, 64, 3, dtype=jnp.float32))
    expected = lively(clip, None, 0.5)
    logits = lively.segment(clip, None, 0.5).logits
    state = seen = None
    for number, frame in enumerate(clip[0]):
        foreground, alpha, state = lively(frame, state, 0.5)
        np.testing.assert_allclose(foreground, expected.foreground[0, number], atol=1e-5)
        np.testing.assert_allclose(alpha, expected.alpha[0, number], atol=1e-5)
        assert (foreground.shape, alpha.shape) == ((48, 64, 3), (48, 64, 1))
        one, seen = lively.segment(frame, seen, 0.5)
        np.testing.assert_allclose(one, logits[0, number], atol=1e-5)


def test_bytes_are_the_same_frames(lively):
    frames = np.random.default_rng(0).integers(0, 256, (1, 2, 48, 64, 3), np.uint8)
    # By JAX: NumPy divides otherwise in the last bit, of which the network makes more on some processors.
    scaled = jax.jit(lambda frames: frames.astype(jnp.float32) / 255)(frames)
    for call in (lively, lively.segment):
        given, expected = call(frames, None, 0.5), call(scaled, None, 0.5)
        on_device = call(jnp.asarray(frames), None, 0.5)
        for one, two, three in zip(*map(jax.tree.leaves, (given, expected, on_device)), strict=True):
            assert one.dtype == jnp.float32
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)
            np.testing.assert_array_equal(one, three)


def test_bytes_are_scaled_on_the_device(lively, monkeypatch):
    given = []
    apply = rvm_jax.matte._apply
    monkeypatch.setattr(rvm_jax.matte, "_apply", lambda *arguments: given.append(arguments[2]) or apply(*arguments))
    lively(np.zeros((32, 48, 3), np.uint8))
    lively(np.zeros((32, 48, 3), np.float64))
    assert [frames.dtype for frames in given] == [np.uint8, np.float32]


def test_segmentation_has_a_ratio(matte, twin):
    frames = random_frames(1, 2, 64, 96, 3, dtype=jnp.float32)
    logits, state = matte.segment(frames, None, 0.5)
    with torch.inference_mode():
        channels_first = torch.tensor(np.moveaxis(frames, -1, 2))
        expected = twin(channels_first, downsample_ratio=0.5, segmentation_pass=True)
    assert logits.shape == (1, 2, 32, 48, 1)
    np.testing.assert_allclose(logits, np.moveaxis(expected[0].numpy(), 2, -1), atol=1e-4)
    np.testing.assert_allclose(state.r4, np.moveaxis(expected[-1].numpy(), 1, -1), atol=1e-4)


def test_a_call_waits_for_nothing_on_the_device(matte):
    """It returns while its frames are still being computed, which takes about a second."""

    @jax.jit
    def late(frames):
        nothing = lax.fori_loop(0, 100_000_000, lambda _, x: jnp.sin(x), frames.ravel()[0]) * 0
        return frames + nothing

    expected = matte(np.full((1, 1, 32, 48, 3), 0.5, np.float32))  # and compiles
    frames = late(jnp.full((1, 1, 32, 48, 3), 0.5, jnp.float32))
    alpha = matte(frames).alpha
    assert not frames.is_ready()
    np.testing.assert_allclose(alpha, expected.alpha, atol=1e-6)


def test_a_traced_ratio_is_told(matte):
    frames = random_frames(1, 1, 64, 64, 3, dtype=jnp.float32)
    for call in (matte, matte.segment):
        with pytest.raises(rvm_jax.InputError, match=r"downsample_ratio is traced.*static_argnames='downsample_ratio'"):
            jax.jit(lambda ratio, call=call: call(frames, None, ratio))(0.5)
        jax.jit(call, static_argnames="downsample_ratio")(frames, downsample_ratio=0.5)


def test_it_can_be_part_of_a_larger_program(matte):
    frames = random_frames(1, 2, 32, 48, 3, dtype=jnp.float32)
    np.testing.assert_allclose(jax.jit(matte)(frames).alpha, matte(frames).alpha, atol=1e-5)


def test_an_encoder_alone_cannot_matte(path, tmp_path):
    encoder = {n: t for n, t in torch.load(path, weights_only=True).items() if n.startswith("backbone")}
    torch.save(encoder, tmp_path / "encoder.pth")
    with pytest.raises(rvm_jax.InputError, match="holds an encoder alone, which cannot matte"):
        rvm_jax.load(tmp_path / "encoder.pth")


# As a pytree


def other(matte: rvm_jax.Matte) -> rvm_jax.Matte:
    """The same network with other weights."""
    return jax.tree.map(lambda x: x * jnp.asarray(0.9, x.dtype) if x.ndim == 4 else x, matte)


def test_it_is_an_argument_of_programs(lively):
    frames = random_frames(1, 2, 32, 48, 3, dtype=jnp.float32)
    run = jax.jit(lambda matte, frames: matte(frames).alpha)
    for matte in (lively, other(lively)):
        np.testing.assert_allclose(run(matte, frames), matte(frames).alpha, atol=1e-5)
    assert run._cache_size() == 1


def test_it_is_tuned_as_it_is(lively):
    frames = random_frames(1, 2, 32, 48, 3, dtype=jnp.float32)

    def loss(params):
        return replace(lively, variables={**lively.variables, "params": params})(frames).alpha.mean()

    slope = jax.grad(loss)(lively.variables["params"])
    step = jax.tree.map(lambda p, g: p - jnp.float32(1e-3) * g, lively.variables["params"], slope)
    assert loss(step) < loss(lively.variables["params"])


def test_an_ensemble_of_stacked_variables(lively):
    frames = random_frames(1, 2, 32, 48, 3, dtype=jnp.float32)
    members = [lively, other(lively)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    alphas = jax.vmap(lambda matte: matte(frames).alpha)(stacked)
    for alpha, matte in zip(alphas, members, strict=True):
        np.testing.assert_allclose(alpha, matte(frames).alpha, atol=1e-5)
    assert np.abs(alphas[0] - alphas[1]).max() > 0.01


def test_it_is_put_on_devices(lively):
    frames = np.asarray(random_frames(2, 1, 32, 48, 3, dtype=jnp.float32))
    expected = lively(frames).alpha
    last = jax.devices()[-1]
    alpha = jax.device_put(lively, last)(frames).alpha
    assert jax.device_put(lively, last).folded()(frames).alpha.devices() == {last}
    assert alpha.devices() == {last}
    np.testing.assert_allclose(alpha, expected, atol=1e-5)

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), "batch")
    everywhere = jax.device_put(lively, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    shared = jax.device_put(frames, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch")))
    alpha = everywhere(shared).alpha
    assert len(alpha.devices()) == 2
    np.testing.assert_allclose(alpha, expected, atol=1e-5)


def test_it_is_shown_in_one_line(matte, path):
    count = sum(leaf.size for leaf in jax.tree.leaves(matte.variables["params"]))
    assert repr(matte) == f"Matte(tiny, deep guided filter, {count:,} parameters, float32)"
    assert repr(rvm_jax.load(path, "bfloat16")).endswith(" parameters, bfloat16)")
    assert repr(jax.eval_shape(lambda matte: matte, matte)) == repr(matte)


# Saving


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors", "net"])
def test_what_is_saved_is_loaded_bit_for_bit(lively, tmp_path, name):
    tuned = other(lively)
    rvm_jax.save(tuned, tmp_path / name)
    again = rvm_jax.load(tmp_path / name)
    assert again.network == tuned.network
    assert jax.tree.structure(again) == jax.tree.structure(tuned)
    jax.tree.map(np.testing.assert_array_equal, again, tuned)
    with pytest.raises(rvm_jax.InputError, match=r"exists already: .* overwrite=True"):
        rvm_jax.save(lively, tmp_path / name)
    rvm_jax.save(lively, tmp_path / name, overwrite=True)
    jax.tree.map(np.testing.assert_array_equal, rvm_jax.load(tmp_path / name), lively)


def test_a_variant_of_ones_own_is_saved_and_loaded(tmp_path):
    network = rvm_jax.MattingNetwork(TINY_RESNET, "fast_guided_filter")
    matte = rvm_jax.Matte(network, random_variables(network, jnp.float32))
    rvm_jax.save(matte, tmp_path / "mine.pth")
    again = rvm_jax.load(tmp_path / "mine.pth", variant=TINY_RESNET)
    assert again.network == network
    jax.tree.map(np.testing.assert_array_equal, again, matte)


def test_half_precision_is_saved_widened(lively, tmp_path):
    halved = jax.tree.map(lambda x: x.astype(jnp.bfloat16) if x.dtype == jnp.float32 else x, lively)
    rvm_jax.save(halved, tmp_path / "net.pth")
    widened = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x, halved)
    jax.tree.map(np.testing.assert_array_equal, rvm_jax.load(tmp_path / "net.pth"), widened)


def test_what_is_no_network_is_not_saved(lively, tmp_path):
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), lively)
    with pytest.raises(rvm_jax.InputError, match=r"does not fit the network 'tiny'") as caught:
        rvm_jax.save(stacked, tmp_path / "net.pth")
    assert "\n- params/project_seg/bias [1] float\n+ params/project_seg/bias [2, 1] float" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# The package's own namespace


def test_names_of_the_package():
    assert rvm_jax.__version__ == version("rvm-jax")
    assert {"load", "save", "Matte", "matte_video", "InputError", "__version__"} <= set(rvm_jax.__all__)
    assert set(rvm_jax.__all__) <= set(dir(rvm_jax))
    for name in dir(rvm_jax):
        assert getattr(rvm_jax, name) is not None
    with pytest.raises(AttributeError, match="module 'rvm_jax' has no attribute 'laod'"):
        _ = rvm_jax.laod


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(rvm_jax.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (node.module, alias.asname) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == {(f"rvm_jax.{home}", name) for home, names in rvm_jax._HOMES.items() for name in names}
    assert (Path(rvm_jax.__file__).parent / "py.typed").exists()


def test_a_video_is_computed_in_the_dtype_of_the_variables(path, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for number in range(2):
        Image.new("RGB", (48, 32), (90, 120, 60)).save(tmp_path / "in" / f"{number}.png")
    seen = []
    run = matting.matte_chunk

    def spy(network, variables, pixels, state, *others, **options):
        made, after = run(network, variables, pixels, state, *others, **options)
        seen.append((pixels.dtype, after.r1.dtype))
        return made, after

    monkeypatch.setattr(matting, "matte_chunk", spy)
    for dtype in ("float64", "bfloat16"):
        rvm_jax.matte_video(tmp_path / "in", tmp_path / dtype, weights=rvm_jax.load(path, dtype), chunk=2)
    assert seen == [(np.uint8, np.float64), (np.uint8, np.float32)]


def test_batch_norm_is_folded_in_float64():
    """Into float32 kernels, so that what they compute differs by rounding."""
    network = MattingNetwork("tiny")
    matte = rvm_jax.Matte(network, random_variables(network, jnp.float32))
    frames = np.asarray(random_frames(1, 3, 48, 64, 3, dtype=jnp.float32))
    folded = matte.folded()
    assert folded.folded() is folded
    assert repr(folded).endswith("parameters, folded, float32)")
    assert folded.dtype == jnp.float32
    for expected, found in zip(matte(frames, None, 0.5)[:2], folded(frames, None, 0.5), strict=False):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_what_is_folded_is_not_saved(matte, tmp_path):
    with pytest.raises(rvm_jax.InputError, match="save what it was made of"):
        rvm_jax.save(matte.folded(), tmp_path / "folded.safetensors")
    assert not list(tmp_path.iterdir())
