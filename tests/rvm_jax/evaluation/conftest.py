"""A network as a command takes it, and a test set of three clips."""

from pathlib import Path

import pytest

from tests.rvm_jax.conftest import write_tiny
from tests.rvm_jax.evaluation.testsets import write_clip


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> str:
    return str(write_tiny(tmp_path_factory.mktemp("weights")))


@pytest.fixture
def testset(tmp_path) -> Path:
    folder = tmp_path / "set"
    for number, name in enumerate(("aim_static/0000", "aim_static/0001", "aim_motion/0000")):
        write_clip(folder / name, number)
    return folder
