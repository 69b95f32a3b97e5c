"""Rematerialisation: blocks of which the backward pass keeps only what enters them, and computes the rest anew.

A block is a function of a module and of arrays, such as a method. `nn.remat` would separate the second computation from
the first by barriers, which XLA's CPU back end ignores: it finds that both are the same, and keeps the first. Here the
second computation depends, by a zero, on the gradient that it is needed for, so no back end can begin it earlier. That
was measured on a CPU alone: `benchmarks/memory.py`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax.core import lift
from flax.linen.transforms import lift_transform
from jax import Array, lax

Block = Callable[..., Any]


def remat_block(block: Block, remat: bool = True) -> Block:
    """`block`, of which only the arrays that enter it are kept; without `remat` as it is.

    Parameters keep their names, and running statistics are updated once.
    """
    return lift_transform(_lift_remat, block) if remat else block


def frame_by_frame(block: Block) -> Block:
    """The same for a block without statistics that treats every frame by itself: it runs on one after the other.

    Besides what enters and what leaves it, one frame's share is in memory at a time, in the backward pass as well.
    The arrays of four axes, `[N, H, W, C]`, come first; what follows is the same for all frames.
    """
    return lift_transform(_lift_frame_by_frame, block)


def late_scan(
    step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, frames: Any, *, reverse: bool = False
) -> tuple[Any, Any]:
    """`lax.scan`, but without memory for what it puts out before `frames` are known.

    XLA would make room for the results of all loops of a program at its start. Not to be differentiated.
    """
    count = len(jax.tree.leaves(frames)[0])

    def frame(i: Array | int) -> Any:
        return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), frames)

    def write(i: Array, carried: tuple[Any, Any]) -> tuple[Any, Any]:
        carry, results = carried
        i = count - 1 - i if reverse else i
        carry, result = step(carry, frame(i))
        return carry, jax.tree.map(lambda all, one: lax.dynamic_update_index_in_dim(all, one, i, 0), results, result)

    _, result = jax.eval_shape(step, carry, frame(0))
    zero = _zero_after(frames)
    room = jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype) + zero.astype(x.dtype), result)
    return lax.fori_loop(0, count, write, (carry, room))


def _zero_after(arrays: Any) -> Array:
    """0, which is not known before the first of `arrays` is. Nothing that is not finite is worth going on with."""
    first = jax.tree.leaves(arrays)[0]
    # Sorted, because a mere element XLA would compute along with whatever needs it, and keep the array for that.
    return 0 * jnp.sort(first.ravel()[-2:])[0]


def _lift_remat(block: Block) -> Block:
    """What flax's own transformations are made of: `pure` is `block` as a function of variables."""

    def inner(scope_of: Block, variables_of: Block, variables: Any, rngs: Any, *arrays: Array) -> Any:
        def pure(variables: Any, *arrays: Array) -> Any:
            scope = scope_of(variables, rngs)
            return block(scope, *arrays), variables_of(scope)

        return _remat(pure, variables, *arrays)

    return lift.pack(inner, (True,), (True,), (True,), name="remat")


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _remat(function: Block, variables: Any, *arrays: Array) -> Any:
    return function(variables, *arrays)


def _remat_forward(function: Block, variables: Any, *arrays: Array) -> tuple[Any, tuple[Any, ...]]:
    return function(variables, *arrays), (variables, *arrays)


def _remat_backward(function: Block, kept: tuple[Any, ...], cotangents: Any) -> tuple[Any, ...]:
    variables, *arrays = kept
    zero = _zero_after(cotangents)
    arrays = [x + zero.astype(x.dtype) for x in arrays]
    return jax.vjp(function, variables, *arrays)[1](cotangents)


_remat.defvjp(_remat_forward, _remat_backward)


def _lift_frame_by_frame(block: Block) -> Block:
    def inner(scope_of: Block, _: Block, variables: Any, rngs: Any, *arrays: Array) -> Any:
        def pure(shared: tuple[Any, list[Array]], frame: list[Array]) -> Array:
            variables, others = shared
            return block(scope_of(variables, rngs), *(x[None] for x in frame), *others)[0]

        frames = [x for x in arrays if x.ndim == 4]
        return _frame_by_frame(pure, (variables, list(arrays[len(frames) :])), frames), ()

    return lift.pack(inner, ("params",), (), (), name="frame_by_frame")


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _frame_by_frame(function: Block, shared: Any, frames: list[Array]) -> Array:
    return late_scan(lambda _, frame: (None, function(shared, frame)), None, frames)[1]


def _frame_by_frame_forward(function: Block, shared: Any, frames: list[Array]) -> tuple[Array, tuple[Any, list[Array]]]:
    return _frame_by_frame(function, shared, frames), (shared, frames)


def _frame_by_frame_backward(
    function: Block, kept: tuple[Any, list[Array]], cotangents: Array
) -> tuple[Any, list[Array]]:
    shared, frames = kept

    def step(total: Any, one: tuple[Array, list[Array]]) -> tuple[Any, list[Array]]:
        cotangent, frame = one
        of_shared, of_frame = jax.vjp(function, shared, frame)[1](cotangent)
        return jax.tree.map(jnp.add, total, of_shared), of_frame

    return late_scan(step, jax.tree.map(jnp.zeros_like, shared), (cotangents, frames))


_frame_by_frame.defvjp(_frame_by_frame_forward, _frame_by_frame_backward)
