"""What a run starts from: random weights, those of an encoder, or a whole network's."""

import jax
import numpy as np
import pytest

from rvm_jax import weights
from rvm_jax.errors import InputError
from rvm_jax.network import MattingNetwork
from train.start import start


@pytest.fixture(scope="module")
def states():
    """From two seeds."""
    return [start(MattingNetwork("tiny"), seed, None) for seed in (1, 2)]


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


def save(state, path, refiner="deep_guided_filter"):
    weights.write(weights.Weights("tiny", refiner, {"params": state.params, "batch_stats": state.batch_stats}), path)
    return path


def test_the_seed_decides(states):
    assert same(states[0], start(MattingNetwork("tiny"), 1, None))
    assert not same(states[0].params["encoder"], states[1].params["encoder"])
    assert states[0].params["project_mat"]["bias"][3] == 0.5


def test_a_whole_network(states, tmp_path):
    begun = start(MattingNetwork("tiny"), 2, save(states[0], tmp_path / "whole.pth"))
    assert same(begun.params, states[0].params)
    assert same(begun.batch_stats, states[0].batch_stats)
    assert all(moments.count == 0 for moments in begun.moments.values())


def test_an_encoder(states, tmp_path):
    encoder = {
        "params": {"encoder": states[0].params["encoder"]},
        "batch_stats": {"encoder": states[0].batch_stats["encoder"]},
    }
    weights.write(weights.Weights("tiny", None, encoder), tmp_path / "encoder")
    begun = start(MattingNetwork("tiny"), 2, tmp_path / "encoder")
    assert same(begun.params["encoder"], states[0].params["encoder"])
    assert same(begun.batch_stats["encoder"], states[0].batch_stats["encoder"])
    assert same(begun.params["decoder"], states[1].params["decoder"])


def test_another_variant(states, tmp_path):
    path = save(states[0], tmp_path / "tiny.pth")
    with pytest.raises(InputError, match=r"tiny.pth holds a tiny: give weights of a mobilenetv3"):
        start(MattingNetwork("mobilenetv3"), 0, path)
