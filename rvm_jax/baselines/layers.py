"""Layers that several of the baselines have and RVM's network has not."""

from collections.abc import Callable, Sequence
from functools import partial, reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from rvm_jax.errors import InputError
from rvm_jax.model.layers import BatchNorm, Conv
from rvm_jax.model.resize import resize_axis

Layer = Callable[..., nn.Module]


def conv_and_norm(
    train: bool, dtype: DTypeLike | None, axis_name: str | None, folded: bool = False
) -> tuple[Layer, Layer]:
    """What makes a network's convolutions, which compute in `dtype`, and its BatchNorms, which may be folded."""
    if folded and train:
        raise InputError("BatchNorm is folded into the convolutions of this network: train what it was made of")
    norm = partial(BatchNorm, use_running_average=not train, axis_name=axis_name, folded=folded)
    return partial(Conv, dtype=dtype), norm


class ConvNormRelu(nn.Module):
    """Convolution, BatchNorm, ReLU: `[N, H, W, C]` → `[N, H, W, features]`."""

    features: int
    conv: Layer
    norm: Layer
    kernel_size: int = 3
    dilation: int = 1
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = self.conv(self.features, self.kernel_size, dilation=self.dilation, use_bias=self.use_bias, name="conv")(x)
        return nn.relu(self.norm(name="norm")(x))


class Dropout(nn.Module):
    """Sets this part of all values to 0, and raises the others.

    Which ones follows from the key and from a sample's place in the batch of all devices of `axis_name`, so that it is
    the same however many there are.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[N, ...]` → the same."""
        if not self.rate:
            return x
        devices, device = 1, jnp.int32(0)
        if self.axis_name is not None:
            devices, device = lax.axis_size(self.axis_name), lax.axis_index(self.axis_name)
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, (devices * x.shape[0], *x.shape[1:]))
        kept = lax.dynamic_slice_in_dim(kept, device * x.shape[0], x.shape[0])
        return jnp.where(kept, x / (1 - self.rate), 0)


def resize(x: Array, size: Sequence[int]) -> Array:
    """Bilinear, half-pixel, without antialiasing: `[N, h, w, C]` → `[N, *size, C]`."""
    for axis in (1, 2):
        if x.shape[axis] != size[axis - 1]:
            x = resize_axis(x, axis, size[axis - 1])
    return x


def resize_and_concatenate(deep: Array, skip: Array) -> Array:
    """A deeper feature, resized to the size of `skip`, and then `skip`: `[N, H, W, deep + skip]`."""
    return jnp.concatenate([resize(deep, skip.shape[1:3]), skip], -1)


def max_pool(x: Array) -> Array:
    """Maximum over 2×2 windows: `[N, H, W, C]` → `[N, ⌈H/2⌉, ⌈W/2⌉, C]`; at an odd edge, of the pixels that exist.

    Of equal maxima the first gets the gradient, as in PyTorch.
    """
    rows, columns = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)), constant_values=-jnp.inf)
    windows = [
        lax.slice(x, (0, i, j, 0), x.shape, (1, 2, 2, 1))  # [N, ⌈H/2⌉, ⌈W/2⌉, C]
        for i in range(2)
        for j in range(2)
    ]
    return reduce(lambda one, other: jnp.where(other > one, other, one), windows)


def check_images(images: Array, channels: int = 3) -> None:
    """Refuse what is not `[N, H, W, channels]` of floats."""
    if images.ndim != 4 or images.shape[-1] != channels or 0 in images.shape:
        raise InputError(f"images have shape {tuple(images.shape)}: expected [N, H, W, {channels}], RGB last")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(f"images are {images.dtype}: expected floats, so divide 8-bit images by 255")
