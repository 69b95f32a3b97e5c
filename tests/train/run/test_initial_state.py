"""What a run starts from: random weights, those of an encoder, or a whole network's."""

import jax
import numpy as np
import pytest

from rvm_jax.errors import InputError
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS
from rvm_jax.weights.files import Weights, write_weights
from rvm_jax.weights.provenance import Provenance, TrainingSet
from train.run.initial_state import initial_state, read_initial

TINY = MattingNetwork("tiny")


def begin(path):
    """With what the file holds, in place of random weights of another seed."""
    return initial_state(TINY, 2, read_initial(TINY, path))


@pytest.fixture(scope="module")
def states():
    """From two seeds."""
    return [initial_state(TINY, seed) for seed in (1, 2)]


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


def save(state, path, provenance=None):
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    write_weights(Weights(VARIANTS["tiny"], "deep_guided_filter", variables, provenance), path)
    return path


def test_the_seed_decides(states):
    assert same(states[0], initial_state(TINY, 1))
    assert not same(states[0].params["encoder"], states[1].params["encoder"])
    assert states[0].params["project_mat"]["bias"][3] == 0.5


def test_a_whole_network(states, tmp_path):
    begun = begin(save(states[0], tmp_path / "whole.safetensors"))
    assert same(begun.params, states[0].params)
    assert same(begun.batch_stats, states[0].batch_stats)
    assert all(moments.count == 0 for moments in begun.moments.values())


def test_what_it_was_trained_on_comes_along(states, tmp_path):
    told = Provenance((TrainingSet("people", "1.0.0", "CC0-1.0", "", "yes", ""),), "clean", "random weights")
    assert read_initial(TINY, save(states[0], tmp_path / "told.safetensors", told)).provenance == told
    assert read_initial(TINY, save(states[0], tmp_path / "silent.safetensors")).provenance is None


def test_weights_of_another_type_are_trained_in_our_own(states, tmp_path):
    half = jax.tree.map(lambda x: x.astype(np.float16), states[0])
    begun = begin(save(half, tmp_path / "half.safetensors"))
    assert same(begun.params, jax.tree.map(lambda x, like: x.astype(like.dtype), half.params, states[0].params))
    assert jax.tree.map(lambda x: x.dtype, begun) == jax.tree.map(lambda x: x.dtype, states[0])


def test_an_encoder(states, tmp_path):
    encoder = {
        "params": {"encoder": states[0].params["encoder"]},
        "batch_stats": {"encoder": states[0].batch_stats["encoder"]},
    }
    write_weights(Weights(VARIANTS["tiny"], None, encoder), tmp_path / "encoder")
    begun = begin(tmp_path / "encoder")
    assert same(begun.params["encoder"], states[0].params["encoder"])
    assert same(begun.batch_stats["encoder"], states[0].batch_stats["encoder"])
    assert same(begun.params["decoder"], states[1].params["decoder"])


def test_another_variant(states, tmp_path):
    path = save(states[0], tmp_path / "tiny.safetensors")
    with pytest.raises(InputError, match=r"tiny.safetensors holds a tiny: give weights of a mobilenetv3"):
        read_initial(MattingNetwork("mobilenetv3"), path)


def test_weights_for_matting_alone(states, tmp_path):
    """As those of released `.onnx` files are: nothing that was folded should be trained on."""
    zero = jax.tree.map(np.zeros_like, states[0].params["project_seg"])
    folded = states[0]._replace(params={**states[0].params, "project_seg": zero})
    path = save(folded, tmp_path / "folded.safetensors")
    with pytest.raises(
        InputError, match=r"folded\.safetensors is for matting alone: its head for segmentation is zero"
    ):
        read_initial(TINY, path)
