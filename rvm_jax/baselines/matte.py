"""A baseline with its weights, to be called on frames as `rvm_jax.Matte` is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rvm_jax.baselines import images
from rvm_jax.baselines.background_matting import MULTIPLE as REFINED_MULTIPLE
from rvm_jax.baselines.background_matting import MattingBase, MattingRefine
from rvm_jax.baselines.folding import fold_batch_norm
from rvm_jax.baselines.images import Size
from rvm_jax.baselines.modnet import MULTIPLE, MODNet
from rvm_jax.baselines.names import Baseline, describe, name_of
from rvm_jax.baselines.u2net import U2Net
from rvm_jax.errors import InputError
from rvm_jax.frame_arrays import check_clips, check_values
from rvm_jax.weights.names import Variables
from rvm_jax.weights.provenance import Provenance


class BaselineOutput(NamedTuple):
    """Foreground `[B, T, H, W, 3]` and alpha `[B, T, H, W, 1]` in 0..1 (without B, T for one frame).

    Named and ordered as `rvm_jax.MattingOutput`. The foreground is None of networks that have none.
    """

    foreground: Array | np.ndarray | None
    alpha: Array
    state: None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class BaselineMatte:
    """MODNet, BackgroundMattingV2 or U²-Net, to be called on frames; `dataclasses.replace` changes what it does.

    A pytree whose leaves are the variables. Compiles once for each shape and dtype of frames.

    Attributes:
      network: in Flax; `network.clone(mode="full")` is BackgroundMattingV2 with another option.
      variables: its parameters and statistics.
      antialias: resize frames and mattes with antialiasing, instead of as the network's own scripts do.
      pad: bring frames to a size that the network takes by repeating their edges, and crop the matte, instead of
        changing their ratio as the scripts do. BackgroundMattingV2's, which would refuse them, are always padded.
      estimate_foreground: of networks that have no foreground estimate it, on the host.
      provenance: what their file tells of their training, None if it tells nothing.
    """

    network: Baseline = field(metadata={"static": True})
    variables: Variables
    antialias: bool = field(default=False, metadata={"static": True})
    pad: bool = field(default=False, metadata={"static": True})
    estimate_foreground: bool = field(default=False, metadata={"static": True})
    provenance: Provenance | None = field(default=None, metadata={"static": True})

    keeps_state = False
    """Whether a frame is matted with what was seen before it."""

    def __repr__(self) -> str:
        text = describe(self.network, self.variables)
        return f"BaselineMatte({text}, {jnp.dtype(self.network.dtype or self.dtype)})"

    @property
    def name(self) -> str:
        """What tables and files call it: modnet, u2net, u2netp, bgmv2_resnet50, bgmv2_base_resnet50, …"""
        return name_of(self.network)

    @property
    def needs(self) -> tuple[str, ...]:
        """What it wants besides frames: `("background",)`, or nothing."""
        return ("background",) if isinstance(self.network, MattingBase | MattingRefine) else ()

    @property
    def dtype(self) -> jnp.dtype:
        """What the variables and the results are. The network may compute in less: `network.dtype`."""
        return jax.tree.leaves(self.variables["params"])[0].dtype

    def __call__(
        self,
        frames: ArrayLike,
        state: None = None,
        downsample_ratio: float | None = None,
        *,
        background: ArrayLike | None = None,
    ) -> BaselineOutput:
        """Matte clips `[B, T, H, W, 3]` or one frame `[H, W, 3]`: RGB, uint8 in 0..255 or floats in 0..1.

        The network sees the frames as its own scripts show them to it; MODNet's have one for pictures, which is for a
        frame, and one for videos, for clips. BackgroundMattingV2 wants the same view without the person, `[H, W, 3]` or
        one for each frame; its coarse network runs at `downsample_ratio`, by default its `scale`. There is no state.
        """
        size = check_clips(frames)
        frames = frames if isinstance(frames, Array) else np.asarray(frames)
        if state is not None:
            raise InputError(f"{self.name} keeps no state from frame to frame: leave it out")
        network = self._at(downsample_ratio)
        if self.needs:
            background = self._checked_background(background, frames, size)
        elif background is not None:
            raise InputError(f"{self.name} takes no background: leave it out")
        matte = replace(self, network=network, estimate_foreground=False)
        foreground, alpha = _apply(matte, frames, background)
        if foreground is None and self.estimate_foreground:
            foreground = _estimated(frames, alpha)
        return BaselineOutput(foreground, alpha)

    def folded(self) -> "BaselineMatte":
        """The same for inference alone, with every BatchNorm folded into the convolution before it.

        What it computes differs by rounding, and it cannot be saved: keep this one for that.
        """
        if self.network.folded:
            return self
        variables = jax.device_put(fold_batch_norm(self.variables))
        return replace(self, network=self.network.clone(folded=True), variables=variables)

    def _at(self, downsample_ratio: float | None) -> Baseline:
        if downsample_ratio is None:
            return self.network
        if not isinstance(self.network, MattingRefine):
            raise InputError(f"{self.name} looks at frames at a size of its own: leave downsample_ratio out")
        return self.network.clone(scale=float(downsample_ratio))

    def _checked_background(self, background: Any, frames: Any, size: tuple[int, int]) -> np.ndarray | Array:
        if background is None:
            raise InputError(
                f"{self.name} needs background=: the same view without the person, of {size[1]}x{size[0]} pixels"
            )
        if not isinstance(background, (np.ndarray, Array)):
            raise InputError(f"background is a {type(background).__name__}: expected a NumPy or JAX array")
        alike = zip(background.shape[:-3], frames.shape[:-3], strict=False)
        if (
            background.ndim not in (3, frames.ndim)
            or background.shape[-3:] != frames.shape[-3:]
            or any(given not in (1, wanted) for given, wanted in alike)
        ):
            raise InputError(
                f"background has shape {tuple(background.shape)} and frames {tuple(frames.shape)}: give one picture of "
                "their size, or one for each frame"
            )
        check_values(background, "background")
        if isinstance(background, np.ndarray) and not background.any():
            raise InputError("background is black all over: give the same view without the person")
        return background


def _estimated(frames: Array | np.ndarray, alpha: Array) -> np.ndarray:
    """The foreground of each frame, on the host."""
    from rvm_jax.foreground import estimate_foreground

    flat = np.asarray(frames).reshape(-1, *frames.shape[-3:])
    flat = flat.astype(np.float32) / (255 if flat.dtype == np.uint8 else 1)
    alphas = np.asarray(alpha, np.float32).reshape(-1, *alpha.shape[-3:])
    estimated = [estimate_foreground(frame, one) for frame, one in zip(flat, alphas, strict=True)]
    return np.stack(estimated).reshape(frames.shape)


@jax.jit
def _apply(matte: BaselineMatte, frames: Array, background: Array | None) -> tuple[Array | None, Array]:
    """Foreground, if the network has one, and alpha, of the shape of the frames."""
    flat = _floats(frames, matte.dtype).reshape(-1, *frames.shape[-3:])  # [N, H, W, 3]
    if background is not None:
        leading = (1,) * (frames.ndim - background.ndim)  # of one background for many frames
        background = _floats(background, matte.dtype).reshape(*leading, *background.shape)
        background = jnp.broadcast_to(background, frames.shape).reshape(flat.shape)
    height, width = flat.shape[1:3]
    video = frames.ndim == 5
    padded, seen = _sizes(matte, (height, width), video)
    padding = ((0, 0), (0, padded[0] - height), (0, padded[1] - width), (0, 0))
    flat = jnp.pad(flat, padding, "edge")
    background = background if background is None else jnp.pad(background, padding, "edge")
    foreground, alpha = _matted(matte, flat, background, seen, video=video)

    def cropped(x: Array) -> Array:
        x = jnp.clip(x[:, :height, :width], 0, 1)
        return x.reshape(*frames.shape[:-1], x.shape[-1])

    return None if foreground is None else cropped(foreground), cropped(alpha)


def _floats(frames: Array, dtype: jnp.dtype) -> Array:
    return frames.astype(dtype) / 255 if frames.dtype == np.uint8 else frames.astype(dtype)


def _sizes(matte: BaselineMatte, size: Size, video: bool) -> tuple[Size, Size]:
    """To which size frames are padded, and at which the network then sees them."""
    match matte.network:
        case MattingRefine():
            padded = _multiples(size, REFINED_MULTIPLE)
            return padded, padded
        case U2Net():
            return (max(size), max(size)) if matte.pad else size, (images.U2NET_SIDE, images.U2NET_SIDE)
        case MODNet() if matte.pad:
            scale = images.modnet_scale(*size, video=video)
            seen = _multiples([round(side * scale) for side in size], MULTIPLE)
            height, width = (max(side, round(of / scale)) for side, of in zip(size, seen, strict=True))
            return (height, width), seen
        case MODNet():
            return size, images.modnet_size(*size, video=video)
        case _:
            return size, size


def _multiples(size: Sequence[int], multiple: int) -> Size:
    """Rounded up."""
    height, width = size
    return height + -height % multiple, width + -width % multiple


def _matted(
    matte: BaselineMatte, frames: Array, background: Array | None, seen: Size, *, video: bool
) -> tuple[Array | None, Array]:
    """Foreground and alpha of frames `[N, H, W, 3]`, of which the network sees `seen`."""
    apply = partial(matte.network.apply, matte.variables)
    size, antialias = (frames.shape[1], frames.shape[2]), matte.antialias
    output: Any
    match matte.network:
        case MODNet():
            output = apply(images.modnet_input(frames, seen, video=video, antialias=antialias))
            return None, images.modnet_resize(output.alpha, size, video=video, antialias=antialias)
        case U2Net():
            output = apply(images.u2net_input(frames, antialias=antialias))
            return None, images.u2net_mask(output.alpha, size, antialias=antialias)
        case _:
            output = apply(frames, background)
            return output.foreground, output.alpha
