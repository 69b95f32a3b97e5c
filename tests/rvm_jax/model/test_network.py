"""What the network promises beyond the reference numbers: clips, chunks, state, dtypes, devices, clear errors."""

import operator
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rvm_jax.errors import InputError
from rvm_jax.model.decoder import State
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import REFINERS
from tests.rvm_jax.conftest import random_frames, random_variables


@partial(jax.jit, static_argnums=(0,), static_argnames=("downsample_ratio", "segmentation"))
def apply(network, variables, frames, state=None, **options):
    return network.apply(variables, frames, state, **options)


def assert_close(given, expected, tolerance: float) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=tolerance), given, expected)


@pytest.fixture(scope="module")
def tiny():
    network = MattingNetwork("tiny")
    return network, random_variables(network)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [pytest.param(jnp.float64, 1e-12, marks=pytest.mark.slow), (jnp.float32, 1e-4)]
)
def test_200_frames_in_chunks_are_the_clip(tiny, dtype, tolerance):
    network, variables = tiny[0], random_variables(tiny[0], dtype)
    frames = random_frames(1, 200, 32, 48, 3, dtype=dtype)
    whole = apply(network, variables, frames)
    state, parts = None, []
    for start in range(0, 200, 40):
        part = apply(network, variables, frames[:, start : start + 40], state)
        state = part.state
        parts.append(part)
    assert_close(jnp.concatenate([part.alpha for part in parts], 1), whole.alpha, tolerance)
    assert_close(jnp.concatenate([part.foreground for part in parts], 1), whole.foreground, tolerance)
    assert_close(state, whole.state, tolerance)
    # The memory matters: the same frames without it give something else.
    forgetful = apply(network, variables, frames[:, 160:])
    assert float(jnp.abs(forgetful.alpha - whole.alpha[:, 160:]).max()) > 1e-3


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_single_frames_are_clips_of_one(network, ratio):
    variables = random_variables(network)
    frames = random_frames(2, 38, 50, 3)
    clip = apply(network, variables, frames[:, None], downsample_ratio=ratio)
    single = apply(network, variables, frames, downsample_ratio=ratio)
    assert single.foreground.shape == (2, 38, 50, 3)
    assert single.alpha.shape == (2, 38, 50, 1)
    assert_close(single.alpha, clip.alpha[:, 0], 1e-12)
    assert_close(single.foreground, clip.foreground[:, 0], 1e-12)
    assert_close(single.state, clip.state, 1e-12)


def test_clips_of_a_batch_do_not_see_each_other(network):
    variables = random_variables(network)
    frames = random_frames(3, 2, 33, 40, 3)
    together = apply(network, variables, frames, downsample_ratio=0.5)
    alone = apply(network, variables, frames[1:2], downsample_ratio=0.5)
    assert_close(together.alpha[1:2], alone.alpha, 1e-12)
    assert_close([r[1:2] for r in together.state], list(alone.state), 1e-12)


def test_segmentation_pass(tiny):
    network, variables = tiny
    frames = random_frames(2, 3, 40, 48, 3)
    result = apply(network, variables, frames, segmentation=True)
    matting = apply(network, variables, frames)
    assert result.logits.shape == (2, 3, 40, 48, 1)
    assert float(result.logits.min()) < 0  # logits are not clipped
    assert_close(result.state, matting.state, 1e-12)


def test_results_are_clipped(tiny):
    network, variables = tiny
    result = apply(network, variables, random_frames(1, 2, 40, 48, 3))
    for array in (result.alpha, result.foreground):
        assert float(array.min()) >= 0
        assert float(array.max()) <= 1


def test_float32_and_bfloat16(tiny):
    network, variables = tiny
    expected = apply(network, variables, random_frames(1, 3, 64, 64, 3), downsample_ratio=0.5)
    narrow = random_variables(network, jnp.float32)
    frames = random_frames(1, 3, 64, 64, 3, dtype=jnp.float32)
    for dtype, tolerance, state_tolerance in ((None, 1e-4, 1e-4), (jnp.bfloat16, 0.02, 0.05)):
        result = apply(MattingNetwork("tiny", dtype=dtype), narrow, frames, downsample_ratio=0.5)
        assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype(jnp.float32)}
        assert_close(result.alpha, expected.alpha, tolerance)
        assert_close(result.foreground, expected.foreground, tolerance)
        assert_close(result.state, expected.state, state_tolerance)


