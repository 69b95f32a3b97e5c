"""LR-ASPP, the recurrent decoder and its ConvGRU.

Arrays here are batch-major, so that a batch sharded over devices stays where it is: `[B, T, h, w, C]` where time
matters, `[B·T, h, w, C]` where it does not. Everything without memory runs on all frames at once; the only thing that
is carried over time is the memory of `conv_gru`.
"""

from collections.abc import Callable
from functools import partial
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

# On GPUs, in training: up to how many steps of a GRU are one of its loop (`benchmarks/ahead.py` counts the kernels).
MOST_AT_ONCE = 5


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
        value = self.norm(name="value_norm")(self.conv(self.features, name="value_conv")(x), nn.relu)
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
            x = decoder.conv(d0, 3, cells=True, name="conv0b")(x)
            return decoder.norm(cells=True, name="norm0b")(x, nn.relu)

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
            return decoder.norm(cells=scale == "0", name=f"norm{scale}")(x, nn.relu)

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


@jax.custom_vjp
def _recurrence(inputs: Array, hidden: Array, gates_kernel: Array, candidate_kernel: Array) -> tuple[Array, Array]:
    """The part of a ConvGRU that needs its memory, over `inputs` `[B, T, h, w, 3C]`: outputs, and the last memory."""

    def step(carried: tuple[Array, Array, Array], i: Array) -> tuple[tuple[Array, Array, Array], None]:
        hidden, rounded, outputs = carried
        hidden, _ = _gru_step(hidden, rounded, _frame(inputs, i), gates_kernel, candidate_kernel)
        rounded = hidden.astype(inputs.dtype)
        return (hidden, rounded, _with_frames(outputs, [rounded], i)), None

    rounded = hidden.astype(inputs.dtype)
    outputs = lax.empty((*inputs.shape[:-1], hidden.shape[-1]), inputs.dtype)
    (last, _, outputs), _ = lax.scan(step, (hidden, rounded, outputs), jnp.arange(inputs.shape[1]))
    return outputs, last


def _gru_step(
    hidden: Array, rounded: Array, inputs: Array, gates_kernel: Array, candidate_kernel: Array
) -> tuple[Array, tuple[Array, Array]]:
    """The next memory `[B, h, w, C]`, in its dtype, and with the inputs' both gates `[B, h, w, 2C]` and the candidate.

    `rounded` is the memory in the dtype of the inputs.
    """
    gates_input, candidate_input = jnp.split(inputs.astype(hidden.dtype), [gates_kernel.shape[-1]], -1)
    gates = nn.sigmoid(gates_input + conv2d(rounded, gates_kernel).astype(hidden.dtype))
    reset, update = jnp.split(gates, 2, -1)
    candidate = conv2d((reset * hidden).astype(inputs.dtype), candidate_kernel).astype(hidden.dtype)
    candidate = nn.tanh(candidate_input + candidate)
    parts = gates.astype(inputs.dtype), candidate.astype(inputs.dtype)
    return (1 - update) * hidden + update * candidate, parts


def _frame(x: Array, i: Array, first: int = 0) -> Array:
    """Frame i of `[B, T, h, w, C]`, its channels from the `first` on."""
    batch, _, *size, channels = x.shape
    return lax.dynamic_slice(x, (0, i, 0, 0, first), (batch, 1, *size, channels - first))[:, 0]


def _with_frames(x: Array, frames: list[Array], start: Array | int) -> Array:
    """`[B, T, ...]` with other frames from `start` on."""
    return lax.dynamic_update_slice_in_dim(x, jnp.stack(frames, 1), start, 1)


# Differentiating the scan itself would add up the kernels' gradients frame by frame, with a small convolution in each
# step of the loop. Here the loop finds only the gradients of what enters the gates, and the kernels' follow from all
# frames at once. (Wanted on a CPU: `benchmarks/train.py`.)


