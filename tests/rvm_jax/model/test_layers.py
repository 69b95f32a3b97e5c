"""Convolutions and layers against PyTorch's."""

import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax.sharding import Mesh, PartitionSpec

from rvm_jax.errors import InputError
from rvm_jax.model import convolution, layers
from rvm_jax.model.encoders.resnet import max_pool


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def to_torch(x: np.ndarray) -> torch.Tensor:
    """Channels-last array → channels-first tensor that wants a gradient."""
    return torch.tensor(np.moveaxis(x, -1, 1)).requires_grad_()


def from_torch(x: torch.Tensor) -> np.ndarray:
    return np.moveaxis(x.detach().numpy(), 1, -1)


@pytest.fixture(params=["cpu", "default"])
def platform(request, monkeypatch) -> str:
    """Run the form that a platform would get, also those that this machine is not."""
    monkeypatch.setattr(
        convolution.lax,
        "platform_dependent",
        lambda *operands, **forms: forms.get(request.param, forms["default"])(*operands),
    )
    return request.param


def check_convolution(convolve, x: np.ndarray, kernel: np.ndarray, stride: int, dilation: int, groups: int) -> None:
    """Values and both gradients against PyTorch's."""
    x_torch, kernel_torch = to_torch(x), torch.tensor(kernel.transpose(3, 2, 0, 1).copy()).requires_grad_()
    padding = dilation * (kernel.shape[0] - 1) // 2
    expected = F.conv2d(x_torch, kernel_torch, None, stride, padding, dilation, groups)
    given, pullback = jax.vjp(lambda x, k: convolve(x, k, stride=stride, dilation=dilation), x, kernel)
    np.testing.assert_allclose(given, from_torch(expected), atol=1e-11)

    cotangent = normal(2, *given.shape)
    expected.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    x_gradient, kernel_gradient = pullback(jnp.asarray(cotangent))
    np.testing.assert_allclose(x_gradient, from_torch(x_torch.grad), atol=1e-11)
    np.testing.assert_allclose(kernel_gradient, kernel_torch.grad.numpy().transpose(2, 3, 1, 0), atol=1e-11)


CONVOLUTIONS = [
    # kernel size, stride, dilation, inputs, outputs, height, width
    (1, 1, 1, 5, 7, 6, 9),
    (1, 2, 1, 5, 7, 7, 10),
    (3, 1, 1, 5, 7, 6, 9),
    (3, 1, 1, 3, 2, 1, 1),
    (3, 1, 1, 40, 33, 17, 12),
    (3, 2, 1, 3, 8, 11, 14),
    (3, 2, 1, 3, 40, 11, 14),
    (3, 1, 2, 6, 5, 9, 7),
    (3, 2, 2, 6, 5, 9, 8),
    (7, 2, 1, 3, 4, 16, 19),
]


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(("size", "stride", "dilation", "inputs", "outputs", "height", "width"), CONVOLUTIONS)
def test_conv2d_and_its_gradients(size, stride, dilation, inputs, outputs, height, width):
    x, kernel = normal(0, 2, height, width, inputs), normal(1, size, size, inputs, outputs)
    check_convolution(convolution.conv2d, x, kernel, stride, dilation, groups=1)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("platform", ["cuda"], indirect=True)
@pytest.mark.parametrize(("height", "width"), [(9, 7), (2, 1)])
def test_conv2d_with_dilation_on_gpus(height, width):
    x, kernel = normal(0, 2, height, width, 6), normal(1, 3, 3, 6, 5)
    check_convolution(convolution.conv2d, x, kernel, 1, 2, groups=1)


DEPTHWISE = [
    # kernel size, stride, dilation, channels, height, width
    (3, 1, 1, 5, 6, 9),
    (3, 1, 1, 2, 70, 66),  # more pixels than are reduced at once
    (3, 2, 1, 5, 7, 10),
    (3, 2, 1, 5, 8, 9),
    (5, 1, 1, 3, 7, 4),
    (5, 2, 1, 3, 9, 12),
    (5, 1, 2, 4, 9, 11),
    (5, 1, 2, 4, 2, 1),
]


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("platform", ["cpu", "tpu", "default"], indirect=True)
@pytest.mark.parametrize(("size", "stride", "dilation", "channels", "height", "width"), DEPTHWISE)
def test_depthwise_conv2d_and_its_gradients(size, stride, dilation, channels, height, width):
    x, kernel = normal(0, 2, height, width, channels), normal(1, size, size, 1, channels)
    check_convolution(convolution.depthwise_conv2d, x, kernel, stride, dilation, groups=channels)


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 2)])
def test_max_pool_and_its_gradient(size):
    x = np.round(2 * normal(0, 2, *size, 3))  # with equal maxima, of which the first gets the gradient
    x_torch = to_torch(x)
    expected = F.max_pool2d(x_torch, 3, 2, 1)
    given, pullback = jax.vjp(max_pool, jnp.asarray(x))
    np.testing.assert_array_equal(given, from_torch(expected))
    cotangent = normal(1, *given.shape)
    expected.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    np.testing.assert_allclose(pullback(jnp.asarray(cotangent))[0], from_torch(x_torch.grad), atol=1e-15)