@pytest.mark.parametrize("refiner", REFINERS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.dtype.name)
def test_narrow_frames_give_the_matte_of_the_same_frames_in_float32(refiner, dtype):
    """Also where a frame is nearly flat, which is what the guided filter divides by."""
    network = MattingNetwork("tiny", refiner)
    variables = random_variables(network, jnp.float32)
    frames = (0.6 + 0.1 * (random_frames(1, 3, 96, 128, 3, dtype=jnp.float32) - 0.5)).astype(dtype)
    wide = frames.astype(jnp.float32)
    given = apply(network, variables, frames, downsample_ratio=0.5)
    same_convolutions = apply(network.clone(dtype=dtype), variables, wide, downsample_ratio=0.5)
    expected = apply(network, variables, wide, downsample_ratio=0.5)
    assert given.foreground.dtype == given.alpha.dtype == dtype
    assert {r.dtype for r in given.state} == {jnp.dtype(jnp.float32)}
    # Nothing but the results is rounded (but for a few pixels, as two programs may round them differently) ...
    for one, other in zip(given[:2], same_convolutions[:2], strict=True):
        assert float((one != other.astype(dtype)).mean()) < 1e-3
    # ... and what the convolutions, as narrow as the frames, round.
    tolerance = 0.02 if dtype == jnp.bfloat16 else 0.003
    given = jax.tree.map(lambda x: x.astype(jnp.float32), given)
    assert_close(given, expected, tolerance)


def test_bfloat16_runs_its_convolutions_in_bfloat16():
    network = MattingNetwork("tiny", dtype=jnp.bfloat16)
    variables = random_variables(network, jnp.float32)
    frames = random_frames(1, 2, 32, 32, 3, dtype=jnp.float32)
    program = jax.jit(network.apply).lower(variables, frames).as_text()
    convolutions = [
        line for line in program.splitlines() if "stablehlo.convolution" in line or "stablehlo.dot_general" in line
    ]
    assert convolutions
    assert all("bf16" in line for line in convolutions)


@pytest.mark.platforms
def test_a_cpu_gets_no_depthwise_convolution_and_a_gpu_no_scatter(tiny):
    """Up to fifty times slower on a CPU. A scatter adds in any order: on a GPU, other bits each time."""
    network, variables = tiny
    frames = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), jnp.float64)

    def loss(variables, frames):
        result = network.apply(variables, frames, None, 0.5, train=True, mutable=["batch_stats"])[0]
        return result.alpha.sum() + result.foreground.sum()

    def program(platform):
        gradient = jax.jit(jax.grad(loss, allow_int=True))
        return jax.export.export(gradient, platforms=[platform])(variables, frames).mlir_module()

    for count in re.findall(r"(?:feature|batch)_group_count = (\d+)", program("cpu")):
        assert count == "1"
    on_gpu = program("cuda")
    assert "stablehlo.convolution" in on_gpu
    assert not re.findall(r"stablehlo\.\w*scatter", on_gpu)


@pytest.mark.parametrize("segmentation", [False, True])
def test_one_init_makes_the_weights_of_every_pass(network, segmentation):
    init = partial(network.init, segmentation=segmentation)
    made = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 1, 32, 32, 3), jnp.float32))
    groups = {"encoder", "aspp", "decoder", "project_mat", "project_seg"}
    groups |= {"refiner"} if network.refiner == "deep_guided_filter" else set()
    assert made["params"].keys() == groups


@pytest.mark.parametrize(("name", "count"), [("mobilenetv3", 3_748_633), ("resnet50", 26_890_461)])
def test_parameter_counts(name, count):
    frames = jax.ShapeDtypeStruct((1, 1, 32, 32, 3), jnp.float32)
    made = jax.eval_shape(MattingNetwork(name).init, jax.random.key(0), frames)
    assert sum(leaf.size for leaf in jax.tree.leaves(made["params"])) == count


