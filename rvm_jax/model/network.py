"""The matting network: encoder → LR-ASPP → recurrent decoder → heads → refiner.

Frames are `[B, T, H, W, 3]` (clips) or `[B, H, W, 3]` (single frames) in 0..1. The network is a pure function of its
variables, the frames and the state; the state that it returns continues the same clips:

    network = MattingNetwork("mobilenetv3")
    variables = jax.jit(network.init)(jax.random.key(0), frames)
    apply = jax.jit(network.apply, static_argnames=("downsample_ratio", "segmentation"))
    foreground, alpha, state = apply(variables, frames, downsample_ratio=0.25)
    foreground, alpha, state = apply(variables, more_frames, state, downsample_ratio=0.25)
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from rvm_jax.errors import InputError
from rvm_jax.model.decoder import LRASPP, Decoder, State
from rvm_jax.model.encoders.mobilenetv3 import MobileNetV3Encoder
from rvm_jax.model.encoders.resnet import ResNetEncoder
from rvm_jax.model.guided_filter import DeepGuidedFilter, fast_guided_filter
from rvm_jax.model.layers import BatchNorm, Conv
from rvm_jax.model.resize import downscale, scaled_size
from rvm_jax.model.variants import REFINERS, VARIANTS, MobileNetV3, Refiner, Variant

SMALLEST_SIDE = 16  # of what the network looks at: one pixel of its deepest feature


class MattingOutput(NamedTuple):
    """Foreground `[B, T, H, W, 3]` and alpha `[B, T, H, W, 1]` in 0..1 (without T for single frames), and the state."""

    foreground: Array
    alpha: Array
    state: State


class SegmentationOutput(NamedTuple):
    """Logits `[B, T, h, w, 1]` at the down-sampled size (without T for single frames), and the state."""

    logits: Array
    state: State


class MattingNetwork(nn.Module):
    """Robust video matting.

    Attributes:
      variant: "mobilenetv3", "resnet50", "tiny", or a table of one's own.
      refiner: what lifts the result to full size when `downsample_ratio` is not 1.
      dtype: what the convolutions of encoder, decoder and heads compute in; by default the dtype of the frames.
        Resizing, the refiner and the state are float32 with narrower frames too, and of the frames' dtype otherwise;
        parameters and BatchNorm statistics keep the dtype of the variables.
      axis_name: the device axis over which training's BatchNorm statistics are averaged, as in `jax.pmap` or in
        `jax.shard_map(..., check_vma=False)`.
      remat: train in less memory, by computing most of the forward pass twice. For `mobilenetv3` at 512×512 that is
        a third of the memory, as XLA plans it for an H100 and for a CPU (`benchmarks/RESULTS.md`).
      freeze_norms: in training too, BatchNorm normalises by its running statistics, and keeps them.
      folded: BatchNorm is folded into the convolutions, so the variables are those that `model.folding` makes, and only
        inference is left to do.

    Gradients are reverse mode only (`jax.grad`, `jax.vjp`): several layers write their backward pass out.
    """

    variant: str | Variant = "mobilenetv3"
    refiner: Refiner = "deep_guided_filter"
    dtype: DTypeLike | None = None
    axis_name: str | None = None
    remat: bool = False
    freeze_norms: bool = False
    folded: bool = False

    @nn.compact
    def __call__(
        self,
        frames: Array,
        state: State | None = None,
        downsample_ratio: float = 1.0,
        *,
        train: bool = False,
        segmentation: bool = False,
    ) -> MattingOutput | SegmentationOutput:
        """Matte (or, with `segmentation`, segment) `frames`, going on from `state`, or from nothing.

        With `train`, BatchNorm uses the statistics of these frames and updates the running ones, so apply with
        `mutable=["batch_stats"]`. The network itself runs at `downsample_ratio` times the size of the frames.
        Foreground, alpha and logits have the dtype of the frames.
        """
        table = variant_table(self.variant)
        if self.refiner not in REFINERS:
            raise InputError(f"unknown refiner {self.refiner!r}: choose one of {', '.join(REFINERS)}")
        for name, value in (("train", train), ("segmentation", segmentation)):
            check_static(name, value)
        if train and self.folded:
            raise InputError("BatchNorm is folded into the convolutions: train the network that it was folded from")
        single = frames.ndim == 4
        check_frames(frames, downsample_ratio)
        given = frames.dtype
        exact = given if given.itemsize >= 4 else jnp.dtype(jnp.float32)
        frames = frames[:, None] if single else frames
        batch, steps, height, width, _ = frames.shape
        if state is None:
            state = self.initial_state(batch, (height, width), downsample_ratio, exact)
        state = as_state(state, exact)
        check_state(table, state, batch, (height, width), downsample_ratio)

        conv = partial(Conv, dtype=given if self.dtype is None else self.dtype)
        running = not train or self.freeze_norms
        norm = partial(BatchNorm, use_running_average=running, axis_name=self.axis_name, folded=self.folded)
        remat = self.remat and train and not self.is_initializing()
        encoder: nn.Module
        if isinstance(table.encoder, MobileNetV3):
            encoder = MobileNetV3Encoder(table.encoder, conv, norm, remat, name="encoder")
        else:
            encoder = ResNetEncoder(table.encoder, conv, norm, remat, name="encoder")

        # The refiner looks at small differences between pixels, which narrower numbers would round away.
        full = frames.reshape(-1, height, width, 3).astype(exact)  # [B·T, H, W, 3]
        low = full if downsample_ratio == 1 else downscale(full, downsample_ratio)
        f1, f2, f3, f4 = encoder(low)
        bottom = LRASPP(table.aspp, conv, norm, name="aspp")(f4)
        hidden, state = Decoder(table.decoder, conv, norm, remat, name="decoder")(low, f1, f2, f3, bottom, state)

        def to_clips(x: Array) -> Array:
            return x.reshape(*((batch,) if single else (batch, steps)), *x.shape[1:]).astype(given)

        # While variables are made, every head and the refiner run, so that one call makes the weights of all passes.
        every_pass = self.is_initializing()
        if segmentation or every_pass:
            logits = conv(1, cells=True, use_bias=True, name="project_seg")(hidden)
            if not every_pass:
                return SegmentationOutput(to_clips(logits), state)
        target = low_target = conv(4, cells=True, use_bias=True, name="project_mat")(hidden).astype(exact)
        if downsample_ratio != 1 or every_pass:
            if self.refiner == "deep_guided_filter":
                refine = DeepGuidedFilter(partial(Conv, dtype=exact), norm, name="refiner")
                target = refine(full, low, low_target, hidden)
            else:
                target = fast_guided_filter(full, low, low_target)
        residual, alpha = target[..., :3], target[..., 3:]
        foreground = jnp.clip(residual + full, 0, 1)
        return MattingOutput(to_clips(foreground), to_clips(jnp.clip(alpha, 0, 1)), state)

    def initial_state(
        self, batch: int, size: Sequence[int], downsample_ratio: float = 1.0, dtype: DTypeLike | None = None
    ) -> State:
        """The empty memory of `batch` clips whose frames have `size` (height, width)."""
        channels = variant_table(self.variant).state_features
        return State(
            *(
                jnp.zeros((batch, *hw, c), dtype)
                for hw, c in zip(state_sizes(size, downsample_ratio), channels, strict=True)
            )
        )


def variant_table(variant: str | Variant) -> Variant:
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise InputError(f"unknown variant {variant!r}: choose one of {', '.join(VARIANTS)}")
    return VARIANTS[variant]


def state_sizes(size: Sequence[int], downsample_ratio: float) -> list[tuple[int, int]]:
    """Height and width of r1 .. r4 for frames of `size`: each half the one above, rounded up."""
    height, width = scaled_size(size, downsample_ratio)
    return [(-(-height // scale), -(-width // scale)) for scale in (2, 4, 8, 16)]


def check_frames(frames: np.ndarray | Array, downsample_ratio: float = 1.0) -> None:
    """Refuse frames that the network cannot take, by their shape and dtype."""
    shape = tuple(frames.shape)
    if frames.ndim not in (4, 5) or shape[-1] != 3:
        raise InputError(
            f"frames have shape {shape}: expected [B, T, H, W, 3] for clips or [B, H, W, 3] for single frames, RGB last"
        )
    if not jnp.issubdtype(frames.dtype, jnp.floating):
        raise InputError(f"frames are {frames.dtype}: expected floats in 0..1, so divide 8-bit frames by 255")
    if 0 in shape:
        raise InputError(f"frames have shape {shape}, which holds no pixel: give at least one frame")
    check_static("downsample_ratio", downsample_ratio)
    if not 0 < downsample_ratio <= 1:
        raise InputError(f"downsample_ratio is {downsample_ratio}: expected a number above 0 and at most 1")
    height, width = scaled_size(shape[-3:-1], downsample_ratio)
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"frames of {shape[-3]}×{shape[-2]} pixels at downsample_ratio {downsample_ratio:g} leave {height}×{width} "
            f"for the network: each side needs {SMALLEST_SIDE}, so raise the ratio or give larger frames"
        )


def check_static(name: str, value: object) -> None:
    """Refuse a value that `jax.jit` traces, where the program depends on it."""
    if isinstance(value, jax.core.Tracer):
        raise InputError(f"{name} must be static: jax.jit(..., static_argnames={name!r})")


def as_state(parts: Sequence[Array], dtype: DTypeLike) -> State:
    """A `State` of whatever sequence holds r1 .. r4, in `dtype`."""
    if len(parts) != 4:
        raise InputError(
            f"state has {len(parts)} parts: expected r1, r2, r3, r4 as a call of the network returned them"
        )
    for r in parts:
        if not (hasattr(r, "dtype") and jnp.issubdtype(r.dtype, jnp.floating)):
            kind = getattr(r, "dtype", type(r).__name__)
            raise InputError(f"state holds {kind}: expected four arrays of floats, or state=None to start a new video")
    return State(*(jnp.asarray(r, dtype) for r in parts))


def check_state(table: Variant, state: State, batch: int, size: Sequence[int], downsample_ratio: float) -> None:
    """Refuse a state that belongs to other frames."""
    given = [tuple(r.shape) for r in state]
    sizes = state_sizes(size, downsample_ratio)
    expected = [(batch, *hw, c) for hw, c in zip(sizes, table.state_features, strict=True)]
    if given == expected:
        return
    origin = ""
    if [shape[:3] for shape in given] == [shape[:3] for shape in expected]:
        origin = f" It was made by another variant than {table.name!r}."
    elif len(given[0]) == 4:
        count, rows, columns, _ = given[0]
        low = "×".join(map(str, scaled_size(size, downsample_ratio)))
        origin = (
            f" It belongs to {count} clip(s) whose frames are {2 * rows}×{2 * columns} after down-sampling "
            f"(each side, or one pixel less), these are {batch} clip(s) of {low}."
        )
    raise InputError(
        f"state of shapes {given} does not fit the frames, which need {expected}.{origin} "
        "Start a new video, size or ratio with state=None"
    )