@pytest.mark.usefixtures("platform")
def test_transposes_for_the_recurrence():
    x, kernel = normal(0, 2, 5, 6, 4), normal(1, 3, 3, 4, 7)
    cotangent = jnp.asarray(normal(2, 2, 5, 6, 7))
    _, pullback = jax.vjp(convolution.conv2d, x, kernel)
    x_gradient, kernel_gradient = pullback(cotangent)
    np.testing.assert_allclose(convolution.input_gradient(cotangent, jnp.asarray(kernel)), x_gradient, atol=1e-12)
    given = convolution.kernel_gradient(jnp.asarray(x), cotangent, jnp.asarray(kernel))
    np.testing.assert_allclose(given, kernel_gradient, atol=1e-12)


@pytest.mark.parametrize("name", ["relu", "hard_swish"])
def test_activations_and_their_gradients(name):
    x = np.linspace(-5, 5, 101)
    x_torch = torch.tensor(x).requires_grad_()
    expected = {"relu": F.relu, "hard_swish": F.hardswish}[name](x_torch)
    given, pullback = jax.vjp(layers.ACTIVATIONS[name], jnp.asarray(x))
    np.testing.assert_allclose(given, expected.detach(), atol=1e-15)
    cotangent = normal(0, 101)
    expected.backward(torch.tensor(cotangent))
    np.testing.assert_allclose(pullback(jnp.asarray(cotangent))[0], x_torch.grad, atol=1e-15)


def test_hard_sigmoid():
    x = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(layers.hard_sigmoid(jnp.asarray(x)), F.hardsigmoid(torch.tensor(x)), atol=1e-15)


@pytest.fixture
def norm_pair():
    """A BatchNorm with unusual constants, its variables, and PyTorch's twin of it."""
    twin = torch.nn.BatchNorm2d(4, eps=1e-3, momentum=0.3, dtype=torch.float64)
    scale, bias, mean, var = normal(1, 4), normal(2, 4), normal(3, 4), normal(4, 4) ** 2
    with torch.no_grad():
        for target, source in zip(
            (twin.weight, twin.bias, twin.running_mean, twin.running_var), (scale, bias, mean, var), strict=True
        ):
            target.copy_(torch.tensor(source))
    stats = {"mean": mean, "var": var, "count": np.int32(0)}
    return {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}, twin


def batch_norm(train: bool, **kwargs) -> layers.BatchNorm:
    return layers.BatchNorm(use_running_average=not train, momentum=0.3, epsilon=1e-3, **kwargs)


def test_batch_norm_in_eval_mode(norm_pair):
    variables, twin = norm_pair
    x = 3 + 2 * normal(5, 2, 3, 5, 4)
    twin.eval()
    given = batch_norm(train=False).apply(variables, x)
    np.testing.assert_allclose(given, from_torch(twin(to_torch(x))), atol=1e-12)


on_every_platform = pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"], indirect=True)


@on_every_platform
@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("cells", [False, True])
def test_batch_norm_in_training(norm_pair, cells):
    variables, twin = norm_pair
    x = 3 + 2 * normal(5, 2, 4, 6, 4)
    cotangent = normal(6, *x.shape)

    def run(params, x):
        y, updated = batch_norm(train=True, cells=cells).apply(
            {**variables, "params": params}, x, mutable=["batch_stats"]
        )
        return (y * cotangent).sum(), (y, updated["batch_stats"])

    (_, (y, stats)), (params_gradient, x_gradient) = jax.value_and_grad(run, (0, 1), has_aux=True)(
        variables["params"], jnp.asarray(x)
    )
    twin.train()
    x_torch = to_torch(x)
    expected = twin(x_torch)
    expected.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    np.testing.assert_allclose(y, from_torch(expected), atol=1e-12)
    np.testing.assert_allclose(x_gradient, from_torch(x_torch.grad), atol=1e-12)
    np.testing.assert_allclose(params_gradient["scale"], twin.weight.grad, atol=1e-12)
    np.testing.assert_allclose(params_gradient["bias"], twin.bias.grad, atol=1e-12)
    np.testing.assert_allclose(stats["mean"], twin.running_mean, atol=1e-12)
    np.testing.assert_allclose(stats["var"], twin.running_var, atol=1e-12)
    assert stats["count"] == twin.num_batches_tracked == 1


