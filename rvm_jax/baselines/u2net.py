"""U²-Net and its small sister U²-Netp: nested U-shaped blocks that find what is salient.

Images are divided by their own maximum (not by 255), then by ImageNet's mean and standard deviation.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rvm_jax.baselines.layers import (
    ConvNormRelu,
    Layer,
    check_images,
    conv_and_norm,
    max_pool,
    resize,
    resize_and_concatenate,
)
from rvm_jax.errors import InputError


class Block(NamedTuple):
    """A residual U-block (RSU): how many levels it has, and how wide it is inside and where it ends.

    `dilated` (RSU-4F) has dilations 1, 2, 4, … where the others halve the size; of those only the last is dilated.
    """

    name: str
    levels: int
    inside: int
    features: int
    dilated: bool = False

    @property
    def dilations(self) -> tuple[int, ...]:
        if self.dilated:
            return tuple(2**level for level in range(self.levels))
        return (1,) * (self.levels - 1) + (2,)

    def units(self) -> list[str]:
        """The names of its units in order: what enters, the way down, the way up."""
        down = [str(level) for level in range(1, self.levels + 1)]
        return ["in", *down, *(f"{level}d" for level in reversed(down[:-1]))]


class Table(NamedTuple):
    """The blocks on the way down, stage 1 to 6, and on the way up, 5 to 1."""

    encoder: tuple[Block, ...]
    decoder: tuple[Block, ...]


VARIANTS = {
    "u2net": Table(
        (
            Block("stage1", 7, 32, 64),
            Block("stage2", 6, 32, 128),
            Block("stage3", 5, 64, 256),
            Block("stage4", 4, 128, 512),
            Block("stage5", 4, 256, 512, dilated=True),
            Block("stage6", 4, 256, 512, dilated=True),
        ),
        (
            Block("stage5d", 4, 256, 512, dilated=True),
            Block("stage4d", 4, 128, 256),
            Block("stage3d", 5, 64, 128),
            Block("stage2d", 6, 32, 64),
            Block("stage1d", 7, 16, 64),
        ),
    ),
    "u2netp": Table(
        (
            *(Block(f"stage{number}", levels, 16, 64) for number, levels in enumerate((7, 6, 5, 4), 1)),
            *(Block(f"stage{number}", 4, 16, 64, dilated=True) for number in (5, 6)),
        ),
        (
            Block("stage5d", 4, 16, 64, dilated=True),
            *(Block(f"stage{number}d", levels, 16, 64) for number, levels in ((4, 4), (3, 5), (2, 6), (1, 7))),
        ),
    ),
}


class U2NetOutput(NamedTuple):
    """Saliency `[N, H, W, 1]` in 0..1, and the six maps that it is fused from, which training looks at as well."""

    alpha: Array
    sides: tuple[Array, ...]


class U2Net(nn.Module):
    """U²-Net. `variant` is "u2net" or "u2netp"; the convolutions compute in `dtype`, by default that of the images.

    With `freeze_norms`, BatchNorm uses its running statistics in training too, and keeps them.
    """

    variant: str = "u2net"
    dtype: DTypeLike | None = None
    axis_name: str | None = None
    folded: bool = False
    freeze_norms: bool = False

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> U2NetOutput:
        """`images` `[N, H, W, 3]`, normalised, of any size."""
        if self.variant not in VARIANTS:
            raise InputError(f"unknown variant {self.variant!r}: choose one of {', '.join(VARIANTS)}")
        check_images(images)
        table = VARIANTS[self.variant]
        updates = train and not self.freeze_norms
        dtype = images.dtype if self.dtype is None else self.dtype
        conv, norm = conv_and_norm(updates, dtype, self.axis_name, self.folded)

        x = images
        skips: list[Array] = []
        for block in table.encoder:
            x = ResidualUBlock(block, conv, norm, name=block.name)(max_pool(x) if skips else x)
            skips.append(x)
        maps = [skips.pop()]
        for block in table.decoder:
            x = ResidualUBlock(block, conv, norm, name=block.name)(resize_and_concatenate(x, skips.pop()))
            maps.insert(0, x)
        logits = [
            resize(conv(1, 3, use_bias=True, name=f"side{number}")(x), images.shape[1:3])
            for number, x in enumerate(maps, 1)
        ]
        fused = conv(1, use_bias=True, name="outconv")(jnp.concatenate(logits, -1))
        alpha, *sides = (nn.sigmoid(x).astype(images.dtype) for x in (fused, *logits))
        return U2NetOutput(alpha, tuple(sides))


class ResidualUBlock(nn.Module):
    """A U-Net of its own, added to what enters it."""

    block: Block
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[N, H, W, C]` → `[N, H, W, features]`."""
        block = self.block

        def unit(name: str, x: Array, features: int, dilation: int = 1) -> Array:
            made = ConvNormRelu(features, self.conv, self.norm, dilation=dilation, use_bias=True, name=f"unit{name}")
            return made(x)

        x = y = unit("in", x, block.features)
        skips = []
        for level, dilation in enumerate(block.dilations, 1):
            halved = not block.dilated and 1 < level < block.levels
            y = unit(str(level), max_pool(y) if halved else y, block.inside, dilation)
            skips.append(y)
        y = skips.pop()
        for level in range(block.levels - 1, 0, -1):
            features = block.features if level == 1 else block.inside
            y = unit(f"{level}d", resize_and_concatenate(y, skips.pop()), features, block.dilations[level - 1])
        return x + y
