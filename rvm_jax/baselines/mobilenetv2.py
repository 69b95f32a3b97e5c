"""MobileNetV2 as MODNet has it, down to 1/32, and as BackgroundMattingV2 has it, dilated at 1/16."""

from typing import NamedTuple

import flax.linen as nn
from jax import Array

from rvm_jax.baselines.layers import Layer
from rvm_jax.model.encoders.mobilenetv3 import InvertedResidualBlock
from rvm_jax.model.variants import InvertedResidual


class MobileNetV2(NamedTuple):
    """Its blocks, the width of its last convolution (0 if it has none), and the numbers of the features that it gives:
    blocks count from 1, the last convolution after them."""

    blocks: tuple[InvertedResidual, ...]
    last: int
    taps: tuple[int, ...]
    stem: int = 32

    @property
    def tap_features(self) -> tuple[int, ...]:
        widths = (self.stem, *(block.features for block in self.blocks), self.last)
        return tuple(widths[tap] for tap in self.taps)


def _blocks(dilated: bool) -> tuple[InvertedResidual, ...]:
    blocks, inputs = [], 32
    for expansion, features, repeats, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for number in range(repeats):
            # In place of the last stride there is a dilation, but for the block that has that stride.
            deepest = dilated and features >= 160
            blocks.append(
                InvertedResidual(
                    kernel=3,
                    expanded=expansion * inputs,
                    features=features,
                    squeeze_excite=False,
                    activation="relu6",
                    stride=stride if number == 0 and not deepest else 1,
                    dilation=2 if deepest and (number, features) != (0, 160) else 1,
                )
            )
            inputs = features
    return tuple(blocks)


STRIDED = MobileNetV2(_blocks(dilated=False), last=1280, taps=(1, 3, 6, 13, 18))
DILATED = MobileNetV2(_blocks(dilated=True), last=0, taps=(1, 3, 6, 17))


class MobileNetV2Encoder(nn.Module):
    """`norm` makes a BatchNorm, `conv` a convolution."""

    table: MobileNetV2
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, ...]:
        """`[N, H, W, C]` → the features of `taps`, the first at half the size."""
        table = self.table
        x = self.conv(table.stem, 3, stride=2, name="stem_conv")(x)
        x = nn.relu6(self.norm(name="stem_norm")(x))
        features = [x]
        for number, block in enumerate(table.blocks, 1):
            x = InvertedResidualBlock(block, self.conv, self.norm, name=f"block{number}")(x)
            features.append(x)
        if table.last:
            x = self.conv(table.last, name="last_conv")(x)
            features.append(nn.relu6(self.norm(name="last_norm")(x)))
        return tuple(features[tap] for tap in table.taps)
