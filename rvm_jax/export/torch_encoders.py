"""The encoders of the PyTorch twin, MobileNetV3 and ResNet, and the few layers that all of the twin is made of."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvm_jax.model.variants import NORM_EPSILON, NORM_MOMENTUM, Bottleneck, InvertedResidual, MobileNetV3, ResNet

COLORS = 3

Norm = Callable[[int], nn.Module]


def conv(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """A convolution that keeps the size (or divides it by the stride, rounded up)."""
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias)


def batch_norm(features: int) -> nn.Module:
    return nn.BatchNorm2d(features, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)


def conv_norm(convolution: nn.Conv2d, *activation: nn.Module, norm: Norm = batch_norm) -> nn.Sequential:
    return nn.Sequential(convolution, norm(convolution.out_channels), *activation)


def relu() -> nn.Module:
    return nn.ReLU(inplace=True)


def hard_swish() -> nn.Module:
    return nn.Hardswish(inplace=True)


def encoder(table: MobileNetV3 | ResNet) -> nn.Module:
    return MobileNetV3Encoder(table) if isinstance(table, MobileNetV3) else ResNetEncoder(table)


class MobileNetV3Encoder(nn.Module):
    """`[N, 3, H, W]` in 0..1 → four features `[N, C, ⌈H/s⌉, ⌈W/s⌉]`, s = 2, 4, 8, 16."""

    def __init__(self, table: MobileNetV3) -> None:
        super().__init__()
        self.taps = table.taps
        self.mean, self.std = table.mean, table.std
        norm = partial(nn.BatchNorm2d, eps=table.epsilon, momentum=table.momentum)
        layers: list[nn.Module] = [conv_norm(conv(COLORS, table.stem, 3, stride=2), hard_swish(), norm=norm)]
        layers += [InvertedResidualBlock(inputs, block, norm) for _, inputs, block in table.numbered_blocks()]
        layers.append(conv_norm(conv(table.blocks[-1].features, table.last), hard_swish(), norm=norm))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        # ImageNet's statistics as plain numbers: a buffer would become an entry of the scripted network's state_dict.
        (red, green, blue), mean, std = x.unbind(1), self.mean, self.std
        x = torch.stack([(red - mean[0]) / std[0], (green - mean[1]) / std[1], (blue - mean[2]) / std[2]], 1)
        taps: list[Tensor] = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                taps.append(x)
        return taps


class InvertedResidualBlock(nn.Module):
    def __init__(self, inputs: int, table: InvertedResidual, norm: Norm) -> None:
        super().__init__()
        activation = relu if table.activation == "relu" else hard_swish
        width = table.expanded
        depthwise = partial(conv, stride=table.stride, dilation=table.dilation, groups=width)
        makers: dict[str, Callable[[], nn.Module]] = {
            "expand": lambda: conv_norm(conv(inputs, width), activation(), norm=norm),
            "depthwise": lambda: conv_norm(depthwise(width, width, table.kernel), activation(), norm=norm),
            "squeeze_excite": lambda: SqueezeExcite(width, table.squeezed),
            "project": lambda: conv_norm(conv(width, table.features), norm=norm),
        }
        self.block = nn.Sequential(*(makers[part]() for part in table.parts(inputs)))
        self.skip = table.adds_its_input(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.skip else self.block(x)


class SqueezeExcite(nn.Module):
    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = conv(width, squeezed, bias=True)
        self.fc2 = conv(squeezed, width, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))
        return x * F.hardsigmoid(self.fc2(weight))


class ResNetEncoder(nn.Module):
    """`[N, 3, H, W]`, not normalised → four features `[N, C, ⌈H/s⌉, ⌈W/s⌉]`, s = 2, 4, 8, 16."""

    def __init__(self, table: ResNet) -> None:
        super().__init__()
        self.conv1 = conv(COLORS, table.stem, 7, stride=2)
        self.bn1 = batch_norm(table.stem)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(*(BottleneckBlock(block) for block in table.blocks() if block.layer == layer))
            for layer in (1, 2, 3, 4)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        f1 = F.relu(self.bn1(self.conv1(x)), inplace=True)
        f2 = self.layer1(F.max_pool2d(f1, 3, stride=2, padding=1))
        f3 = self.layer2(f2)
        return [f1, f2, f3, self.layer4(self.layer3(f3))]


class BottleneckBlock(nn.Module):
    """1×1, 3×3 (where the stride sits), 1×1, and the skip."""

    def __init__(self, table: Bottleneck) -> None:
        super().__init__()
        inputs, width, features = table.inputs, table.width, table.features
        self.conv1 = conv(inputs, width)
        self.bn1 = batch_norm(width)
        self.conv2 = conv(width, width, 3, stride=table.stride, dilation=table.dilation)
        self.bn2 = batch_norm(width)
        self.conv3 = conv(width, features)
        self.bn3 = batch_norm(features)
        skip = conv_norm(conv(inputs, features, stride=table.stride)) if table.skip_conv else nn.Identity()
        self.downsample = skip

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)
