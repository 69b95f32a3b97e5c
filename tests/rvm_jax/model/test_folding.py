"""Folding of BatchNorm: the network without it computes the same, and says so where it cannot do the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.errors import InputError
from rvm_jax.model.folding import fold_batch_norm
from rvm_jax.model.network import MattingNetwork, variant_table
from tests.rvm_jax.conftest import random_frames, random_variables


@pytest.mark.slow
def test_a_folded_network_computes_the_same(variant):
    network = MattingNetwork(variant)
    variables = random_variables(network, jnp.float64)
    folded = fold_batch_norm(variant_table(variant), variables)
    assert list(folded) == ["params"]
    frames = random_frames(1, 3, 64, 96, 3)
    expected, found = (
        jax.jit(lambda v, x, n=n: n.apply(v, x, None, 0.5))(v, frames)
        for n, v in ((network, variables), (network.clone(folded=True), folded))
    )
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-12)


def test_a_folded_network_cannot_be_trained():
    network = MattingNetwork("tiny", folded=True)
    with pytest.raises(InputError, match="train the network that it was folded from"):
        jax.eval_shape(lambda x: network.apply({"params": {}}, x, train=True), jnp.zeros((1, 1, 32, 32, 3)))
