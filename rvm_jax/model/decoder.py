"""LR-ASPP, the recurrent decoder and its ConvGRU.

Arrays here are time-major: `[T, B, h, w, C]` where time matters, `[T·B, h, w, C]` where it does not. Everything without
memory runs on all frames at once; the only thing that `lax.scan` carries over time is the memory of `conv_gru`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from rvm_jax.model.convolution import conv2d, input_gradient, kernel_gradient, per_channel
from rvm_jax.model.layers import affine, kernel_init
from rvm_jax.model.remat import frame_by_frame, late_scan, remat_block
from rvm_jax.model.resize import halve

Scan = Callable[..., tuple[Array, Any]]


class State(NamedTuple):
    """What the network remembers: one array `[B, h, w, C]` at each of 1/2, 1/4, 1/8 and 1/16 of the frame."""

    r1: Array
    r2: Array
    r3: Array
    r4: Array


class LRASPP(nn.Module):
    """A 1×1 projection of the deepest feature, gated by that feature's mean over each frame."""

    features: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        value = nn.relu(self.norm(name="value_norm")(self.conv(self.features, name="value_conv")(x)))
        gate = self.conv(self.features, name="gate_conv")(x.mean((1, 2), keepdims=True))
        return value * nn.sigmoid(gate)


class Decoder(nn.Module):
    """From the LR-ASPP output and the encoder's features up to the hidden features at full size.

    With `remat`, every block is computed twice in training, and the convolutions at full size frame by frame.
    """

    features: tuple[int, int, int, int]
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    remat: bool = False

    @nn.compact
    def __call__(
        self, frames: Array, f1: Array, f2: Array, f3: Array, bottom: Array, state: State
    ) -> tuple[Array, State]:
        """`frames` `[N, H, W, 3]`, N = T·B, features at 1/2, 1/4, 1/8, 1/16 → hidden `[N, H, W, d0]`, new state."""
        s1 = halve(frames)
        s2 = halve(s1)
        s3 = halve(s2)
        d3, d2, d1, d0 = self.features
        recur = remat_block(RecurrentHalf.__call__, self.remat)
        # On CPU, `lax.scan` would need a third more memory here, and without `remat` the same: `benchmarks/memory.py`.
        half = partial(RecurrentHalf, late_scan if self.remat else lax.scan)
        x, r4 = recur(half(name="gru4"), bottom, state.r4)
        x = self._merge("3", d3, x, f3, s3)
        x, r3 = recur(half(name="gru3"), x, state.r3)
        x = self._merge("2", d2, x, f2, s2)
        x, r2 = recur(half(name="gru2"), x, state.r2)
        x = self._merge("1", d1, x, f1, s1)
        x, r1 = recur(half(name="gru1"), x, state.r1)
        x = self._finish_in_less_memory(d0, x, frames) if self.remat else self._finish(d0, x, frames)
        return x, State(r1, r2, r3, r4)

    def _merge(self, scale: str, features: int, x: Array, *others: Array) -> Array:
        """Up-sample x to the size of the others, concatenate all, convolve."""

        def block(decoder: Decoder, x: Array, *others: Array) -> Array:
            x = decoder.conv(features, 3, name=f"conv{scale}")(x, *others)
            return nn.relu(decoder.norm(name=f"norm{scale}")(x))

        return remat_block(block, self.remat)(self, x, *others)

    def _finish(self, features: int, x: Array, frames: Array) -> Array:
        """The last block, at full size: two convolutions."""
        x = self._merge("0", features, x, frames)
        return nn.relu(self.norm(name="norm0b")(self.conv(features, 3, name="conv0b")(x)))

    def _finish_in_less_memory(self, features: int, x: Array, frames: Array) -> Array:
        """The same, so that only what the two convolutions give exists at once for all frames.

        BatchNorm needs all of that for its statistics; but applying them is part of whatever comes next.
        """

        def first(decoder: Decoder, x: Array, frame: Array) -> Array:
            return decoder.conv(features, 3, name="conv0")(x, frame)

        def second(decoder: Decoder, x: Array, factor: Array, offset: Array) -> Array:
            return decoder.conv(features, 3, name="conv0b")(nn.relu(affine(x, factor, offset)))

        def last(_: Decoder, x: Array, factor: Array, offset: Array) -> Array:
            return nn.relu(affine(x, factor, offset))

        x = frame_by_frame(first)(self, x, frames)
        x = frame_by_frame(second)(self, x, *self.norm(name="norm0")(x, apply=False))
        return frame_by_frame(last)(self, x, *self.norm(name="norm0b")(x, apply=False))


class RecurrentHalf(nn.Module):
    """A ConvGRU on the second half of the channels; the first half passes by."""

    scan: Scan = lax.scan

    @nn.compact
    def __call__(self, x: Array, hidden: Array) -> tuple[Array, Array]:
        """`[T·B, h, w, 2C]` and state `[B, h, w, C]` → the same shapes."""
        stateless, recurrent = jnp.split(x, 2, -1)
        channels = recurrent.shape[-1]
        weights = GRUWeights(
            self.param("gates_kernel", kernel_init, (3, 3, 2 * channels, 2 * channels)),
            self.param("gates_bias", nn.initializers.zeros, (2 * channels,)),
            self.param("candidate_kernel", kernel_init, (3, 3, 2 * channels, channels)),
            self.param("candidate_bias", nn.initializers.zeros, (channels,)),
        )
        recurrent, hidden = conv_gru(
            recurrent.reshape(-1, *hidden.shape), hidden, weights, scan=self.scan
        )  # [T, B, h, w, C]
        recurrent = recurrent.reshape(stateless.shape).astype(x.dtype)  # [T·B, h, w, C]
        return jnp.concatenate([stateless, recurrent], -1), hidden