@pytest.mark.slow
def test_eight_devices_with_a_clip_each_are_one_with_eight(variant):
    """Outputs, gradients and statistics of a training pass with BatchNorm synchronised over the devices."""
    variables = random_variables(MattingNetwork(variant))
    # Each device's clip has its own brightness, so that local statistics would be wrong.
    frames = random_frames(8, 2, 32, 32, 3) * jnp.linspace(0.2, 1, 8).reshape(8, 1, 1, 1, 1)

    def train_pass(network, frames, average):
        def loss(params):
            result, updated = network.apply(
                {**variables, "params": params}, frames, None, 0.5, train=True, mutable=["batch_stats"]
            )
            value = jnp.square(result.alpha - 0.3).mean() + jnp.square(result.foreground - 0.6).mean()
            # The mean over the devices is the loss, so that each holds its share of the gradient.
            return average(value), (result.alpha, updated["batch_stats"])

        (value, (alpha, stats)), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        return value, alpha, stats, gradient

    def on_each(frames):
        value, alpha, stats, gradient = train_pass(MattingNetwork(variant, axis_name="batch"), frames, lambda x: x)
        return jax.lax.pmean(value, "batch"), alpha, stats, jax.lax.pmean(gradient, "batch")

    value, alpha, stats, gradient = jax.pmap(on_each, "batch")(frames[:, None])
    expected = jax.jit(lambda frames: train_pass(MattingNetwork(variant), frames, lambda x: x))(frames)
    expected_value, expected_alpha, expected_stats, expected_gradient = expected
    np.testing.assert_allclose(value, np.full(8, expected_value), rtol=1e-12)
    np.testing.assert_allclose(alpha[:, 0], expected_alpha, atol=1e-10)
    for device in (0, 7):
        assert_close(jax.tree.map(operator.itemgetter(device), stats), expected_stats, 1e-10)
        assert_close(jax.tree.map(operator.itemgetter(device), gradient), expected_gradient, 1e-9)


@pytest.mark.parametrize("train", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_sharded_batch_stays_where_it_is(tiny, train):
    """With `jax.jit` and `NamedSharding`, each device computes its clips, and no more than statistics are exchanged."""
    network, variables = tiny
    mesh = Mesh(np.array(jax.devices()[:4]), ("batch",))
    clips, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("batch",), ()))
    frames = jax.ShapeDtypeStruct((4, 2, 32, 32, 3), jnp.float64)

    def matte(variables, frames):
        return network.apply(variables, frames, None, 0.5)

    def gradient(variables, frames):
        def loss(params):
            result, _ = network.apply(
                {**variables, "params": params}, frames, None, 0.5, train=True, mutable=["batch_stats"]
            )
            return jnp.square(result.alpha).mean() + jnp.square(result.foreground).mean()

        return jax.grad(loss)(variables["params"])

    run = jax.jit(gradient if train else matte, in_shardings=(everywhere, clips))
    compiled = run.lower(variables, frames).compile()
    assert not re.findall(r"all-gather|all-to-all|collective-permute", compiled.as_text())
    if not train:
        assert "all-reduce" not in compiled.as_text()
        assert {s.spec for s in jax.tree.leaves(compiled.output_shardings)} == {PartitionSpec("batch")}


BAD_FRAMES = [
    ((2, 40, 40), "float64", 1.0, r"shape \(2, 40, 40\): expected \[B, T, H, W, 3\]"),
    ((1, 1, 40, 40, 4), "float64", 1.0, "RGB last"),
    ((1, 1, 3, 40, 40), "float64", 1.0, "RGB last"),
    ((1, 1, 40, 40, 3), "uint8", 1.0, "frames are uint8: expected floats in 0..1, so divide"),
    ((1, 0, 40, 40, 3), "float64", 1.0, "holds no pixel"),
    ((1, 1, 40, 40, 3), "float64", 0.0, "downsample_ratio is 0.0: expected a number above 0 and at most 1"),
    ((1, 1, 40, 40, 3), "float64", 1.5, "downsample_ratio is 1.5"),
    ((1, 1, 40, 40, 3), "float64", float("nan"), "downsample_ratio is nan"),
    ((1, 1, 15, 40, 3), "float64", 1.0, "15×40 pixels .* each side needs 16"),
    ((1, 1, 40, 40, 3), "float64", 0.25, "leave 10×10 for the network"),
]


