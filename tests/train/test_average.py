"""A run by all that the published recipe does not ask for."""

import signal
from dataclasses import replace

import jax
import numpy as np
import pytest

from rvm_jax.errors import Stopped
from rvm_jax.model.network import MattingNetwork
from rvm_jax.weights.files import read_weights
from tests.data_pipelines import conftest
from tests.train import runs
from tests.train.test_loop import stop_with
from train import loop
from train.device import optimizer, step
from train.run.checkpoint import Checkpoints
from train.run.initial_state import initial_state

prepared = conftest.prepared
RECIPE = replace(
    runs.RECIPE,
    stages=(
        replace(runs.LOW, samples=16, iterations=None),
        replace(runs.LOW, iterations=1),
        *[replace(runs.LOW, iterations=0)] * 2,
    ),
    optimizer="lamb",
    weight_decay=0.1,
    clip_norm=0.5,
    ema=0.9,
    schedule="cosine",
)


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_it_goes_on_bit_for_bit_and_leaves_the_average(prepared, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    loop.train(RECIPE, runs.options(whole, prepared))
    with monkeypatch.context() as patched:
        stop_with(patched, signal.SIGTERM, 0)
        with pytest.raises(Stopped):
            loop.train(RECIPE, runs.options(stopped, prepared))
    loop.train(RECIPE, runs.options(stopped, prepared))
    assert runs.recorded(stopped) == (lines := runs.recorded(whole))
    assert [line["learning_rate/encoder"] for line in lines if "stage" in line] == [1e-3, 5e-4, 1e-3]
    like = step.with_average(initial_state(MattingNetwork("tiny"), 0), optimizer.of_recipe(RECIPE))
    (done, state), (_, other) = (restore(out, like) for out in (whole, stopped))
    jax.tree.map(np.testing.assert_array_equal, state, other)
    assert (done, state.average.steps) == (3, 6)
    jax.tree.map(np.testing.assert_array_equal, read_weights(whole / "weights").variables, state.variables)
    pairs = zip(*map(jax.tree.leaves, (state.params, state.average.params)), strict=True)
    assert any((trained != average).any() for trained, average in pairs)


def restore(out, like):
    with Checkpoints(out / "checkpoints", keep=3) as checkpoints:
        return checkpoints.restore(like)