class GRUWeights(NamedTuple):
    """Kernels `[3, 3, 2C, 2C]` (reset, then update gate) and `[3, 3, 2C, C]`; their inputs are x, then the memory."""

    gates_kernel: Array
    gates_bias: Array
    candidate_kernel: Array
    candidate_bias: Array


def conv_gru(x: Array, hidden: Array, weights: GRUWeights, *, scan: Scan = lax.scan) -> tuple[Array, Array]:
    """Run a ConvGRU over `x` `[T, B, h, w, C]` from `hidden` `[B, h, w, C]`: all outputs, and the last of them.

    A convolution over `[x, h]` is the sum of one over x and one over h, so the half that does not depend on the memory
    is computed for all frames before the scan. Convolutions run in the dtype of `x`; the memory keeps its own.
    """
    steps, batch, height, width, channels = x.shape
    gates_kernel, gates_bias, candidate_kernel, candidate_bias = (w.astype(x.dtype) for w in weights)
    input_kernel = jnp.concatenate([gates_kernel[:, :, :channels], candidate_kernel[:, :, :channels]], -1)
    input_bias = jnp.concatenate([gates_bias, candidate_bias])
    inputs = conv2d(x.reshape(-1, height, width, channels), input_kernel) + per_channel(input_bias)
    inputs = inputs.reshape(steps, batch, height, width, 3 * channels)
    outputs = _recurrence(inputs, hidden, gates_kernel[:, :, channels:], candidate_kernel[:, :, channels:], scan)
    return outputs, outputs[-1]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _recurrence(inputs: Array, hidden: Array, gates_kernel: Array, candidate_kernel: Array, scan: Scan) -> Array:
    """The part of a ConvGRU that needs its memory, over `inputs` `[T, B, h, w, 3C]`: outputs `[T, B, h, w, C]`."""

    def step(hidden: Array, inputs: Array) -> tuple[Array, Array]:
        hidden, _ = _gru_step(hidden, inputs, gates_kernel, candidate_kernel)
        return hidden, hidden

    return scan(step, hidden, inputs)[1]


def _gru_step(
    hidden: Array, inputs: Array, gates_kernel: Array, candidate_kernel: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    """The next memory `[B, h, w, C]`, and reset gate, update gate and candidate, all in the memory's dtype."""
    gates_input, candidate_input = jnp.split(inputs, [gates_kernel.shape[-1]], -1)
    gates = nn.sigmoid(gates_input + conv2d(hidden.astype(inputs.dtype), gates_kernel)).astype(hidden.dtype)
    reset, update = jnp.split(gates, 2, -1)
    candidate = nn.tanh(candidate_input + conv2d((reset * hidden).astype(inputs.dtype), candidate_kernel))
    candidate = candidate.astype(hidden.dtype)
    return (1 - update) * hidden + update * candidate, (reset, update, candidate)


# Differentiating the scan itself would add up the kernels' gradients frame by frame, with a small convolution in each
# step of the loop. Here the loop finds only the gradients of what enters the gates, and the kernels' follow from all
# frames at once. (Wanted on a CPU: `benchmarks/train.py`.)


def _recurrence_forward(
    inputs: Array, hidden: Array, gates_kernel: Array, candidate_kernel: Array, scan: Scan
) -> tuple[Array, tuple[Array, ...]]:
    def step(hidden: Array, inputs: Array) -> tuple[Array, tuple[Array, ...]]:
        new, parts = _gru_step(hidden, inputs, gates_kernel, candidate_kernel)
        return new, (new, *parts)

    _, (outputs, *parts) = scan(step, hidden, inputs)
    return outputs, (hidden, outputs, *parts, gates_kernel, candidate_kernel)


def _recurrence_backward(
    scan: Scan, residuals: tuple[Array, ...], cotangent: Array
) -> tuple[Array, Array, Array, Array]:
    hidden, outputs, reset, update, candidate, gates_kernel, candidate_kernel = residuals
    before = jnp.concatenate([hidden[None], outputs[:-1]])  # the memory that each step found
    dtype = gates_kernel.dtype

    def step(carried: Array, frame: tuple[Array, ...]) -> tuple[Array, Array]:
        cotangent, hidden, reset, update, candidate = frame
        total = carried + cotangent
        to_candidate = total * update * (1 - candidate * candidate)
        to_gated = input_gradient(to_candidate.astype(dtype), candidate_kernel).astype(total.dtype)
        to_reset = to_gated * hidden * reset * (1 - reset)
        to_update = total * (candidate - hidden) * update * (1 - update)
        to_gates = jnp.concatenate([to_reset, to_update], -1)
        through_gates = input_gradient(to_gates.astype(dtype), gates_kernel).astype(total.dtype)
        to_hidden = total * (1 - update) + to_gated * reset + through_gates
        return to_hidden, jnp.concatenate([to_gates, to_candidate], -1).astype(dtype)

    frames = (cotangent, before, reset, update, candidate)
    to_hidden, to_inputs = scan(step, jnp.zeros_like(hidden), frames, reverse=True)

    def all_frames(x: Array) -> Array:
        return x.reshape(-1, *x.shape[2:]).astype(dtype)

    to_gates, to_candidate = jnp.split(all_frames(to_inputs), [gates_kernel.shape[-1]], -1)
    to_gates_kernel = kernel_gradient(all_frames(before), to_gates, gates_kernel)
    to_candidate_kernel = kernel_gradient(all_frames(reset * before), to_candidate, candidate_kernel)
    return to_inputs, to_hidden, to_gates_kernel, to_candidate_kernel


_recurrence.defvjp(_recurrence_forward, _recurrence_backward)
