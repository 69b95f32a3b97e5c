"""LR-ASPP, the recurrent decoder and its ConvGRU.

Arrays here are batch-major, so that a batch sharded over devices stays where it is: `[B, T, h, w, C]` where time
matters, `[B·T, h, w, C]` where it does not. Everything without memory runs on all frames at once; the only thing that
is carried over time is the memory of `conv_gru`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from rvm_jax.model.convolution import conv2d, input_gradient, kernel_gradient, per_channel
from rvm_jax.model.layers import kernel_init
from rvm_jax.model.platforms import by_platform
from rvm_jax.model.remat import remat_block
from rvm_jax.model.resize import halve


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

    With `remat`, every block is computed twice in training.
    """

    features: tuple[int, int, int, int]
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    remat: bool = False

    @nn.compact
    def __call__(
        self, frames: Array, f1: Array, f2: Array, f3: Array, bottom: Array, state: State
    ) -> tuple[Array, State]:
        """`frames` `[N, H, W, 3]`, N = B·T, features at 1/2, 1/4, 1/8, 1/16 → hidden `[N, H, W, d0]`, new state."""
        s1 = halve(frames)
        s2 = halve(s1)
        s3 = halve(s2)
        d3, d2, d1, d0 = self.features

        def last(decoder: Decoder, x: Array) -> Array:
            return nn.relu(decoder.norm(name="norm0b")(decoder.conv(d0, 3, name="conv0b")(x)))

        recur = remat_block(RecurrentHalf.__call__, self.remat)
        x, r4 = recur(RecurrentHalf(name="gru4"), bottom, state.r4)
        x = self._merge("3", d3, x, f3, s3)
        x, r3 = recur(RecurrentHalf(name="gru3"), x, state.r3)
        x = self._merge("2", d2, x, f2, s2)
        x, r2 = recur(RecurrentHalf(name="gru2"), x, state.r2)
        x = self._merge("1", d1, x, f1, s1)
        x, r1 = recur(RecurrentHalf(name="gru1"), x, state.r1)
        x = self._merge("0", d0, x, frames)
        x = remat_block(last, self.remat)(self, x)
        return x, State(r1, r2, r3, r4)

    def _merge(self, scale: str, features: int, x: Array, *others: Array) -> Array:
        """Up-sample x to the size of the others, concatenate all, convolve."""

        def block(decoder: Decoder, x: Array, *others: Array) -> Array:
            x = decoder.conv(features, 3, name=f"conv{scale}")(x, *others)
            return nn.relu(decoder.norm(name=f"norm{scale}")(x))

        return remat_block(block, self.remat)(self, x, *others)


class RecurrentHalf(nn.Module):
    """A ConvGRU on the second half of the channels; the first half passes by."""

    @nn.compact
    def __call__(self, x: Array, hidden: Array) -> tuple[Array, Array]:
        """`[B·T, h, w, 2C]` and state `[B, h, w, C]` → the same shapes."""
        stateless, recurrent = jnp.split(x, 2, -1)
        channels = recurrent.shape[-1]
        weights = GRUWeights(
            self.param("gates_kernel", kernel_init, (3, 3, 2 * channels, 2 * channels)),
            self.param("gates_bias", nn.initializers.zeros, (2 * channels,)),
            self.param("candidate_kernel", kernel_init, (3, 3, 2 * channels, channels)),
            self.param("candidate_bias", nn.initializers.zeros, (channels,)),
        )
        batch, *size = hidden.shape
        recurrent, hidden = conv_gru(recurrent.reshape(batch, -1, *size), hidden, weights)  # [B, T, h, w, C]
        return jnp.concatenate([stateless, recurrent.reshape(stateless.shape)], -1), hidden


class GRUWeights(NamedTuple):
    """Kernels `[3, 3, 2C, 2C]` (reset, then update gate) and `[3, 3, 2C, C]`; their inputs are x, then the memory."""

    gates_kernel: Array
    gates_bias: Array
    candidate_kernel: Array
    candidate_bias: Array


def conv_gru(x: Array, hidden: Array, weights: GRUWeights) -> tuple[Array, Array]:
    """Run a ConvGRU over `x` `[B, T, h, w, C]` from `hidden` `[B, h, w, C]`: all outputs, and the last memory.

    A convolution over `[x, h]` is the sum of one over x and one over h, so the half that does not depend on the memory
    is computed for all frames before the scan. Convolutions run in the dtype of `x`, and the outputs have it; the
    memory keeps its own.
    """
    batch, steps, height, width, channels = x.shape
    gates_kernel, gates_bias, candidate_kernel, candidate_bias = (w.astype(x.dtype) for w in weights)
    input_kernel = jnp.concatenate([gates_kernel[:, :, :channels], candidate_kernel[:, :, :channels]], -1)
    input_bias = jnp.concatenate([gates_bias, candidate_bias])
    inputs = conv2d(x.reshape(-1, height, width, channels), input_kernel) + per_channel(input_bias)
    inputs = inputs.reshape(batch, steps, height, width, 3 * channels)
    return _recurrence(inputs, hidden, gates_kernel[:, :, channels:], candidate_kernel[:, :, channels:])