def _recurrence_forward(
    inputs: Array, hidden: Array, gates_kernel: Array, candidate_kernel: Array
) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    """Keeps `[B, 1 + T, h, w, 4C]`: each step's gates, candidate and new memory, and first the memory alone."""
    (batch, steps, *size, _), dtype = inputs.shape, inputs.dtype

    def loop(at_once: int, inputs: Array, hidden: Array, *kernels: Array) -> tuple[Array, Array]:
        def some_steps(carried: tuple[Array, Array, Array], i: Array) -> tuple[tuple[Array, Array, Array], None]:
            hidden, rounded, record = carried
            lines = []
            for j in range(at_once):
                frame = _frame(inputs, i * at_once + j)
                hidden, (gates, candidate) = _gru_step(hidden, rounded, frame, *kernels)
                rounded, candidate = lax.optimization_barrier((hidden.astype(dtype), candidate))
                lines.append(jnp.concatenate([gates, candidate, rounded], -1))
            return (hidden, rounded, _with_frames(record, lines, i * at_once + 1)), None

        rounded = hidden.astype(dtype)
        record = lax.empty((batch, 1 + steps, *size, 4 * hidden.shape[-1]), dtype)
        record = _with_frames(record, [jnp.concatenate([rounded] * 4, -1)], 0)
        (last, _, record), _ = lax.scan(some_steps, (hidden, rounded, record), jnp.arange(steps // at_once))
        return last, record

    last, record = _by_steps_at_once(loop, steps, inputs, hidden, gates_kernel, candidate_kernel)
    return (_memories(record)[:, 1:], last), (record, gates_kernel, candidate_kernel)


def _memories(record: Array) -> Array:
    return record[..., record.shape[-1] // 4 * 3 :]


def _recurrence_backward(
    residuals: tuple[Array, ...], cotangents: tuple[Array, Array]
) -> tuple[Array, Array, Array, Array]:
    record, gates_kernel, candidate_kernel = residuals
    channels, dtype = record.shape[-1] // 4, record.dtype
    of_outputs, of_last = cotangents
    steps = of_outputs.shape[1]

    def loop(at_once: int, record: Array, of_outputs: Array, of_last: Array, *kernels: Array) -> tuple[Array, Array]:
        def some_steps(carried: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
            to_hidden, to_inputs = carried
            lines: list[Array] = []
            for j in reversed(range(at_once)):
                one = i * at_once + j
                total = to_hidden + _frame(of_outputs, one).astype(to_hidden.dtype)
                to_hidden, line = _gru_step_backward(
                    total, _frame(record, one + 1), _frame(record, one, 3 * channels), *kernels
                )
                lines.insert(0, line)
            return (to_hidden, _with_frames(to_inputs, lines, i * at_once)), None

        to_inputs = lax.empty((*of_outputs.shape[:-1], 3 * channels), dtype)
        chunks = jnp.arange(steps // at_once)
        (to_hidden, to_inputs), _ = lax.scan(some_steps, (of_last, to_inputs), chunks, reverse=True)
        return to_hidden, to_inputs

    to_hidden, to_inputs = _by_steps_at_once(loop, steps, record, of_outputs, of_last, gates_kernel, candidate_kernel)

    def all_frames(x: Array) -> Array:
        return x.reshape(-1, *x.shape[2:])

    def apart(before: Array, gated: Array, to_inputs: Array) -> tuple[Array, Array]:
        to_gates, to_candidate = jnp.split(to_inputs, [2 * channels], -1)
        return kernel_gradient(before, to_gates, gates_kernel), kernel_gradient(gated, to_candidate, candidate_kernel)

    def together(before: Array, gated: Array, to_inputs: Array) -> tuple[Array, Array]:
        """Accelerators would write the two parts of `to_inputs` first. Two blocks of the gradient mean nothing."""
        kernel = jax.ShapeDtypeStruct((3, 3, 2 * channels, 3 * channels), dtype)
        gradient = kernel_gradient(jnp.concatenate([before, gated], -1), to_inputs, kernel)
        return gradient[:, :, :channels, : 2 * channels], gradient[:, :, channels:, 2 * channels :]

    before = _memories(record)[:, :-1]
    arrays = [all_frames(x) for x in (before, record[:, 1:, ..., :channels] * before, to_inputs)]
    return to_inputs, to_hidden, *by_platform(*arrays, cpu=apart, default=together)


def _gru_step_backward(
    total: Array, kept: Array, before: Array, gates_kernel: Array, candidate_kernel: Array
) -> tuple[Array, Array]:
    """The gradients of the memory that a step found, and of its inputs `[B, h, w, 3C]`.

    `total` is the gradient of the memory that it left, `kept` what it left in the record, `before` the memory that it
    found, both rounded.
    """
    exact, dtype = total.dtype, kept.dtype
    reset, update, candidate, _ = jnp.split(kept.astype(exact), 4, -1)
    hidden = before.astype(exact)
    to_candidate = (total * update * (1 - candidate * candidate)).astype(dtype)
    to_gated = input_gradient(to_candidate, candidate_kernel).astype(exact)
    to_reset = to_gated * hidden * reset * (1 - reset)
    to_update = total * (candidate - hidden) * update * (1 - update)
    to_gates = jnp.concatenate([to_reset, to_update], -1).astype(dtype)
    to_gates, to_candidate = lax.optimization_barrier((to_gates, to_candidate))
    through_gates = input_gradient(to_gates, gates_kernel).astype(exact)
    to_hidden = total * (1 - update) + to_gated * reset + through_gates
    return to_hidden, jnp.concatenate([to_gates, to_candidate], -1)


def _by_steps_at_once(loop: Callable[..., Any], steps: int, *arrays: Array) -> Any:
    """`loop`, which takes so many steps at once: on GPUs several, as its counter and its updates are kernels too."""
    at_once = max(n for n in range(1, MOST_AT_ONCE + 1) if steps % n == 0)
    if at_once == 1:  # nothing to trace twice
        return loop(1, *arrays)
    return by_platform(*arrays, cuda=partial(loop, at_once), default=partial(loop, 1))


_recurrence.defvjp(_recurrence_forward, _recurrence_backward)
