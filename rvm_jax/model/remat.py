"""Rematerialisation: blocks of which the backward pass keeps only what enters them, and computes the rest anew.

A block is a function of a module and of arrays, such as a method. `nn.remat` separates the second computation from the
first by barriers, which XLA's CPU back end ignores: it finds that both are the same, and keeps the first. On a CPU the
second computation therefore depends, by a zero, on the gradient that it is needed for, so that it cannot begin earlier:
`benchmarks/memory.py`. On GPUs and TPUs there are barriers.
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


def scan_frames(
    step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, frames: Any, *, reverse: bool = False
) -> tuple[Any, Any]:
    """`lax.scan` along the second axis of `frames`, `[B, T, ...]`; so are the results. Not to be differentiated.

    Without memory for the results before `frames` are known: XLA's CPU back end would make room for those of all loops
    of a program at its start.
    """
    count = jax.tree.leaves(frames)[0].shape[1]

    def frame(i: Array | int) -> Any:
        return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, 1, keepdims=False), frames)

    def write(carried: tuple[Any, Any], i: Array) -> tuple[tuple[Any, Any], None]:
        carry, results = carried
        carry, result = step(carry, frame(i))
        return (
            carry,
            jax.tree.map(lambda all, one: lax.dynamic_update_index_in_dim(all, one, i, 1), results, result),
        ), None

    _, result = jax.eval_shape(step, carry, frame(0))
    room = jax.tree.map(lambda x: jnp.zeros((x.shape[0], count, *x.shape[1:]), x.dtype), result)
    room = _after(frames, room)
    return lax.scan(write, (carry, room), jnp.arange(count), reverse=reverse)[0]


def _after(first: Any, arrays: Any) -> Any:
    """`arrays`, which are not known before `first` is. Nothing that is not finite is worth going on with."""

    def by_a_zero(first: Any, arrays: Any) -> Any:
        # Sorted, because a mere element XLA would compute along with whatever needs it, and keep the array for that.
        zero = 0 * jnp.sort(jax.tree.leaves(first)[0].ravel()[-2:])[0]
        return jax.tree.map(lambda x: x + zero.astype(x.dtype), arrays)

    def by_a_barrier(first: Any, arrays: Any) -> Any:
        return lax.optimization_barrier((first, arrays))[1]

    return lax.platform_dependent(first, arrays, cpu=by_a_zero, default=by_a_barrier)


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
    return jax.vjp(function, variables, *_after(cotangents, arrays))[1](cotangents)


_remat.defvjp(_remat_forward, _remat_backward)