@pytest.mark.parametrize(("shape", "dtype", "ratio", "message"), BAD_FRAMES)
def test_bad_frames(tiny, shape, dtype, ratio, message):
    network, variables = tiny
    with pytest.raises(InputError, match=message) as caught:
        network.apply(variables, jnp.zeros(shape, dtype), None, ratio)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("downsample_ratio", 0.5), ("train", False), ("segmentation", True)])
def test_what_must_be_static_says_so(tiny, name, value):
    network, variables = tiny
    frames = random_frames(1, 1, 40, 48, 3)
    message = rf"^{name} must be static: jax.jit\(..., static_argnames='{name}'\)"
    with pytest.raises(InputError, match=message):
        jax.jit(network.apply)(variables, frames, **{name: value})
    # The mend that it names works.
    result = jax.jit(network.apply, static_argnames=name)(variables, frames, **{name: value})
    assert_close(result, apply(network, variables, frames, **({} if name == "train" else {name: value})), 1e-12)


def test_the_smallest_frames_work(network):
    result = apply(network, random_variables(network), random_frames(1, 1, 16, 17, 3))
    assert result.alpha.shape == (1, 1, 16, 17, 1)
    assert bool(jnp.isfinite(result.alpha).all())


def test_a_state_of_other_frames_is_refused_with_its_size(tiny):
    network, variables = tiny
    state = network.initial_state(1, (64, 96), dtype=jnp.float64)
    with pytest.raises(
        InputError, match=r"1 clip\(s\) whose frames are 64×96 after down-sampling .* 1 clip\(s\) of 32×48"
    ):
        network.apply(variables, random_frames(1, 1, 32, 48, 3), state)
    with pytest.raises(InputError, match=r"these are 2 clip\(s\) of 64×96"):
        network.apply(variables, random_frames(2, 1, 64, 96, 3), state)
    with pytest.raises(InputError, match="does not fit the frames"):
        network.apply(variables, random_frames(1, 1, 64, 96, 3), state._replace(r3=state.r2))
    other = MattingNetwork("mobilenetv3").initial_state(1, (64, 96), dtype=jnp.float64)
    with pytest.raises(InputError, match="made by another variant than 'tiny'"):
        network.apply(variables, random_frames(1, 1, 64, 96, 3), other)
    with pytest.raises(InputError, match="does not fit the frames"):
        network.apply(variables, random_frames(1, 1, 64, 96, 3), State(*[jnp.zeros(3)] * 4))


def test_unknown_names_are_refused(tiny):
    frames = random_frames(1, 1, 32, 32, 3)
    with pytest.raises(InputError, match="unknown variant 'mobilenet': choose one of mobilenetv3, resnet50, tiny"):
        MattingNetwork("mobilenet").init(jax.random.key(0), frames)
    with pytest.raises(InputError, match="unknown refiner 'none'"):
        MattingNetwork("tiny", "none").init(jax.random.key(0), frames)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("variant", ["mobilenetv3", "resnet50"])
def test_gradients_on_accelerators_neither_gather_pixels_nor_scatter(variant, platform):
    """A scatter adds in any order, so on GPUs the same step would give other bits each time."""
    network = MattingNetwork(variant)
    frames = jax.ShapeDtypeStruct((1, 2, 64, 48, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), frames)

    def loss(params, statistics, frames):
        result, _ = network.apply(
            {"params": params, "batch_stats": statistics}, frames, train=True, mutable=["batch_stats"]
        )
        return result.alpha.sum() + result.foreground.sum()

    traced = jax.jit(jax.grad(loss)).trace(variables["params"], variables["batch_stats"], frames)
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert "scatter" not in program
    assert "gather" not in program
