"""Layers with PyTorch's arithmetic, on channels-last arrays.

The functions are pure and work in whatever floating-point dtype they are given. The two modules, `Conv` and
`BatchNorm`, only add parameters and statistics to them.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from rvm_jax.errors import InputError
from rvm_jax.model.convolution import conv2d, depthwise_conv2d, per_channel
from rvm_jax.model.upscaled_convolution import upscaled_conv2d
from rvm_jax.model.variants import NORM_EPSILON, NORM_MOMENTUM

# PyTorch's default: uniform within ±1/√fan_in.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Conv(nn.Module):
    """A convolution with its kernel and, unless `use_bias` is off, its bias. `dtype` is the dtype it computes in."""

    features: int
    kernel_size: int = 1
    stride: int = 1
    dilation: int = 1
    depthwise: bool = False
    use_bias: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, *others: Array) -> Array:
        """`[N, H, W, C]` → `[N, ⌈H/stride⌉, ⌈W/stride⌉, features]`.

        With others of twice the size, x is up-sampled to it, and all are concatenated.
        """
        inputs = 1 if self.depthwise else sum(array.shape[-1] for array in (x, *others))
        shape = (self.kernel_size, self.kernel_size, inputs, self.features)
        dtype = x.dtype if self.dtype is None else self.dtype
        kernel = self.param("kernel", kernel_init, shape)
        x, kernel = x.astype(dtype), kernel.astype(dtype)
        if others:
            x = upscaled_conv2d(x, [other.astype(dtype) for other in others], kernel)
        else:
            convolve = depthwise_conv2d if self.depthwise else conv2d
            x = convolve(x, kernel, stride=self.stride, dilation=self.dilation)
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
    momentum: float = NORM_MOMENTUM
    epsilon: float = NORM_EPSILON
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, *, apply: bool = True) -> Array | tuple[Array, Array]:
        """`[N, H, W, C]` → the same, normalised per channel.

        Without `apply`, what `affine` needs to do that: factor and offset, each `[C]`.
        """
        features = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, scale.dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, scale.dtype)
        # PyTorch counts the batches too; nothing reads the count, but a state_dict carries it.
        count = self.variable("batch_stats", "count", jnp.zeros, (), jnp.int32)

        if self.use_running_average:
            constants = _factor_and_offset(running_mean.value, running_var.value, scale, bias, self.epsilon)
            return affine(x, *constants) if apply else constants

        axis_name = None if self.is_initializing() else self.axis_name
        size = x.size // x.shape[-1] * (lax.axis_size(axis_name) if axis_name else 1)
        if size < 2:
            raise InputError("training needs more than one value per channel: give larger frames or more of them")
        result: Array | tuple[Array, Array]
        if apply:
            result, mean, var = normalize(x, scale, bias, self.epsilon, axis_name)
        else:
            mean, var = _statistics(x.astype(scale.dtype), axis_name)
            result = _factor_and_offset(mean, var, scale, bias, self.epsilon)
        if not self.is_initializing():
            m = self.momentum
            running_mean.value = (1 - m) * running_mean.value + m * mean
            running_var.value = (1 - m) * running_var.value + m * var * (size / (size - 1))
            count.value = count.value + 1
        return result


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize(x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None) -> tuple[Array, Array, Array]:
    """Normalise `[N, H, W, C]` with its own statistics; also mean and biased variance, for the record.

    No gradient flows through that record. With `axis_name` the statistics are those of all devices. The backward pass
    is written out because the one that differentiation finds reads x several times more often (seen on a CPU:
    `benchmarks/train.py`).
    """
    mean, var = _statistics(x.astype(scale.dtype), axis_name)
    return affine(x, *_factor_and_offset(mean, var, scale, bias, epsilon)), mean, var


def _normalize_forward(
    x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array, Array]]:
    y, mean, var = normalize(x, scale, bias, epsilon, axis_name)
    return (y, mean, var), (x, scale, mean, var)


def _normalize_backward(
    epsilon: float,
    axis_name: str | None,
    residuals: tuple[Array, Array, Array, Array],
    cotangents: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array]:
    """With x̂ the normalised x: `scale / σ · (g - mean(g) - x̂ · mean(g · x̂))`.

    The gradients of scale and bias are this device's share of them.
    """
    x, scale, mean, var = residuals
    cotangent = cotangents[0].astype(scale.dtype)
    centred = x.astype(scale.dtype) - per_channel(mean)
    inverse = lax.rsqrt(var + epsilon)
    size = x.size // x.shape[-1]
    bias_gradient = cotangent.sum((0, 1, 2))
    scale_gradient = (cotangent * centred).sum((0, 1, 2)) * inverse
    mean_g = _average(bias_gradient / size, axis_name)
    mean_gx = _average(scale_gradient / size, axis_name)
    x_gradient = per_channel(scale * inverse) * (
        cotangent - per_channel(mean_g) - centred * per_channel(inverse * mean_gx)
    )
    return x_gradient.astype(x.dtype), scale_gradient, bias_gradient


normalize.defvjp(_normalize_forward, _normalize_backward)


def _average(x: Array, axis_name: str | None) -> Array:
    return x if axis_name is None else lax.pmean(x, axis_name)


def _statistics(x: Array, axis_name: str | None) -> tuple[Array, Array]:
    """Mean and biased variance of each channel."""
    mean = _average(x.mean((0, 1, 2)), axis_name)
    # Two passes: the mean of squares minus the square of the mean would lose its digits in float32.
    return mean, _average(jnp.square(x - per_channel(mean)).mean((0, 1, 2)), axis_name)


def _factor_and_offset(mean: Array, var: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Array]:
    """Factor and offset of each channel that normalise it."""
    factor = scale * lax.rsqrt(var + epsilon)
    return factor, bias - mean * factor


def affine(x: Array, factor: Array, offset: Array) -> Array:
    """`x · factor + offset` for each channel, in the dtype of the factor; what comes out has that of x."""
    return (x.astype(factor.dtype) * per_channel(factor) + per_channel(offset)).astype(x.dtype)


def hard_sigmoid(x: Array) -> Array:
    return jnp.clip(x + 3, 0, 6) / 6


def hard_swish(x: Array) -> Array:
    return x * hard_sigmoid(x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "hard_swish": hard_swish}
