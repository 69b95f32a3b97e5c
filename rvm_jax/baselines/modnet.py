"""MODNet, as it was released: the network of the first two versions of its paper.

Images are in -1..1. Half of most layers' channels are normalised by the image's own statistics, in inference too, so
the matte of a person depends on all that is in the picture.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from rvm_jax.baselines.layers import Layer, check_images, conv_and_norm, resize
from rvm_jax.baselines.mobilenetv2 import STRIDED, MobileNetV2Encoder
from rvm_jax.errors import InputError
from rvm_jax.model.layers import kernel_init
from rvm_jax.model.variants import NORM_EPSILON

MULTIPLE = 32  # of either side of an image

kaiming_uniform = nn.initializers.variance_scaling(2, "fan_in", "uniform")


class MODNetOutput(NamedTuple):
    """Alpha `[N, H, W, 1]` in 0..1; with `side_outputs` a coarse one at 1/16, and one that counts at edges alone."""

    alpha: Array
    semantic: Array | None
    detail: Array | None


class MODNet(nn.Module):
    """MODNet. Its convolutions compute in `dtype`, by default that of the images.

    With `freeze_norms`, BatchNorm uses its running statistics in training too, and keeps them.
    """

    dtype: DTypeLike | None = None
    axis_name: str | None = None
    folded: bool = False
    freeze_norms: bool = False

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False, side_outputs: bool = False) -> MODNetOutput:
        """`images` `[N, H, W, 3]` in -1..1, sides multiples of 32. Only losses look at the side outputs."""
        check_images(images)
        height, width = images.shape[1:3]
        if height % MULTIPLE or width % MULTIPLE:
            raise InputError(f"images of {width}x{height}: MODNet takes sides that are multiples of {MULTIPLE} alone")
        side_outputs |= self.is_initializing()
        given, dtype = images.dtype, images.dtype if self.dtype is None else self.dtype
        conv, norm = modnet_layers(train and not self.freeze_norms, dtype, self.axis_name, self.folded)
        half, quarter = (resize(images, (height // scale, width // scale)) for scale in (2, 4))
        images, half, quarter = (x.astype(dtype) for x in (images, half, quarter))

        enc2x, enc4x, _, _, enc32x = MobileNetV2Encoder(STRIDED, conv, norm, name="encoder")(images)
        lr8x, semantic = LowResolutionBranch(conv, norm, name="lr_branch")(enc32x, side_outputs)
        hr2x, detail = HighResolutionBranch(conv, norm, name="hr_branch")(
            images, half, quarter, enc2x, enc4x, lr8x, side_outputs
        )
        alpha = FusionBranch(conv, norm, name="f_branch")(images, lr8x, hr2x)

        def probability(logits: Array) -> Array:
            return nn.sigmoid(logits).astype(given)

        if semantic is None or detail is None:
            return MODNetOutput(probability(alpha), None, None)
        return MODNetOutput(probability(alpha), probability(semantic), probability(detail))


def modnet_layers(
    train: bool, dtype: DTypeLike | None, axis_name: str | None, folded: bool = False
) -> tuple[Layer, Layer]:
    """What makes convolutions, with the start values of MODNet's code, and BatchNorms."""
    conv, norm = conv_and_norm(train, dtype, axis_name, folded)
    return partial(conv, kernel_init=kaiming_uniform, bias_init=nn.initializers.zeros), norm


class LowResolutionBranch(nn.Module):
    """What is a person: features at 1/8, and logits at 1/16."""

    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, enc32x: Array, side_outputs: bool) -> tuple[Array, Array | None]:
        x = SqueezeExcite(name="se_block")(enc32x)
        x = IBConv(96, 5, self.conv, self.norm, name="conv_lr16x")(twice(x))
        x = IBConv(32, 5, self.conv, self.norm, name="conv_lr8x")(twice(x))
        head = self.conv(1, 3, stride=2, use_bias=True, name="conv_lr")
        return x, head(x) if side_outputs else None


class HighResolutionBranch(nn.Module):
    """Where the edge is: features at 1/2, and logits at full size."""

    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(
        self, image: Array, half: Array, quarter: Array, enc2x: Array, enc4x: Array, lr8x: Array, side_outputs: bool
    ) -> tuple[Array, Array | None]:
        def block(features: int, kernel_size: int, name: str, *x: Array, stride: int = 1) -> Array:
            made = IBConv(features, kernel_size, self.conv, self.norm, stride=stride, name=name)
            return made(jnp.concatenate(x, -1))

        enc2x = block(32, 1, "tohr_enc2x", enc2x)
        x = block(32, 3, "conv_enc2x", half, enc2x, stride=2)
        x = block(64, 3, "conv_enc4x", x, block(32, 1, "tohr_enc4x", enc4x))
        x = block(64, 3, "conv_hr4x_0", x, twice(lr8x), quarter)
        x = block(64, 3, "conv_hr4x_1", x)
        x = block(32, 3, "conv_hr4x_2", x)
        x = block(64, 3, "conv_hr2x_0", twice(x), enc2x)
        for number, features in enumerate((32, 32, 32), 1):
            x = block(features, 3, f"conv_hr2x_{number}", x)
        if not side_outputs:
            return x, None
        detail = block(32, 3, "conv_hr_0", twice(x), image)
        return x, self.conv(1, use_bias=True, name="conv_hr_1")(detail)


class FusionBranch(nn.Module):
    """Logits of the matte, of what both other branches found."""

    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, image: Array, lr8x: Array, hr2x: Array) -> Array:
        x = IBConv(32, 5, self.conv, self.norm, name="conv_lr4x")(twice(lr8x))
        x = IBConv(32, 3, self.conv, self.norm, name="conv_f2x")(jnp.concatenate([twice(x), hr2x], -1))
        x = IBConv(16, 3, self.conv, self.norm, name="conv_f_0")(jnp.concatenate([twice(x), image], -1))
        return self.conv(1, use_bias=True, name="conv_f_1")(x)


class SqueezeExcite(nn.Module):
    """Gates each channel by the means of all."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        dense = partial(nn.Dense, use_bias=False, dtype=x.dtype, param_dtype=float, kernel_init=kernel_init)
        gate = nn.relu(dense(x.shape[-1] // 4, name="squeeze")(x.mean((1, 2), keepdims=True)))
        return x * nn.sigmoid(dense(x.shape[-1], name="excite")(gate))


class IBConv(nn.Module):
    """Convolution, BatchNorm of the first half of the channels and InstanceNorm of the second, ReLU."""

    features: int
    kernel_size: int
    conv: Layer
    norm: Layer
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = self.conv(self.features, self.kernel_size, stride=self.stride, use_bias=True, name="conv")(x)
        by_batch, by_image = jnp.split(x, 2, -1)
        return nn.relu(jnp.concatenate([self.norm(name="norm")(by_batch), instance_norm(by_image)], -1))


def instance_norm(x: Array) -> Array:
    """Each channel of each image `[N, H, W, C]` with mean 0 and variance 1; the statistics are at least float32."""
    exact = x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
    centred = exact - exact.mean((1, 2), keepdims=True)
    variance = jnp.square(centred).mean((1, 2), keepdims=True)
    return (centred * lax.rsqrt(variance + NORM_EPSILON)).astype(x.dtype)


def twice(x: Array) -> Array:
    """Bilinear, to twice the size: `[N, h, w, C]` → `[N, 2h, 2w, C]`."""
    return resize(x, (2 * x.shape[1], 2 * x.shape[2]))