def scan_frames(
    step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, frames: Any, *, reverse: bool = False
) -> tuple[Any, Any]:
    """`lax.scan` along the second axis of `frames`, `[B, T, ...]`; so are the results. Not to be differentiated."""
    count = jax.tree.leaves(frames)[0].shape[1]

    def frame(i: Array | int) -> Any:
        return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, 1, keepdims=False), frames)

    def write(carried: tuple[Any, Any], i: Array) -> tuple[tuple[Any, Any], None]:
        carry, results = carried
        carry, result = step(carry, frame(i))
        results = jax.tree.map(lambda all, one: lax.dynamic_update_index_in_dim(all, one, i, 1), results, result)
        return (carry, results), None

    _, result = jax.eval_shape(step, carry, frame(0))
    room = jax.tree.map(lambda x: jnp.zeros((x.shape[0], count, *x.shape[1:]), x.dtype), result)
    return lax.scan(write, (carry, room), jnp.arange(count), reverse=reverse)[0]


@jax.custom_vjp
def _recurrence(inputs: Array, hidden: Array, gates_kernel: Array, candidate_kernel: Array) -> tuple[Array, Array]:
    """The part of a ConvGRU that needs its memory, over `inputs` `[B, T, h, w, 3C]`: outputs, and the last memory."""

    def step(hidden: Array, inputs: Array) -> tuple[Array, Array]:
        hidden, _ = _gru_step(hidden, inputs, gates_kernel, candidate_kernel)
        return hidden, hidden.astype(inputs.dtype)

    last, outputs = scan_frames(step, hidden, inputs)
    return outputs, last


def _gru_step(hidden: Array, inputs: Array, gates_kernel: Array, candidate_kernel: Array) -> tuple[Array, Array]:
    """The next memory `[B, h, w, C]`, in its dtype, and reset gate, update gate and candidate `[B, h, w, 3C]`."""
    gates_input, candidate_input = jnp.split(inputs.astype(hidden.dtype), [gates_kernel.shape[-1]], -1)
    gates = nn.sigmoid(gates_input + conv2d(hidden.astype(inputs.dtype), gates_kernel).astype(hidden.dtype))
    reset, update = jnp.split(gates, 2, -1)
    candidate = conv2d((reset * hidden).astype(inputs.dtype), candidate_kernel).astype(hidden.dtype)
    candidate = nn.tanh(candidate_input + candidate)
    parts = jnp.concatenate([gates, candidate], -1).astype(inputs.dtype)
    return (1 - update) * hidden + update * candidate, parts


# Differentiating the scan itself would add up the kernels' gradients frame by frame, with a small convolution in each
# step of the loop. Here the loop finds only the gradients of what enters the gates, and the kernels' follow from all
# frames at once. (Wanted on a CPU: `benchmarks/train.py`.)


def _recurrence_forward(
    inputs: Array, hidden: Array, gates_kernel: Array, candidate_kernel: Array
) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    def step(hidden: Array, inputs: Array) -> tuple[Array, tuple[Array, Array]]:
        new, parts = _gru_step(hidden, inputs, gates_kernel, candidate_kernel)
        return new, (hidden, parts)

    last, (before, parts) = scan_frames(step, hidden, inputs)
    # What the backward pass wants of each step is the memory that it found: the next step's is what it left.
    outputs = jnp.concatenate([before[:, 1:], last[:, None]], 1).astype(inputs.dtype)
    return (outputs, last), (before, parts, gates_kernel, candidate_kernel)


def _recurrence_backward(
    residuals: tuple[Array, ...], cotangents: tuple[Array, Array]
) -> tuple[Array, Array, Array, Array]:
    before, parts, gates_kernel, candidate_kernel = residuals
    channels, dtype = before.shape[-1], gates_kernel.dtype

    def step(carried: Array, frame: tuple[Array, ...]) -> tuple[Array, Array]:
        cotangent, hidden, parts = frame
        reset, update, candidate = jnp.split(parts.astype(hidden.dtype), 3, -1)
        total = carried + cotangent.astype(hidden.dtype)
        to_candidate = (total * update * (1 - candidate * candidate)).astype(dtype)
        to_gated = input_gradient(to_candidate, candidate_kernel).astype(hidden.dtype)
        to_reset = to_gated * hidden * reset * (1 - reset)
        to_update = total * (candidate - hidden) * update * (1 - update)
        to_gates = jnp.concatenate([to_reset, to_update], -1).astype(dtype)
        through_gates = input_gradient(to_gates, gates_kernel).astype(hidden.dtype)
        to_hidden = total * (1 - update) + to_gated * reset + through_gates
        return to_hidden, jnp.concatenate([to_gates, to_candidate], -1)

    of_outputs, of_last = cotangents
    to_hidden, to_inputs = scan_frames(step, of_last, (of_outputs, before, parts), reverse=True)

    def all_frames(x: Array) -> Array:
        return x.reshape(-1, *x.shape[2:]).astype(dtype)

    def apart(before: Array, gated: Array, to_inputs: Array) -> tuple[Array, Array]:
        to_gates, to_candidate = jnp.split(to_inputs, [2 * channels], -1)
        return kernel_gradient(before, to_gates, gates_kernel), kernel_gradient(gated, to_candidate, candidate_kernel)

    def together(before: Array, gated: Array, to_inputs: Array) -> tuple[Array, Array]:
        """Accelerators would write the two parts of `to_inputs` first. Two blocks of the gradient mean nothing."""
        kernel = jax.ShapeDtypeStruct((3, 3, 2 * channels, 3 * channels), dtype)
        gradient = kernel_gradient(jnp.concatenate([before, gated], -1), to_inputs, kernel)
        return gradient[:, :, :channels, : 2 * channels], gradient[:, :, channels:, 2 * channels :]

    gated = parts[..., :channels].astype(before.dtype) * before
    arrays = [all_frames(x) for x in (before, gated, to_inputs)]
    return to_inputs, to_hidden, *by_platform(*arrays, cpu=apart, default=together)


_recurrence.defvjp(_recurrence_forward, _recurrence_backward)
