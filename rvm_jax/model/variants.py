"""The shapes and constants of the network, as plain data.

The Flax network (`model.network`), its PyTorch twin (`export.torch_network`), the ONNX graph (`export.onnx_network`)
and the table of their names (`weights.names`) are built from these tables, so a width, a stride or an epsilon is
written down once. Nothing here imports JAX or PyTorch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Activation = Literal["relu", "relu6", "hard_swish"]
Refiner = Literal["deep_guided_filter", "fast_guided_filter"]

REFINERS: tuple[Refiner, ...] = ("deep_guided_filter", "fast_guided_filter")

# Of every BatchNorm but MobileNetV3's, and PyTorch's defaults.
NORM_EPSILON, NORM_MOMENTUM = 1e-5, 0.1
# What the fast guided filter adds to the guide's variance before it divides by it.
FILTER_EPSILON = 1e-5


@dataclass(frozen=True)
class InvertedResidual:
    """One MobileNetV3 block: expand 1×1, depthwise, optional squeeze-excite, project 1×1."""

    kernel: int
    expanded: int
    features: int
    squeeze_excite: bool
    activation: Activation
    stride: int = 1
    dilation: int = 1

    @property
    def squeezed(self) -> int:
        """Width inside squeeze-excite: a quarter of `expanded`, rounded to a multiple of 8 and never below 90 %."""
        quarter = self.expanded / 4
        rounded = max(8, int(quarter + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * quarter else rounded + 8

    def parts(self, inputs: int) -> tuple[str, ...]:
        """What a block that `inputs` channels enter is made of, in order: expansion only where it expands."""
        parts = (
            ("expand", self.expanded != inputs),
            ("depthwise", True),
            ("squeeze_excite", self.squeeze_excite),
            ("project", True),
        )
        return tuple(part for part, present in parts if present)

    def adds_its_input(self, inputs: int) -> bool:
        return self.stride == 1 and self.features == inputs


@dataclass(frozen=True)
class MobileNetV3:
    """`taps` are the numbers of the features (stem 0, blocks 1.., last) that give 1/2, 1/4, 1/8 and 1/16.

    `mean` and `std` are ImageNet's, by which frames are normalised; `epsilon` and `momentum` those of its BatchNorm.
    """

    stem: int
    blocks: tuple[InvertedResidual, ...]
    last: int
    taps: tuple[int, int, int, int]
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    epsilon: float = 1e-3
    momentum: float = 0.01

    def numbered_blocks(self) -> Iterator[tuple[int, int, InvertedResidual]]:
        """Number, from 1, width of what enters, and table of each block."""
        inputs = self.stem
        for number, block in enumerate(self.blocks, 1):
            yield number, inputs, block
            inputs = block.features

    @property
    def tap_features(self) -> tuple[int, int, int, int]:
        widths = (self.stem, *(block.features for block in self.blocks), self.last)
        f1, f2, f3, f4 = (widths[tap] for tap in self.taps)
        return f1, f2, f3, f4


class Bottleneck(NamedTuple):
    """One ResNet block, the `number`th (from 0) of its `layer` (1 to 4): 1×1 to `width`, 3×3 with stride and dilation,
    1×1 to `features`."""

    layer: int
    number: int
    inputs: int
    features: int
    stride: int
    dilation: int

    @property
    def width(self) -> int:
        return self.features // 4

    @property
    def skip_conv(self) -> bool:
        """Whether its input must be convolved before it can be added."""
        return self.stride != 1 or self.inputs != self.features


@dataclass(frozen=True)
class ResNet:
    """A bottleneck ResNet whose last layer keeps 1/16 by dilation. `features` are the widths of layers 1 to 4."""

    stem: int
    features: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]

    def blocks(self) -> Iterator[Bottleneck]:
        """All blocks, layer after layer."""
        inputs = self.stem
        for layer, (features, depth) in enumerate(zip(self.features, self.depths, strict=True), 1):
            for number in range(depth):
                # Layer 4 trades its stride for dilation, and its first block still has dilation 1.
                stride = 2 if layer in (2, 3) and number == 0 else 1
                dilation = 2 if layer == 4 and number > 0 else 1
                yield Bottleneck(layer, number, inputs, features, stride, dilation)
                inputs = features

    @property
    def tap_features(self) -> tuple[int, int, int, int]:
        return self.stem, *self.features[:2], self.features[3]


@dataclass(frozen=True)
class Variant:
    """A whole network: its encoder, the width of LR-ASPP, and the widths of the decoder from 1/8 to full size."""

    name: str
    encoder: MobileNetV3 | ResNet
    aspp: int
    decoder: tuple[int, int, int, int]

    def norm_epsilon(self, *, encoder: bool) -> float:
        """What the BatchNorm of the encoder, or of all else, adds to a variance."""
        return self.encoder.epsilon if encoder and isinstance(self.encoder, MobileNetV3) else NORM_EPSILON

    @property
    def state_features(self) -> tuple[int, int, int, int]:
        """Channels of the recurrent state r1 (1/2) .. r4 (1/16): half the width of the block that carries it."""
        d3, d2, d1, _ = self.decoder
        return d1 // 2, d2 // 2, d3 // 2, self.aspp // 2


_MOBILENETV3_LARGE = MobileNetV3(
    stem=16,
    blocks=(
        # kernel, expanded, features, squeeze-excite, activation, stride, dilation
        InvertedResidual(3, 16, 16, False, "relu"),
        InvertedResidual(3, 64, 24, False, "relu", stride=2),
        InvertedResidual(3, 72, 24, False, "relu"),
        InvertedResidual(5, 72, 40, True, "relu", stride=2),
        InvertedResidual(5, 120, 40, True, "relu"),
        InvertedResidual(5, 120, 40, True, "relu"),
        InvertedResidual(3, 240, 80, False, "hard_swish", stride=2),
        InvertedResidual(3, 200, 80, False, "hard_swish"),
        InvertedResidual(3, 184, 80, False, "hard_swish"),
        InvertedResidual(3, 184, 80, False, "hard_swish"),
        InvertedResidual(3, 480, 112, True, "hard_swish"),
        InvertedResidual(3, 672, 112, True, "hard_swish"),
        InvertedResidual(5, 672, 160, True, "hard_swish", dilation=2),
        InvertedResidual(5, 960, 160, True, "hard_swish", dilation=2),
        InvertedResidual(5, 960, 160, True, "hard_swish", dilation=2),
    ),
    last=960,
    taps=(1, 3, 6, 16),
)

_TINY = MobileNetV3(
    stem=8,
    blocks=(
        InvertedResidual(3, 8, 8, False, "relu"),
        InvertedResidual(3, 24, 12, False, "relu", stride=2),
        InvertedResidual(5, 36, 20, True, "relu", stride=2),
        InvertedResidual(3, 60, 32, False, "hard_swish", stride=2),
        InvertedResidual(5, 96, 32, True, "hard_swish", dilation=2),
    ),
    last=96,
    taps=(1, 2, 3, 6),
)

VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("mobilenetv3", _MOBILENETV3_LARGE, aspp=128, decoder=(80, 40, 32, 16)),
        Variant("resnet50", ResNet(64, (256, 512, 1024, 2048), (3, 4, 6, 3)), aspp=256, decoder=(128, 64, 32, 16)),
        # The same code with a few channels, for tests and demonstrations.
        Variant("tiny", _TINY, aspp=48, decoder=(32, 20, 12, 8)),
    )
}
