"""Rematerialisation: blocks of which the backward pass keeps only what enters them, and computes the rest anew.

A block is a function of a module and of arrays, such as a method. `nn.remat` separates the second computation from the
first by barriers, which XLA's CPU back end ignores: it finds that both are the same, and keeps the first. On a CPU the
second computation therefore depends, by a zero, on the gradient that it is needed for, so that it cannot begin earlier:
`benchmarks/memory.py`. On GPUs and TPUs there are barriers, as with `nn.remat`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax.core import lift
from flax.linen.transforms import lift_transform
from jax import Array, lax

from rvm_jax.model.platforms import by_platform

Block = Callable[..., Any]


def remat_block(block: Block, remat: bool = True) -> Block:
    """`block`, of which only the arrays that enter it are kept; without `remat` as it is.

    Parameters keep their names, and running statistics are updated once.
    """
    return lift_transform(_lift_remat, block) if remat else block


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

    def after_a_zero(arrays: list[Array], cotangents: Any) -> tuple[list[Array], Any]:
        zero = _zero_after(cotangents)
        return [x + zero.astype(x.dtype) for x in arrays], cotangents

    def after_a_barrier(arrays: list[Array], cotangents: Any) -> tuple[list[Array], Any]:
        return lax.optimization_barrier((arrays, cotangents))

    arrays, cotangents = by_platform(arrays, cotangents, cpu=after_a_zero, default=after_a_barrier)
    return jax.vjp(function, variables, *arrays)[1](cotangents)


_remat.defvjp(_remat_forward, _remat_backward)
