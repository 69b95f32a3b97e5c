"""ResNet-50, its last layer dilated instead of strided. It takes the frames as they are, without normalisation."""

from collections.abc import Callable

import flax.linen as nn
from jax import Array

from rvm_jax.model.remat import remat_block
from rvm_jax.model.variants import ResNet


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
        layers = []
        for layer, (features, depth) in enumerate(zip(self.table.features, self.table.depths, strict=True), 1):
            for number in range(depth):
                # Layer 4 trades its stride for dilation, and its first block still has dilation 1.
                stride = 2 if layer in (2, 3) and number == 0 else 1
                dilation = 2 if layer == 4 and number > 0 else 1
                name = f"layer{layer}_block{number}"
                block = Bottleneck(features, stride, dilation, self.conv, self.norm, name=name)
                x = remat_block(Bottleneck.__call__, self.remat)(block, x)
            layers.append(x)
        f2, f3, _, f4 = layers
        return f1, f2, f3, f4


class Bottleneck(nn.Module):
    """1×1 to a quarter of `features`, 3×3 (where the stride sits), 1×1 to `features`, and the skip."""

    features: int
    stride: int
    dilation: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        skip, width = x, self.features // 4
        x = nn.relu(self.norm(name="norm1")(self.conv(width, name="conv1")(x)))
        x = self.conv(width, 3, stride=self.stride, dilation=self.dilation, name="conv2")(x)
        x = nn.relu(self.norm(name="norm2")(x))
        x = self.norm(name="norm3")(self.conv(self.features, name="conv3")(x))
        if skip.shape != x.shape:
            skip = self.conv(self.features, stride=self.stride, name="skip_conv")(skip)
            skip = self.norm(name="skip_norm")(skip)
        return nn.relu(x + skip)


def max_pool(x: Array) -> Array:
    """Maximum over 3×3 windows, stride 2, padding 1: `[N, H, W, C]` → `[N, ⌈H/2⌉, ⌈W/2⌉, C]`."""
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
