"""MobileNetV3-Large, its last stage dilated instead of strided."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from rvm_jax.model.convolution import per_channel
from rvm_jax.model.layers import ACTIVATIONS, hard_sigmoid, hard_swish
from rvm_jax.model.remat import remat_block
from rvm_jax.model.variants import InvertedResidual, MobileNetV3


class MobileNetV3Encoder(nn.Module):
    """`norm` makes a BatchNorm; `conv` a convolution; with `remat`, every block is computed twice in training."""

    table: MobileNetV3
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    remat: bool = False

    @nn.compact
    def __call__(self, frames: Array) -> tuple[Array, Array, Array, Array]:
        """`[N, H, W, 3]` in 0..1 → four features `[N, ⌈H/s⌉, ⌈W/s⌉, C]`, s = 2, 4, 8, 16."""
        table = self.table
        norm = partial(self.norm, momentum=table.momentum, epsilon=table.epsilon)
        mean, std = (per_channel(jnp.array(values, frames.dtype)) for values in (table.mean, table.std))
        x = (frames - mean) / std

        def stem(encoder: MobileNetV3Encoder, x: Array) -> Array:
            x = encoder.conv(table.stem, 3, stride=2, name="stem_conv")(x)
            return hard_swish(norm(name="stem_norm")(x))

        def last(encoder: MobileNetV3Encoder, x: Array) -> Array:
            x = encoder.conv(table.last, name="last_conv")(x)
            return hard_swish(norm(name="last_norm")(x))

        x = remat_block(stem, self.remat)(self, x)
        features = [x]
        for number, _, block in table.numbered_blocks():
            residual = InvertedResidualBlock(block, self.conv, norm, name=f"block{number}")
            x = remat_block(InvertedResidualBlock.__call__, self.remat)(residual, x)
            features.append(x)
        features.append(remat_block(last, self.remat)(self, x))
        f1, f2, f3, f4 = (features[tap] for tap in table.taps)
        return f1, f2, f3, f4


class InvertedResidualBlock(nn.Module):
    block: InvertedResidual
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        block, skip = self.block, x
        inputs = x.shape[-1]
        parts = block.parts(inputs)
        activation = ACTIVATIONS[block.activation]
        if "expand" in parts:
            x = self.conv(block.expanded, name="expand_conv")(x)
            x = activation(self.norm(name="expand_norm")(x))
        x = self.conv(
            block.expanded,
            block.kernel,
            stride=block.stride,
            dilation=block.dilation,
            depthwise=True,
            name="depthwise_conv",
        )(x)
        x = activation(self.norm(name="depthwise_norm")(x))
        if "squeeze_excite" in parts:
            x = SqueezeExcite(block.squeezed, self.conv, name="squeeze_excite")(x)
        x = self.conv(block.features, name="project_conv")(x)
        x = self.norm(name="project_norm")(x)
        return x + skip if block.adds_its_input(inputs) else x


class SqueezeExcite(nn.Module):
    squeezed: int
    conv: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        weight = x.mean((1, 2), keepdims=True)
        weight = nn.relu(self.conv(self.squeezed, use_bias=True, name="squeeze")(weight))
        weight = hard_sigmoid(self.conv(x.shape[-1], use_bias=True, name="excite")(weight))
        return x * weight
