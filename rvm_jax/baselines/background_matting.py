"""BackgroundMattingV2: a matte from a frame and from the same view without the person.

The coarse network (`MattingBase`) runs on small images; `MattingRefine` runs it on down-sampled ones and computes the
matte at full size where the coarse one is least sure of itself. Images are in 0..1 and not normalised.
"""

from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rvm_jax.baselines.layers import (
    ConvNormRelu,
    Dropout,
    Layer,
    check_images,
    conv_and_norm,
    resize,
    resize_and_concatenate,
)
from rvm_jax.baselines.mobilenetv2 import DILATED, MobileNetV2, MobileNetV2Encoder
from rvm_jax.baselines.refiner import Refiner, most_uncertain, refine_everywhere, refine_patches
from rvm_jax.errors import InputError
from rvm_jax.model.encoders.resnet import ResNetEncoder
from rvm_jax.model.resize import scaled_size
from rvm_jax.model.variants import ResNet

BACKBONES: dict[str, ResNet | MobileNetV2] = {
    "resnet50": ResNet(64, (256, 512, 1024, 2048), (3, 4, 6, 3)),
    "resnet101": ResNet(64, (256, 512, 1024, 2048), (3, 4, 23, 3)),
    "mobilenetv2": DILATED,
}
RefineMode = Literal["full", "sampling", "thresholding"]
MULTIPLE = 4  # of either side of the images that are refined


class MattingBaseOutput(NamedTuple):
    """`[N, H, W, ...]`: alpha 1, foreground 3, how far alpha is expected to be off 1, and hidden features 32."""

    alpha: Array
    foreground: Array
    error: Array
    hidden: Array


class MattingRefineOutput(NamedTuple):
    """Alpha and foreground `[N, H, W, ...]`, those of the coarse network and its error at the size at which it ran, and
    which patches were refined `[N, H/4, W/4, 1]`, 0 or 1."""

    alpha: Array
    foreground: Array
    coarse_alpha: Array
    coarse_foreground: Array
    coarse_error: Array
    refined: Array


class CoarseMaps(NamedTuple):
    """What the coarse network says: alpha and error in 0..1, foreground less source, not clipped, hidden features."""

    alpha: Array
    residual: Array
    error: Array
    hidden: Array


class MattingBase(nn.Module):
    """The coarse network alone.

    `backbone` is "resnet50", "resnet101" or "mobilenetv2". The convolutions compute in `dtype`, by default that of the
    images. In training, `dropout` of the values after the ASPP are left out, which takes `rngs={"dropout": key}`. With
    `freeze_norms`, BatchNorm uses its running statistics in training too, and keeps them.
    """

    backbone: str = "resnet50"
    dropout: float = 0.5
    dtype: DTypeLike | None = None
    axis_name: str | None = None
    folded: bool = False
    freeze_norms: bool = False

    @nn.compact
    def __call__(self, source: Array, background: Array, *, train: bool = False) -> MattingBaseOutput:
        """Frames and what is behind the people in them, `[N, H, W, 3]` in 0..1, of any size."""
        check_pair(source, background)
        updates = train and not self.freeze_norms
        dtype = source.dtype if self.dtype is None else self.dtype
        conv, norm = conv_and_norm(updates, dtype, self.axis_name, self.folded)
        dropout = Dropout(self.dropout if train else 0, self.axis_name)
        maps = coarse_network(self.backbone, conv, norm, dropout, source, background)
        return MattingBaseOutput(maps.alpha, jnp.clip(maps.residual + source, 0, 1), maps.error, maps.hidden)