def test_batch_norm_over_devices_is_that_of_the_global_batch(norm_pair):
    variables, _ = norm_pair
    # Each device's values lie elsewhere, so local statistics would be far from the global ones.
    x = normal(7, 8, 1, 3, 5, 4) + 3 * np.arange(8).reshape(8, 1, 1, 1, 1)
    cotangent = jnp.asarray(normal(8, *x.shape))

    def run(x, cotangent, axis_name):
        norm = batch_norm(train=True, axis_name=axis_name)
        y, pullback, updated = jax.vjp(lambda x: norm.apply(variables, x, mutable=["batch_stats"]), x, has_aux=True)
        return y, pullback(cotangent)[0], updated["batch_stats"]

    y, gradient, stats = jax.pmap(lambda x, c: run(x, c, "batch"), "batch")(x, cotangent)
    y_all, gradient_all, stats_all = run(x.reshape(8, 3, 5, 4), cotangent.reshape(8, 3, 5, 4), None)
    np.testing.assert_allclose(y.reshape(8, 3, 5, 4), y_all, atol=1e-12)
    np.testing.assert_allclose(gradient.reshape(8, 3, 5, 4), gradient_all, atol=1e-12)
    for name in ("mean", "var"):
        np.testing.assert_allclose(stats[name][5], stats_all[name], atol=1e-12)


@pytest.mark.parametrize("devices", [1, 4])
@on_every_platform
def test_batch_norm_is_accurate_in_float32_far_from_zero(norm_pair, platform, devices):
    """Where x is read once, as far as the running mean is near."""
    stats, params = norm_pair[0]["batch_stats"], norm_pair[0]["params"]
    stats = {**stats, "mean": stats["mean"] + (0 if platform == "cpu" else 1000)}
    variables = jax.tree.map(
        lambda a: a.astype(np.float32) if a.dtype == np.float64 else a, {"params": params, "batch_stats": stats}
    )
    x = (1000 + normal(9, devices, 4, 16, 16, 4) + np.arange(devices).reshape(-1, 1, 1, 1, 1)).astype(np.float32)
    norm = batch_norm(train=True, axis_name="devices")
    y = jax.pmap(lambda x: norm.apply(variables, x, mutable=["batch_stats"])[0], "devices")(x)
    wide = x.astype(np.float64)
    scale, bias = variables["params"]["scale"], variables["params"]["bias"]
    expected = (wide - wide.mean((0, 1, 2, 3))) / np.sqrt(wide.var((0, 1, 2, 3)) + 1e-3) * scale + bias
    np.testing.assert_allclose(y, expected, atol=5e-4)


@pytest.mark.parametrize("cells", [False, True])
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_batch_norm_reduces_over_the_devices_once_forward_and_once_backward(norm_pair, platform, cells):
    variables, _ = norm_pair
    norm = batch_norm(train=True, axis_name="devices", cells=cells)

    def loss(params, x):
        y, updated = norm.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sin(y).sum(), updated

    mesh = Mesh(np.array(jax.devices()[:4]), ("devices",))
    gradient = jax.jit(
        jax.shard_map(
            jax.grad(loss, (0, 1), has_aux=True),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec("devices")),
            out_specs=((PartitionSpec(), PartitionSpec("devices")), PartitionSpec()),
            check_vma=False,
        )
    )
    x = jax.ShapeDtypeStruct((4, 4, 6, 4), jnp.float64)
    program = jax.export.export(gradient, platforms=[platform])(variables["params"], x).mlir_module()
    assert len(re.findall(r"stablehlo\.(?:all_|collective_|reduce_scatter)\w*", program)) == 2


def test_batch_norm_needs_more_than_one_value(norm_pair):
    variables, _ = norm_pair
    with pytest.raises(InputError, match="more than one value per channel"):
        batch_norm(train=True).apply(variables, jnp.ones((1, 1, 1, 4)), mutable=["batch_stats"])


def test_conv_computes_in_its_dtype_and_keeps_its_parameters():
    conv = layers.Conv(3, 3, use_bias=True, dtype=jnp.bfloat16)
    x = jnp.ones((1, 4, 4, 2), jnp.float32)
    variables = conv.init(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jax.dtypes.canonicalize_dtype(float))}
    assert conv.apply(variables, x).dtype == jnp.bfloat16


def test_initial_kernels_have_pytorchs_spread():
    kernel = layers.kernel_init(jax.random.key(0), (3, 3, 16, 64))
    bound = 1 / np.sqrt(3 * 3 * 16)
    assert float(jnp.abs(kernel).max()) <= bound
    np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.02)
