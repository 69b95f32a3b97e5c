"""A small network to export, and what it is compared on."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import VARIANTS
from rvm_jax.weights.files import Weights, write_weights
from tests.rvm_jax.conftest import random_variables

SIZE = (72, 128)  # of the frames that the command compares on here, and then those of 37×65
FRAMES = 3


@pytest.fixture
def few_small_frames(monkeypatch, tmp_path):
    """What the command compares on, and a folder of its own to write to."""
    monkeypatch.setattr("rvm_jax.export.export.DRAWN_SIZE", SIZE)
    monkeypatch.setattr("rvm_jax.export.export.FRAMES", FRAMES)
    monkeypatch.chdir(tmp_path)


def saved(folder: Path, variant: str, refiner: str) -> Path:
    """A file of random weights."""
    variables = random_variables(MattingNetwork(variant, refiner), jnp.float32)
    path = folder / "net.safetensors"
    write_weights(Weights(VARIANTS[variant], refiner, jax.tree.map(np.asarray, variables)), path)
    return path


@pytest.fixture(scope="session")
def deep(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("weights"), "tiny", "deep_guided_filter")
