"""ResNet-50, its last layer dilated instead of strided. It takes the frames as they are, without normalisation."""

from collections.abc import Callable
from functools import reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from rvm_jax.model.convolution import windows
from rvm_jax.model.remat import remat_block
from rvm_jax.model.variants import Bottleneck, ResNet


class ResNetEncoder(nn.Module):
    """`norm` makes a BatchNorm; `conv` a convolution; with `remat`, every block is computed twice in training."""

    table: ResNet
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    remat: bool = False

    @nn.compact
    def __call__(self, frames: Array) -> tuple[Array, Array, Array, Array]:
        """`[N, H, W, 3]` in 0..1 → four features `[N, ⌈H/s⌉, ⌈W/s⌉, C]`, s = 2, 4, 8, 16."""

        def stem(encoder: ResNetEncoder, frames: Array) -> Array:
            x = encoder.conv(encoder.table.stem, 7, stride=2, name="stem_conv")(frames)
            return nn.relu(encoder.norm(name="stem_norm")(x))

        f1 = remat_block(stem, self.remat)(self, frames)
        x = max_pool(f1)
        layers = {}
        for table in self.table.blocks():
            name = f"layer{table.layer}_block{table.number}"
            block = BottleneckBlock(table, self.conv, self.norm, name=name)
            x = remat_block(BottleneckBlock.__call__, self.remat)(block, x)
            layers[table.layer] = x
        return f1, layers[1], layers[2], layers[4]


class BottleneckBlock(nn.Module):
    """1×1, 3×3 (where the stride sits), 1×1, and the skip."""

    table: Bottleneck
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        table, skip = self.table, x
        x = nn.relu(self.norm(name="norm1")(self.conv(table.width, name="conv1")(x)))
        x = self.conv(table.width, 3, stride=table.stride, dilation=table.dilation, name="conv2")(x)
        x = nn.relu(self.norm(name="norm2")(x))
        x = self.norm(name="norm3")(self.conv(table.features, name="conv3")(x))
        if table.skip_conv:
            skip = self.conv(table.features, stride=table.stride, name="skip_conv")(skip)
            skip = self.norm(name="skip_norm")(skip)
        return nn.relu(x + skip)


@jax.custom_vjp
def max_pool(x: Array) -> Array:
    """Maximum over 3×3 windows, stride 2, padding 1: `[N, H, W, C]` → `[N, ⌈H/2⌉, ⌈W/2⌉, C]`.

    Of equal maxima the first gets the gradient, as in PyTorch. `nn.max_pool`'s gradient would be a scatter, which GPUs
    add up in any order or, asked to be repeatable, do not compile.
    """
    return reduce(jnp.maximum, _pooled(x))


def _pooled(x: Array) -> list[Array]:
    return windows(x, (3, 3), 2, outside=-jnp.inf)


def _max_pool_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    y = max_pool(x)
    return y, (x, y)


def _max_pool_backward(residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array]:
    x, y = residuals
    given, left = [], jnp.ones(y.shape, bool)
    for window in _pooled(x):
        hit = left & (window == y)
        given.append(jnp.where(hit, cotangent, jnp.zeros_like(cotangent)))
        left &= ~hit
    return jax.vjp(_pooled, x)[1](given)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)
