"""Trees in one vector: nothing changes but how many arrays there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.device import optimizer
from train.device.joined import Joined, as_before, join, split

RNG = np.random.default_rng(0)
TREE = {
    "conv": {"kernel": RNG.random((3, 2, 5), np.float32), "bias": RNG.random(5, np.float32)},
    "count": np.int32(3).reshape(()),
    "none": np.zeros((0, 2), np.float32),
}


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (x.shape, x.dtype, np.asarray(x).tobytes()) == (y.shape, y.dtype, np.asarray(y).tobytes())


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_what_was_joined_is_split(kind):
    tree = jax.tree.map(kind, TREE)
    joined = join(tree)
    assert {name: vector.shape for name, vector in joined.vectors.items()} == {"float32": (35,), "int32": (1,)}
    same(joined.split(), tree)
    same(split({"a": joined, "b": tree}), {"a": tree, "b": tree})
    assert isinstance(joined.vectors["float32"], type(tree["none"]))


def test_what_was_joined_before_is_joined_again():
    again = as_before({"a": TREE, "b": TREE}, {"a": join(TREE), "b": TREE})
    same(again, {"a": join(TREE), "b": TREE})


def test_gradients_are_joined():
    def loss(tree):
        return (split(tree)["x"] ** 2).sum()

    tree = {"x": jnp.arange(3.0), "unused": jnp.ones(2)}
    found = jax.grad(loss)(join(tree))
    assert isinstance(found, Joined)
    same(found.split(), jax.grad(loss)(tree))


def test_a_step_of_adam_is_a_few_operations_for_any_number_of_tensors():
    """A root for every group that is joined, where there is one for every tensor of one that is not."""
    tree = {str(n): jnp.ones(n + 1) for n in range(9)}

    def roots(params):
        moments = optimizer.init(params)
        return jax.jit(optimizer.update).lower(params, moments, params, {"a": 0.1}).as_text().count("stablehlo.sqrt")

    assert (roots({"a": tree}), roots({"a": join(tree)})) == (9, 1)