class MattingRefine(nn.Module):
    """The coarse network on down-sampled images, and the refiner at full size.

    Besides what `MattingBase` has:
      scale: of the coarse network's images, at most 1/2.
      mode: "sampling" refines the patches of 4×4 pixels with the greatest errors, `sample_pixels` in each image or all
        that it has, but none whose error is 0; "thresholding" those whose error is above `threshold`; "full" all.
        Weights fit every mode. Only sampling saves work: thresholding computes all patches, and leaves out the rest.
      kernel_size: of the refiner; 3 in the released weights, or 1.

    In training, the refiner's BatchNorms see the patches that were sampled, those with error 0 among them.
    """

    backbone: str = "resnet50"
    scale: float = 0.25
    mode: RefineMode = "sampling"
    sample_pixels: int = 80_000
    threshold: float = 0.7
    kernel_size: int = 3
    dropout: float = 0.5
    dtype: DTypeLike | None = None
    axis_name: str | None = None
    folded: bool = False
    freeze_norms: bool = False

    @nn.compact
    def __call__(self, source: Array, background: Array, *, train: bool = False) -> MattingRefineOutput:
        """Frames and what is behind the people in them, `[N, H, W, 3]` in 0..1, sides multiples of 4."""
        check_pair(source, background)
        self._check_options(source.shape[1], source.shape[2], train)
        updates = train and not self.freeze_norms
        dtype = source.dtype if self.dtype is None else self.dtype
        conv, norm = conv_and_norm(updates, dtype, self.axis_name, self.folded)
        size = source.shape[1:3]
        low = scaled_size(size, self.scale)
        low_source, low_background = resize(source, low), resize(background, low)
        dropout = Dropout(self.dropout if train else 0, self.axis_name)
        maps = coarse_network(self.backbone, conv, norm, dropout, low_source, low_background)

        quarter = (size[0] // 4, size[1] // 4)
        error = resize(maps.error, quarter)
        images = jnp.concatenate([source, background], -1)
        coarse = jnp.concatenate([maps.hidden, maps.alpha, maps.residual], -1)
        smooth = resize(coarse[..., -4:], size)  # alpha and residual, as they are where nothing is refined
        refiner = Refiner(self.kernel_size, norm, self.dtype, name="refiner")
        if self.mode == "sampling":
            patches = most_uncertain(error, self.sample_pixels // 16)
            target, refined = refine_patches(refiner, coarse, images, smooth, patches)
        else:
            target = refine_everywhere(refiner, coarse, images)
            chosen = error > self.threshold if self.mode == "thresholding" else jnp.ones_like(error, bool)
            target = jnp.where(chosen.repeat(4, 1).repeat(4, 2), target, smooth)
            refined = chosen.astype(source.dtype)
        return MattingRefineOutput(
            jnp.clip(target[..., :1], 0, 1),
            jnp.clip(target[..., 1:] + source, 0, 1),
            maps.alpha,
            jnp.clip(maps.residual + low_source, 0, 1),
            maps.error,
            refined,
        )

    def _check_options(self, height: int, width: int, train: bool) -> None:
        if height % MULTIPLE or width % MULTIPLE:
            raise InputError(f"images of {width}x{height}: refinement takes sides that are multiples of {MULTIPLE}")
        if not 0 < self.scale <= 0.5:
            raise InputError(f"scale is {self.scale}: expected a number above 0 and at most 0.5")
        if self.mode not in ("full", "sampling", "thresholding"):
            raise InputError(f"unknown mode {self.mode!r}: choose one of full, sampling, thresholding")
        if self.kernel_size not in (1, 3):
            raise InputError(f"kernel_size is {self.kernel_size}: expected 1 or 3")
        if train and self.mode == "thresholding":
            raise InputError("thresholding is for inference: train with mode 'sampling' or 'full'")


def check_pair(source: Array, background: Array) -> None:
    """Refuse frames and backgrounds that are not images of one shape."""
    check_images(source)
    if background.shape != source.shape or background.dtype != source.dtype:
        raise InputError(
            f"background has shape {tuple(background.shape)} and is {background.dtype}, source {tuple(source.shape)} "
            f"and {source.dtype}: they must agree"
        )


def coarse_network(
    backbone: str, conv: Layer, norm: Layer, dropout: nn.Module, source: Array, background: Array
) -> CoarseMaps:
    """Backbone, ASPP and decoder, as modules of the one that calls."""
    if backbone not in BACKBONES:
        raise InputError(f"unknown backbone {backbone!r}: choose one of {', '.join(BACKBONES)}")
    table = BACKBONES[backbone]
    images = jnp.concatenate([source, background], -1)
    encoder: nn.Module
    if isinstance(table, ResNet):
        encoder = ResNetEncoder(table, conv, norm, name="encoder")
    else:
        encoder = MobileNetV2Encoder(table, conv, norm, name="encoder")
    x1, x2, x3, x4 = encoder(images)
    x = ASPP(256, conv, norm, dropout, name="aspp")(x4)
    raw = Decoder((128, 64, 48), conv, norm, name="decoder")(x, x3, x2, x1, images).astype(source.dtype)
    alpha, residual, error, hidden = jnp.split(raw, (1, 4, 5), -1)
    return CoarseMaps(jnp.clip(alpha, 0, 1), residual, jnp.clip(error, 0, 1), nn.relu(hidden))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 1×1, 3×3 at dilations 3, 6 and 9, the image's mean, and a projection of all."""

    features: int
    conv: Layer
    norm: Layer
    dropout: nn.Module

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[N, h, w, C]` → `[N, h, w, features]`."""

        def branch(name: str, x: Array, kernel_size: int = 1, dilation: int = 1) -> Array:
            return ConvNormRelu(self.features, self.conv, self.norm, kernel_size, dilation, name=name)(x)

        branches = [branch("conv0", x)]
        branches += [branch(f"conv{number}", x, 3, dilation) for number, dilation in enumerate((3, 6, 9), 1)]
        mean = branch("pool", x.mean((1, 2), keepdims=True))
        branches.append(jnp.broadcast_to(mean, branches[0].shape))
        return self.dropout(branch("project", jnp.concatenate(branches, -1)))


class Decoder(nn.Module):
    """From the ASPP up to full size, by the backbone's features and at last by the images."""

    features: tuple[int, ...]
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, x: Array, x3: Array, x2: Array, x1: Array, images: Array) -> Array:
        """Features at 1/16, 1/8, 1/4, 1/2 and images `[N, H, W, 6]` → `[N, H, W, 37]`."""
        for number, (features, skip) in enumerate(zip(self.features, (x3, x2, x1), strict=True), 1):
            x = ConvNormRelu(features, self.conv, self.norm, name=f"up{number}")(resize_and_concatenate(x, skip))
        return self.conv(37, 3, use_bias=True, name="conv4")(resize_and_concatenate(x, images.astype(x.dtype)))
