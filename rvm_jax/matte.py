"""A network with its weights, ready to be called."""

import os
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rvm_jax.errors import InputError
from rvm_jax.model.decoder import State
from rvm_jax.model.network import (
    SMALLEST_SIDE,
    MattingNetwork,
    MattingOutput,
    SegmentationOutput,
    as_state,
    check_frames,
)
from rvm_jax.weights.files import Weights, read_network
from rvm_jax.weights.names import Variables

LONGEST_SIDE = 512
DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True, eq=False)
class Matte:
    """A network and its variables. Compiles once for each shape of frames and each `downsample_ratio`.

    A call looks at the range of its frames, for which it waits if they are still being computed. Pipelines that must
    not wait call `network.apply` with `variables`.
    """

    network: MattingNetwork
    variables: Variables

    def __call__(
        self, frames: ArrayLike, state: State | None = None, downsample_ratio: float | None = None
    ) -> MattingOutput:
        """Matte clips `[B, T, H, W, 3]` or single frames `[B, H, W, 3]`, floats in 0..1.

        Returns foreground `[B, T, H, W, 3]`, alpha `[B, T, H, W, 1]` (without T for single frames) and the state that
        continues these clips. The network looks at the frames at `downsample_ratio` times their size; by default that
        makes their longest side about 512 pixels, or leaves smaller frames as they are.
        """
        frames = self._checked(frames)
        ratio = automatic_ratio(frames.shape[-3:-1]) if downsample_ratio is None else float(downsample_ratio)
        return _apply(self.network, self.variables, frames, self._state(frames, state, ratio), ratio, False)

    def segment(self, frames: ArrayLike, state: State | None = None) -> SegmentationOutput:
        """Logits `[B, T, H, W, 1]` of "this is a person" for the same frames, at their full size, and the state."""
        frames = self._checked(frames)
        return _apply(self.network, self.variables, frames, self._state(frames, state, 1.0), 1.0, True)

    def _checked(self, frames: Any) -> Array:
        dtype = jax.tree.leaves(self.variables["params"])[0].dtype
        if not isinstance(frames, (np.ndarray, Array)):
            raise InputError(f"frames are a {type(frames).__name__}: expected a NumPy or JAX array of floats in 0..1")
        check_frames(frames)
        if not isinstance(frames, jax.core.Tracer):
            low, high = float(frames.min()), float(frames.max())
            if not (low >= 0 and high <= 1):  # also true of NaN
                mend = "divide 8-bit frames by 255" if high > 2 else "clip them"
                raise InputError(f"frames range from {low:g} to {high:g}: expected 0..1, so {mend}")
        return jnp.asarray(frames, dtype)

    def _state(self, frames: Array, state: State | None, ratio: float) -> State:
        # An empty state instead of None, so that the first frames and those that follow share one compiled program.
        if state is None:
            check_frames(frames, ratio)
            return self.network.initial_state(frames.shape[0], frames.shape[-3:-1], ratio, frames.dtype)
        return as_state(state, frames.dtype)


def automatic_ratio(size: tuple[int, ...], longest: int = LONGEST_SIDE) -> float:
    """The `downsample_ratio` that makes the longest side of (height, width) about `longest`, and never enlarges.

    Long and narrow frames keep as many pixels on their short side as the network needs.
    """
    return min(1.0, max(longest / max(size), (SMALLEST_SIDE + 0.5) / min(size)))


def load(path: str | os.PathLike[str], dtype: DTypeLike = jnp.float32) -> Matte:
    """Load a `.pth` or `.safetensors` file or a saved folder; variant and refiner are read from the weights.

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
    return from_weights(read_network(path), dtype)


def from_weights(loaded: Weights, dtype: DTypeLike = jnp.float32) -> Matte:
    """What `load` gives, of weights that were read before."""
    dtype = jnp.dtype(dtype)
    parameter_dtype = dtype if dtype.itemsize >= 4 else jnp.float32

    def to_device(x: np.ndarray) -> Array:
        return jnp.asarray(x, parameter_dtype if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype)

    network = loaded.network(None if dtype == parameter_dtype else dtype)
    return Matte(network, jax.tree.map(to_device, loaded.variables))


@partial(jax.jit, static_argnums=(0, 4, 5))
def _apply(
    network: MattingNetwork, variables: Variables, frames: Array, state: State, ratio: float, segmentation: bool
) -> Any:
    return network.apply(variables, frames, state, ratio, segmentation=segmentation)
