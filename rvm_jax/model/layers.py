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
from rvm_jax.model.platforms import by_platform
from rvm_jax.model.upscaled_convolution import conv2d_in_cells, in_cells, upscaled_conv2d
from rvm_jax.model.variants import NORM_EPSILON, NORM_MOMENTUM

# PyTorch's default: uniform within ±1/√fan_in.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Conv(nn.Module):
    """A convolution with its kernel and, unless `use_bias` is off, its bias. `dtype` is the dtype it computes in.

    Start values are PyTorch's; with `bias_init` of None the bias's, too. Where `cells` is set, TPUs compute in cells of
    2×2 pixels, at stride 1.
    """

    features: int
    kernel_size: int = 1
    stride: int = 1
    dilation: int = 1
    depthwise: bool = False
    cells: bool = False
    use_bias: bool = False
    dtype: DTypeLike | None = None
    kernel_init: nn.initializers.Initializer = kernel_init
    bias_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, x: Array, *others: Array) -> Array:
        """`[N, H, W, C]` → `[N, ⌈H/stride⌉, ⌈W/stride⌉, features]`.

        With others of twice the size, x is up-sampled to it, and all are concatenated.
        """
        inputs = 1 if self.depthwise else sum(array.shape[-1] for array in (x, *others))
        shape = (self.kernel_size, self.kernel_size, inputs, self.features)
        dtype = x.dtype if self.dtype is None else self.dtype
        kernel = self.param("kernel", self.kernel_init, shape)
        x, kernel = x.astype(dtype), kernel.astype(dtype)
        if others:
            x = upscaled_conv2d(x, [other.astype(dtype) for other in others], kernel)
        elif self.cells:
            x = conv2d_in_cells(x, kernel)
        else:
            convolve = depthwise_conv2d if self.depthwise else conv2d
            x = convolve(x, kernel, stride=self.stride, dilation=self.dilation)
        if self.use_bias:
            bound = 1 / (shape[0] * shape[1] * shape[2]) ** 0.5
            init = _uniform(bound) if self.bias_init is None else self.bias_init
            x = x + per_channel(self.param("bias", init, (self.features,)).astype(dtype))
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

    Where `cells` is set, TPUs compute in cells of 2×2 pixels.

    If it is `folded` into the convolution before it (`model.folding`), its `bias` is all that is left of it.
    """

    use_running_average: bool
    momentum: float = NORM_MOMENTUM
    epsilon: float = NORM_EPSILON
    axis_name: str | None = None
    folded: bool = False
    cells: bool = False

    @nn.compact
    def __call__(self, x: Array, activation: Callable[[Array], Array] = lambda y: y) -> Array:
        """`[N, H, W, C]` → the same, normalised per channel, and what the activation makes of that.

        It comes before rounding to the dtype of x: a GPU would else write what is rounded with and without activation.
        """
        features = (x.shape[-1],)
        bias = self.param("bias", nn.initializers.zeros, features)
        if self.folded:
            return activation(x.astype(bias.dtype) + per_channel(bias)).astype(x.dtype)
        scale = self.param("scale", nn.initializers.ones, features)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, scale.dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, scale.dtype)
        # PyTorch counts the batches too; nothing reads the count, but a state_dict carries it.
        count = self.variable("batch_stats", "count", jnp.zeros, (), jnp.int32)

        if self.use_running_average:
            factor, offset = _factor_and_offset(running_mean.value, running_var.value, scale, bias, self.epsilon)
            return activation(_affine(x, factor, offset)).astype(x.dtype)

        axis_name = None if self.is_initializing() else self.axis_name
        size = x.size // x.shape[-1] * (lax.axis_size(axis_name) if axis_name else 1)
        if size < 2:
            raise InputError("training needs more than one value per channel: give larger frames or more of them")

        def layer(x: Array, *of_channels: Array) -> tuple[Array, Array, Array]:
            y, mean, var = normalize(x, *of_channels, self.epsilon, axis_name)
            return activation(y).astype(x.dtype), mean, var

        of_channels = scale, bias, running_mean.value
        run = partial(in_cells, cells=layer, default=layer) if self.cells else layer
        y, mean, var = run(x, *of_channels)
        if not self.is_initializing():
            m = self.momentum
            running_mean.value = (1 - m) * running_mean.value + m * mean
            running_var.value = (1 - m) * running_var.value + m * var * (size / (size - 1))
            count.value = count.value + 1
        return y


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def normalize(
    x: Array, scale: Array, bias: Array, shift: Array, epsilon: float, axis_name: str | None
) -> tuple[Array, Array, Array]:
    """Normalise `[N, H, W, C]` with its own statistics, in their dtype; also mean and biased variance, for the record.

    No gradient flows through that record. x may hold several pixels in its channels, `[N, H, W, k·C]` for statistics
    `[C]`. With `axis_name` the statistics are those of all devices. `shift` is what the mean is expected to be near.
    The backward pass is written out because the one that differentiation finds reads x several times more often (seen
    on a CPU: `benchmarks/train.py`), and reduces over the devices twice and not once.
    """
    return _normalize_forward(x, scale, bias, shift, epsilon, axis_name)[0]


def _normalize_forward(
    x: Array, scale: Array, bias: Array, shift: Array, epsilon: float, axis_name: str | None
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array, Array]]:
    mean, var = _statistics(x, shift, axis_name)
    factor, offset = _factor_and_offset(mean, var, scale, bias, epsilon)
    # The barrier makes one kernel of all that is small on GPUs. And the running mean, which the shift is, would else be
    # part of whatever needs the mean, long after it was updated.
    mean, var, factor, offset = lax.optimization_barrier((mean, var, factor, offset))
    return (_affine(x, factor, offset), mean, var), (x, factor, mean, var)


def _normalize_backward(
    epsilon: float,
    axis_name: str | None,
    residuals: tuple[Array, Array, Array, Array],
    cotangents: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array, Array]:
    """With x̂ the normalised x: `scale / σ · (g - mean(g) - x̂ · mean(g · x̂))`.

    The gradients of scale and bias are this device's share of them.
    """
    x, factor, mean, var = residuals
    cotangent = cotangents[0]
    centred = x.astype(mean.dtype) - _per_channel(mean, x)
    inverse = lax.rsqrt(var + epsilon)
    bias_gradient, scale_gradient = _two_sums(cotangent, cotangent * centred, mean.size)
    scale_gradient = scale_gradient * inverse
    size = x.size // mean.size
    of_all = bias_gradient, scale_gradient
    if axis_name is not None and lax.axis_size(axis_name) > 1:
        of_all = lax.pmean(jnp.stack(of_all), axis_name)
    mean_g, mean_gx = (total / size for total in of_all)
    # As above, one kernel. The factor that both have joins them: GPUs would else have one of its own for mean(g).
    offset, slope, scale_gradient, bias_gradient = lax.optimization_barrier(
        (factor * mean_g, factor * (inverse * mean_gx), scale_gradient, bias_gradient)
    )
    x_gradient = _per_channel(factor, x) * cotangent - _per_channel(offset, x) - centred * _per_channel(slope, x)
    return x_gradient.astype(x.dtype), scale_gradient, bias_gradient, jnp.zeros_like(mean)


normalize.defvjp(_normalize_forward, _normalize_backward)


def _statistics(x: Array, shift: Array, axis_name: str | None) -> tuple[Array, Array]:
    """Mean and biased variance of each channel, over all devices."""
    mean, var = by_platform(x, shift, cpu=_two_pass_statistics, default=_one_pass_statistics)
    if axis_name is None:
        return mean, var
    # Chan's formula: the variance of all is the mean of the variances and the variance of the means. Each device fills
    # its row of a table, so that one sum hands everything to everyone, without rounding and in whatever order.
    mine = jnp.arange(lax.axis_size(axis_name), dtype=jnp.int32) == lax.axis_index(axis_name)
    table = lax.psum(jnp.where(mine[:, None, None], jnp.stack([mean, var])[None], 0), axis_name)  # [devices, 2, C]
    mean = table[:, 0].mean(0)
    return mean, (table[:, 1] + jnp.square(table[:, 0] - mean[None])).mean(0)


def _two_pass_statistics(x: Array, shift: Array) -> tuple[Array, Array]:
    """A CPU reads x from its caches the second time."""
    x = x.astype(shift.dtype)
    mean = x.mean((0, 1, 2)).reshape(-1, shift.size).mean(0)
    return mean, jnp.square(x - _per_channel(mean, x)).mean((0, 1, 2)).reshape(-1, shift.size).mean(0)


def _one_pass_statistics(x: Array, shift: Array) -> tuple[Array, Array]:
    """Reads x once; on TPUs not at all, where both sums are part of the convolution that makes it.

    The variance is a small difference, unless the shift is near the mean: float32 loses as many digits as
    `(mean - shift)² / variance` has. The running mean is near it but for the first steps of random weights, and known
    beforehand, which a sample of x would not be.
    """
    size = x.size // shift.size
    shifted = x.astype(shift.dtype) - _per_channel(shift, x)
    mean, square = (total / size for total in _two_sums(shifted, jnp.square(shifted), shift.size))
    return shift + mean, jnp.maximum(square - mean * mean, 0)


def _two_sums(one: Array, other: Array, channels: int) -> tuple[Array, Array]:
    """Sums over all but the channels. On GPUs in one reduction, of which every stage is one kernel and not two."""

    def apart(one: Array, other: Array) -> tuple[Array, Array]:
        return one.sum((0, 1, 2)), other.sum((0, 1, 2))

    def together(one: Array, other: Array) -> tuple[Array, Array]:
        zero = jnp.zeros((), one.dtype)
        first, second = lax.reduce(
            (one, other), (zero, zero), lambda a, b: tuple(x + y for x, y in zip(a, b, strict=True)), (0, 1, 2)
        )
        return first, second

    first, second = by_platform(one, other, cuda=together, default=apart)
    return first.reshape(-1, channels).sum(0), second.reshape(-1, channels).sum(0)


def _factor_and_offset(mean: Array, var: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Array]:
    """Factor and offset of each channel that normalise it."""
    factor = scale * lax.rsqrt(var + epsilon)
    return factor, bias - mean * factor


def _affine(x: Array, factor: Array, offset: Array) -> Array:
    """`x · factor + offset` for each channel, in the dtype of the factor."""
    return x.astype(factor.dtype) * _per_channel(factor, x) + _per_channel(offset, x)


def _per_channel(vector: Array, x: Array) -> Array:
    """`[C]` for an x `[N, H, W, k·C]`."""
    return per_channel(jnp.tile(vector, x.shape[-1] // vector.size))


def hard_sigmoid(x: Array) -> Array:
    return jnp.clip(x + 3, 0, 6) / 6


@jax.custom_jvp
def hard_swish(x: Array) -> Array:
    return x * hard_sigmoid(x)


@hard_swish.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """The slope in few operations, so that GPUs compute it where it is needed: that of the clip shares out ties."""
    (x,), (tangent,) = primals, tangents
    slope = jnp.where(jnp.abs(x) < 3, x / 3 + 0.5, (x > 0).astype(x.dtype))
    return hard_swish(x), slope * tangent


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "relu6": nn.relu6, "hard_swish": hard_swish}
