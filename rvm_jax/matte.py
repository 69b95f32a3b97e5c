"""A network with its weights, ready to be called."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rvm_jax.baselines.files import network_of
from rvm_jax.baselines.files import save as save_baseline
from rvm_jax.baselines.matte import BaselineMatte
from rvm_jax.baselines.names import Baseline
from rvm_jax.errors import InputError
from rvm_jax.frame_arrays import check_clips
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
from rvm_jax.weights.files import (
    Location,
    Weights,
    checked_weights,
    contents_of,
    describe,
    weights_of,
    whole_network,
    write_weights,
)
from rvm_jax.weights.in_buckets import exists
from rvm_jax.weights.names import Variables, baseline_family
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

    keeps_state = True
    """Whether a frame is matted with what was seen before it."""

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

    @property
    def name(self) -> str:
        """What tables and files call it: rvm_mobilenetv3, …"""
        return f"rvm_{variant_table(self.network.variant).name}"

    @property
    def needs(self) -> tuple[str, ...]:
        """What it wants besides frames: nothing."""
        return ()

    def __call__(
        self,
        frames: ArrayLike,
        state: State | None = None,
        downsample_ratio: float | None = None,
        *,
        background: None = None,
    ) -> MattingOutput:
        """Matte clips `[B, T, H, W, 3]` or one frame `[H, W, 3]`: RGB, uint8 in 0..255 or floats in 0..1.

        Returns foreground `[B, T, H, W, 3]` and alpha `[B, T, H, W, 1]` in 0..1 (`[H, W, 3]` and `[H, W, 1]` for one
        frame), and the state that continues these clips. The network looks at the frames at `downsample_ratio` times
        their size; by default that makes their longest side about 512 pixels, or leaves smaller frames as they are.

        A call does not wait for the device. Floats of a NumPy array are checked to lie in 0..1; a JAX array is taken
        as it is, for to look into it is to wait until it is computed. `background` is there because other networks,
        which `load` gives as well, need one; this takes none.
        """
        if background is not None:
            raise InputError(f"{self.name} takes no background: leave it out")
        size = check_clips(frames)
        ratio = automatic_ratio(size) if downsample_ratio is None else _static(downsample_ratio)
        return self._apply(frames, state, ratio, segmentation=False)

    def segment(
        self, frames: ArrayLike, state: State | None = None, downsample_ratio: float = 1.0
    ) -> SegmentationOutput:
        """Logits `[B, T, h, w, 1]` (`[h, w, 1]`) of "this is a person" for the same frames, and the state.

        They have the size at which the network looks at the frames: `downsample_ratio` times theirs, rounded down.
        """
        check_clips(frames)
        return self._apply(frames, state, _static(downsample_ratio), segmentation=True)

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


def load(path: Location, dtype: DTypeLike = jnp.float32, *, variant: Variant | None = None) -> Matte | BaselineMatte:
    """Load a `.pth`, `.safetensors` or released `.onnx` file, a saved folder, or a release by its name (`rvm weights`).

    Which network it is, and its variant, is read from the weights: RVM, or one of `rvm_jax.baselines` (MODNet,
    BackgroundMattingV2, U²-Net), of whose released files `.ckpt` and `.pt` are taken as well. What comes back is called
    alike; its `needs` tells whether it wants `background=`. URLs of buckets, gs:// and s3://, are taken as paths are.

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
    with contents_of(path) as contents:
        if variant is None and baseline_family(contents.arrays):
            return _from_baseline(*network_of(contents), contents.provenance, dtype)
        return from_weights(whole_network(weights_of(contents, variant), path), dtype)


def load_rvm(path: Location, dtype: DTypeLike = jnp.float32) -> Matte:
    """`load`, but refuse another network than RVM."""
    loaded = load(path, dtype)
    if isinstance(loaded, BaselineMatte):
        raise InputError(f"{path} holds {loaded.name}: expected weights of RVM")
    return loaded


def from_weights(loaded: Weights, dtype: DTypeLike = jnp.float32) -> Matte:
    """What `load` gives, of weights that were read before."""
    variables, computed = _on_device(loaded.variables, jnp.dtype(dtype))
    return Matte(loaded.network(computed), variables, loaded.provenance)


def _from_baseline(
    network: Baseline, variables: Variables, provenance: Provenance | None, dtype: jnp.dtype
) -> BaselineMatte:
    variables, computed = _on_device(variables, dtype)
    return BaselineMatte(network.clone(dtype=computed), variables, provenance=provenance)


def _on_device(variables: Variables, dtype: jnp.dtype) -> tuple[Variables, jnp.dtype | None]:
    """The variables in `dtype`, or in float32 if that is half; and what to compute in, if it is not what they are."""
    parameter_dtype = dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)

    def converted(x: np.ndarray) -> np.ndarray:
        return x.astype(parameter_dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    on_device = jax.device_put(jax.tree.map(converted, variables))  # each by `asarray` takes a second
    return on_device, None if dtype == parameter_dtype else dtype


def save(matte: Matte | BaselineMatte, path: Location, *, overwrite: bool = False) -> None:
    """Write the variables as the ending of `path` says: `.pth`, `.safetensors`, or a folder if it has none.

    Networks of `rvm_jax.baselines` are written under the names of their released files, also as `.ckpt`. `load` reads
    from it what is saved, bit for bit (in half precision: widened to float32).
    """
    if not overwrite and exists(path):
        raise InputError(f"{path} exists already: choose another name, or replace it with overwrite=True")
    if matte.network.folded:
        raise InputError(f"BatchNorm is folded into the convolutions of what is to be {path}: save what it was made of")
    if isinstance(matte, BaselineMatte):
        save_baseline(matte.network, matte.variables, path, overwrite=overwrite, provenance=matte.provenance)
        return
    network = matte.network
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
