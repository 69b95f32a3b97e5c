"""A network with its weights, ready to be called."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rvm_jax.errors import InputError
from rvm_jax.model.decoder import State
from rvm_jax.model.folding import fold_batch_norm
from rvm_jax.model.network import (
    SMALLEST_SIDE,
    MattingNetwork,
    MattingOutput,
    SegmentationOutput,
    as_state,
    check_frames,
    variant_table,
)
from rvm_jax.model.variants import Variant
from rvm_jax.weights.files import Location, Weights, checked_weights, describe, read_network, write_weights
from rvm_jax.weights.in_buckets import exists
from rvm_jax.weights.names import Variables
from rvm_jax.weights.provenance import Provenance

LONGEST_SIDE = 512
DTYPES = ("float32", "float64", "bfloat16", "float16")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Matte:
    """A network and its variables, to be called on frames.

    Compiles once for each shape and dtype of frames and each `downsample_ratio`. It is a pytree whose leaves are the
    variables, so `jax.jit`, `jax.device_put`, `jax.tree.map`, and `jax.vmap` over stacked ones take it. `provenance` is
    what its file tells of its training, None if it tells nothing.
    """

    network: MattingNetwork = field(metadata={"static": True})
    variables: Variables
    provenance: Provenance | None = field(default=None, metadata={"static": True})

    def __repr__(self) -> str:
        text = describe(variant_table(self.network.variant), self.network.refiner, self.variables)
        text += ", folded" * self.network.folded
        return f"Matte({text}, {jnp.dtype(self.network.dtype or self.dtype)})"

    def folded(self) -> "Matte":
        """The same for inference alone, with every BatchNorm folded into the convolution before it.

        What it computes differs by rounding, and it cannot be saved: keep this one for that.
        """
        if self.network.folded:
            return self
        variables = fold_batch_norm(variant_table(self.network.variant), self.variables)
        one = jax.tree.leaves(self.variables["params"])[0]
        where = one.sharding if getattr(one, "committed", False) else None  # else anywhere, as they were
        return Matte(self.network.clone(folded=True), jax.device_put(variables, where), self.provenance)

    @property
    def dtype(self) -> jnp.dtype:
        """What the variables, the state and the results are. The network may compute in less: `network.dtype`."""
        return jax.tree.leaves(self.variables["params"])[0].dtype

    def __call__(
        self, frames: ArrayLike, state: State | None = None, downsample_ratio: float | None = None
    ) -> MattingOutput:
        """Matte clips `[B, T, H, W, 3]` or one frame `[H, W, 3]`: RGB, uint8 in 0..255 or floats in 0..1.

        Returns foreground `[B, T, H, W, 3]` and alpha `[B, T, H, W, 1]` in 0..1 (`[H, W, 3]` and `[H, W, 1]` for one
        frame), and the state that continues these clips. The network looks at the frames at `downsample_ratio` times
        their size; by default that makes their longest side about 512 pixels, or leaves smaller frames as they are.

        A call does not wait for the device. Floats of a NumPy array are checked to lie in 0..1; a JAX array is taken
        as it is, for to look into it is to wait until it is computed.
        """
        size = self._check(frames)
        ratio = automatic_ratio(size) if downsample_ratio is None else _static(downsample_ratio)
        return self._apply(frames, state, ratio, segmentation=False)

    def segment(
        self, frames: ArrayLike, state: State | None = None, downsample_ratio: float = 1.0
    ) -> SegmentationOutput:
        """Logits `[B, T, h, w, 1]` (`[h, w, 1]`) of "this is a person" for the same frames, and the state.

        They have the size at which the network looks at the frames: `downsample_ratio` times theirs, rounded down.
        """
        self._check(frames)
        return self._apply(frames, state, _static(downsample_ratio), segmentation=True)

    def _check(self, frames: Any) -> tuple[int, int]:
        """Refuse what are no frames; returns their height and width."""
        if not isinstance(frames, (np.ndarray, Array)):
            raise InputError(
                f"frames are a {type(frames).__name__}: expected a NumPy or JAX array, uint8 or floats in 0..1"
            )
        shape = tuple(frames.shape)
        if len(shape) == 4:
            raise InputError(
                f"frames have shape {shape}: give frames[None] if they are one clip [1, T, H, W, 3], or "
                "frames[:, None] if they have nothing to do with one another [B, 1, H, W, 3]"
            )
        if len(shape) not in (3, 5) or shape[-1] != 3:
            raise InputError(
                f"frames have shape {shape}: expected [B, T, H, W, 3] for clips or [H, W, 3] for one frame, RGB last"
            )
        if 0 in shape:
            raise InputError(f"frames have shape {shape}, which holds no pixel: give at least one frame")
        floats = jnp.issubdtype(frames.dtype, jnp.floating)
        if not floats and frames.dtype != np.uint8:
            raise InputError(f"frames are {frames.dtype}: expected uint8 in 0..255 or floats in 0..1")
        if floats and isinstance(frames, np.ndarray):
            low, high = float(frames.min()), float(frames.max())
            if not (low >= 0 and high <= 1):  # also true of NaN
                mend = "divide by 255, or give uint8" if high > 2 else "clip them"
                raise InputError(f"frames range from {low:g} to {high:g}: expected 0..1, so {mend}")
        return shape[-3], shape[-2]

    def _apply(self, frames: Any, state: State | None, ratio: float, segmentation: bool) -> Any:
        if isinstance(frames, np.ndarray) and frames.dtype != np.uint8:
            frames = frames.astype(self.dtype, copy=False)  # before its way to the device
        batch = frames.shape[:-3] or (1,)  # [B, T], or one frame
        check_frames(np.broadcast_to(np.float32(0), (*batch, *frames.shape[-3:])), ratio)
        if state is None:
            # Not None, so that the first frames and those that follow share one compiled program.
            state = self.network.initial_state(batch[0], frames.shape[-3:-1], ratio, self.dtype)
        return _apply(self.network, self.variables, frames, as_state(state, self.dtype), ratio, segmentation)


def automatic_ratio(size: tuple[int, ...], longest: int = LONGEST_SIDE) -> float:
    """The `downsample_ratio` that makes the longest side of (height, width) `longest`, and never enlarges.

    Long and narrow frames keep as many pixels on their short side as the network needs. The ratio is a float32, the
    least that is not too small: whether a runtime multiplies in float32 or float64, it comes to the same size.
    """
    ratio = min(1.0, max(longest / max(size), (SMALLEST_SIDE + 0.5) / min(size)))
    nearest = np.float32(ratio)
    return float(nearest if float(nearest) >= ratio else np.nextafter(nearest, np.float32(1)))


def load(path: Location, dtype: DTypeLike = jnp.float32, *, variant: Variant | None = None) -> Matte:
    """Load a `.pth`, `.safetensors` or released `.onnx` file, a saved folder, or a release by its name (`rvm weights`).

    Variant and refiner are read from the weights. URLs of buckets, gs:// and s3://, are taken as paths are.

    A variant of one's own has to be given, for only those in `rvm_jax.model.variants.VARIANTS` are known.

    Of the folder of a training run it takes the final weights, or else those of its best or newest checkpoint.

    `dtype` is what the network computes in: float32, float64 (in JAX's x64 mode), or bfloat16 or float16, with which
    parameters, the state and the frames stay float32.
    """
    try:
        dtype = jnp.dtype(dtype)
    except TypeError:
        raise InputError(f"dtype is {dtype!r}: expected one of {', '.join(DTYPES)}") from None
    if dtype.name not in DTYPES:
        raise InputError(f"dtype is {dtype}: expected one of {', '.join(DTYPES)}")
    if dtype == jnp.float64 and not jax.config.read("jax_enable_x64"):
        raise InputError("dtype float64 needs JAX's x64 mode: jax.config.update('jax_enable_x64', True)")
    return from_weights(read_network(path, variant), dtype)


def from_weights(loaded: Weights, dtype: DTypeLike = jnp.float32) -> Matte:
    """What `load` gives, of weights that were read before."""
    dtype = jnp.dtype(dtype)
    parameter_dtype = dtype if dtype.itemsize >= 4 else jnp.float32

    def converted(x: np.ndarray) -> np.ndarray:
        return x.astype(parameter_dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    network = loaded.network(None if dtype == parameter_dtype else dtype)
    variables = jax.device_put(jax.tree.map(converted, loaded.variables))  # each by `asarray` takes a second
    return Matte(network, variables, loaded.provenance)


def save(matte: Matte, path: Location, *, overwrite: bool = False) -> None:
    """Write the variables as the ending of `path` says: `.pth`, `.safetensors`, or a folder if it has none.

    `load` reads from it what is saved, bit for bit (in half precision: widened to float32).
    """
    if not overwrite and exists(path):
        raise InputError(f"{path} exists already: choose another name, or replace it with overwrite=True")
    network = matte.network
    if network.folded:
        raise InputError(f"BatchNorm is folded into the convolutions of what is to be {path}: save what it was made of")
    variables = jax.device_get(matte.variables)
    weights = checked_weights(variant_table(network.variant), network.refiner, variables, f"what is to be {path}")
    write_weights(weights, path, overwrite=overwrite, provenance=matte.provenance)


def _static(ratio: Any) -> float:
    if isinstance(ratio, jax.core.Tracer):
        raise InputError(
            "downsample_ratio is traced, but sizes depend on it: give a number, or "
            "jax.jit(..., static_argnames='downsample_ratio')"
        )
    return float(ratio)


@partial(jax.jit, static_argnums=(0, 4, 5))
def _apply(
    network: MattingNetwork, variables: Variables, frames: Array, state: State, ratio: float, segmentation: bool
) -> Any:
    single = frames.ndim == 3
    clips = (frames[None, None] if single else frames).astype(state.r1.dtype)  # [B, T, H, W, 3]
    if frames.dtype == np.uint8:
        clips = clips / 255
    result: Any = network.apply(variables, clips, state, ratio, segmentation=segmentation)
    if single:
        result = type(result)(*(x[0, 0] for x in result[:-1]), result.state)
    return result
