"""Layers with PyTorch's arithmetic, on channels-last arrays.

The functions are pure and work in whatever floating-point dtype they are given. The two modules, `Conv` and
`BatchNorm`, only add parameters and statistics to them. Kernels are `[h, w, in, out]`; every convolution pads by
`dilation · (k - 1) / 2` on both sides, as PyTorch's do, and never by XLA's `SAME`, which is asymmetric at stride 2.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from rvm_jax.errors import InputError

# PyTorch's default: uniform within ±1/√fan_in.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def per_channel(vector: Array) -> Array:
    """`[C]` → `[1, 1, 1, C]`, so that it broadcasts over frames, rows and columns by intent and not by accident."""
    return vector.reshape(1, 1, 1, -1)


def conv2d(x: Array, kernel: Array, *, stride: int = 1, dilation: int = 1) -> Array:
    """Convolution without bias. `[N, H, W, I]`, `[h, w, I, O]` → `[N, ceil(H/stride), ceil(W/stride), O]`."""
    height, width = kernel.shape[:2]
    if (height, width) == (1, 1):
        x = x[:, ::stride, ::stride]
        return jnp.einsum("nhwi,io->nhwo", x, kernel[0, 0])
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[_padding(height, dilation), _padding(width, dilation)],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def depthwise_conv2d(x: Array, kernel: Array, *, stride: int = 1, dilation: int = 1) -> Array:
    """Convolution of each channel with its own kernel. `[N, H, W, C]`, `[h, w, 1, C]` → `[N, ⌈H/s⌉, ⌈W/s⌉, C]`."""
    height, width, _, channels = kernel.shape
    padding = [_padding(height, dilation), _padding(width, dilation)]

    def convolution(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(stride, stride),
            padding=padding,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
        )

    def shifted_products(x: Array, kernel: Array) -> Array:
        rows, columns = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
        padded = jnp.pad(x, [(0, 0), *padding, (0, 0)])
        total = jnp.zeros((), x.dtype)
        for i in range(height):
            for j in range(width):
                window = padded[
                    :,
                    i * dilation : i * dilation + (rows - 1) * stride + 1 : stride,
                    j * dilation : j * dilation + (columns - 1) * stride + 1 : stride,
                ]
                total = total + window * per_channel(kernel[i, j, 0])
        return total

    # XLA's grouped convolution is some fifty times slower than this on CPU.
    return lax.platform_dependent(x, kernel, cpu=shifted_products, default=convolution)


def _padding(size: int, dilation: int) -> tuple[int, int]:
    one_side = dilation * (size - 1) // 2
    return one_side, one_side


class Conv(nn.Module):
    """A convolution with its kernel and, unless `use_bias` is off, its bias. `dtype` is the dtype it computes in."""

    features: int
    kernel_size: int = 1
    stride: int = 1
    dilation: int = 1
    depthwise: bool = False
    use_bias: bool = False
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = kernel_init

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[N, H, W, C]` → `[N, ⌈H/stride⌉, ⌈W/stride⌉, features]`."""
        inputs = 1 if self.depthwise else x.shape[-1]
        shape = (self.kernel_size, self.kernel_size, inputs, self.features)
        dtype = self.dtype or x.dtype
        kernel = self.param("kernel", self.kernel_init, shape)
        convolve = depthwise_conv2d if self.depthwise else conv2d
        x = convolve(x.astype(dtype), kernel.astype(dtype), stride=self.stride, dilation=self.dilation)
        if self.use_bias:
            bound = 1 / (shape[0] * shape[1] * shape[2]) ** 0.5
            x = x + per_channel(self.param("bias", _uniform(bound), (self.features,)).astype(dtype))
        return x


def _uniform(bound: float) -> nn.initializers.Initializer:
    def init(key: Array, shape: tuple[int, ...], dtype: DTypeLike = float) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class BatchNorm(nn.Module):
    """Batch normalisation with PyTorch's running statistics.

    `momentum` is PyTorch's: new = (1 - momentum) · old + momentum · batch. The stored variance is the unbiased one, the
    one that normalises is not. With `axis_name`, statistics are those of the global batch over that device axis.
    Statistics are computed and kept in the dtype of the parameters, whatever the dtype of `x`.
    """

    use_running_average: bool
    momentum: float = 0.1
    epsilon: float = 1e-5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[N, H, W, C]` → the same, normalised per channel."""
        features = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, scale.dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, scale.dtype)
        # PyTorch counts the batches too; nothing reads the count, but a state_dict carries it.
        count = self.variable("batch_stats", "count", jnp.zeros, (), jnp.int32)

        if self.use_running_average:
            mean, var = running_mean.value, running_var.value
        else:
            mean, var, size = batch_statistics(
                x.astype(scale.dtype), None if self.is_initializing() else self.axis_name
            )
            if size < 2:
                raise InputError("training needs more than one value per channel: give larger frames or more of them")
            if not self.is_initializing():
                m = self.momentum
                running_mean.value = (1 - m) * running_mean.value + m * lax.stop_gradient(mean)
                running_var.value = (1 - m) * running_var.value + m * lax.stop_gradient(var) * (size / (size - 1))
                count.value = count.value + 1

        factor = scale * lax.rsqrt(var + self.epsilon)
        normalised = (x.astype(scale.dtype) - per_channel(mean)) * per_channel(factor) + per_channel(bias)
        return normalised.astype(x.dtype)


def batch_statistics(x: Array, axis_name: str | None = None) -> tuple[Array, Array, int]:
    """Mean `[C]`, biased variance `[C]` and number of values per channel of `[N, H, W, C]`, over all devices."""
    size = x.size // x.shape[-1]
    mean = x.mean((0, 1, 2))
    if axis_name is not None:
        size *= lax.axis_size(axis_name)
        mean = lax.pmean(mean, axis_name)
    var = jnp.square(x - per_channel(mean)).mean((0, 1, 2))
    if axis_name is not None:
        var = lax.pmean(var, axis_name)
    return mean, var, size


def hard_sigmoid(x: Array) -> Array:
    return jnp.clip(x + 3, 0, 6) / 6


def hard_swish(x: Array) -> Array:
    return x * hard_sigmoid(x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "hard_swish": hard_swish}
