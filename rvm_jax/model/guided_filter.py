"""The guided filters that lift a low-resolution result to the full size of the frames.

A guided filter fits, around every low-resolution pixel, `target = a · guide + b` (the papers' A and b), and applies
them to the full-resolution guide. All of it is pure functions of arrays; the deep filter replaces the division that
gives `a` by three 1×1 convolutions and trains its window, which is all that its module adds.

The guide `[N, H, W, 4]` is a frame with its channel mean, the target `[N, h, w, 4]` the foreground residual and alpha.
Covariance and variance are small differences of means: nothing here may be rounded to less than float32, neither
forward nor backward.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from rvm_jax.model.convolution import depthwise_conv2d
from rvm_jax.model.platforms import by_platform
from rvm_jax.model.resize import resize_axis
from rvm_jax.model.variants import FILTER_EPSILON


def as_guide(frames: Array) -> Array:
    """`[N, H, W, 3]` → `[N, H, W, 4]`: the frame and the mean of its channels."""
    return jnp.concatenate([frames, channel_mean(frames)], -1)


def channel_mean(frames: Array) -> Array:
    """`[N, H, W, 3]` → `[N, H, W, 1]`. On CPU a sum of three fuses with what follows; a reduction does not."""
    return (frames[..., :1] + frames[..., 1:2] + frames[..., 2:]) / 3


def box_mean(x: Array) -> Array:
    """Mean over 3×3 windows with zeros beyond the edges, always divided by 9: `[N, H, W, C]` → the same."""
    for axis in (1, 2):
        padding = [(0, 0)] * x.ndim
        padding[axis] = (1, 1)
        padded, size = jnp.pad(x, padding), x.shape[axis]
        before, here, after = (lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3))
        x = (before + here + after) / 3
    return x


def moments(guide: Array, target: Array, mean: Callable[[Array], Array]) -> tuple[Array, Array, Array, Array]:
    """Local mean of guide and target, their covariance and the guide's variance, each `[N, h, w, 4]`.

    Four means of four channels: on a CPU one of sixteen takes 40 ms more at 1080p (`benchmarks/network.py`).
    """
    guide_mean, target_mean = mean(guide), mean(target)
    covariance = mean(guide * target) - guide_mean * target_mean
    variance = mean(guide * guide) - guide_mean * guide_mean
    return guide_mean, target_mean, covariance, variance


def apply_linear_model(a: Array, b: Array, frames: Array) -> Array:
    """Bring a and b `[N, h, w, 4]` to the size of the frames `[N, H, W, 3]` and apply them: `[N, H, W, 4]`."""
    return by_platform(a, b, frames, cpu=_apply_in_rows, default=_apply_together)


def _apply_together(a: Array, b: Array, frames: Array) -> Array:
    _, height, width, _ = frames.shape
    both = resize_axis(resize_axis(jnp.concatenate([a, b], -1), 2, width), 1, height)
    a, b = jnp.split(both, 2, -1)
    return a * as_guide(frames) + b


def _apply_in_rows(a: Array, b: Array, frames: Array) -> Array:
    """The form for CPUs, where every pass over the pixels of full size counts (`benchmarks/RESULTS.md`).

    Columns are interpolated at low height, and colour and alpha part ways, each with its channels and columns in one
    row: then rows are interpolated and a and b applied in one pass.
    """
    count, height, width, _ = frames.shape

    def full(x: Array) -> Array:
        x = resize_axis(x, 2, width)  # [N, h, W, C]
        return resize_axis(x.reshape(*x.shape[:2], -1), 1, height)  # [N, H, W·C]

    color = full(a[..., :3]) * frames.reshape(count, height, -1) + full(b[..., :3])
    alpha = full(a[..., 3:]) * channel_mean(frames)[..., 0] + full(b[..., 3:])
    return jnp.concatenate([color.reshape(frames.shape), alpha[..., None]], -1)


def fast_guided_filter(frames: Array, low_frames: Array, low_target: Array, epsilon: float = FILTER_EPSILON) -> Array:
    """`[N, H, W, 3]`, `[N, h, w, 3]`, `[N, h, w, 4]` → the target at full size, `[N, H, W, 4]`."""
    guide_mean, target_mean, covariance, variance = moments(as_guide(low_frames), low_target, box_mean)
    a = covariance / (variance + epsilon)
    return apply_linear_model(a, target_mean - a * guide_mean, frames)


class DeepGuidedFilter(nn.Module):
    """A guided filter with a trained window and a trained fit, which also sees the decoder's hidden features."""

    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, frames: Array, low_frames: Array, low_target: Array, hidden: Array) -> Array:
        """As `fast_guided_filter`, with `hidden` `[N, h, w, C]` from the decoder."""
        box = self.param("box_kernel", nn.initializers.constant(1 / 9), (3, 3, 1, 4))
        window = box.astype(low_frames.dtype)
        guide_mean, target_mean, covariance, variance = moments(
            as_guide(low_frames), low_target, lambda x: depthwise_conv2d(x, window, exact=True)
        )
        x = jnp.concatenate([covariance, variance, hidden.astype(covariance.dtype)], -1)
        # GPUs (TF32) and TPUs (bfloat16) round what they multiply, unless told otherwise; a product's gradients are
        # products of the same precision.
        with jax.default_matmul_precision("highest"):
            x = self.norm(name="norm1")(self.conv(hidden.shape[-1], name="conv1")(x), nn.relu)
            x = self.norm(name="norm2")(self.conv(hidden.shape[-1], name="conv2")(x), nn.relu)
            a = self.conv(low_target.shape[-1], use_bias=True, name="conv3")(x)
        return apply_linear_model(a, target_mean - a * guide_mean, frames)
