"""The network of tests of training."""

import pytest

from rvm_jax.model.variants import VARIANTS
from tests.train import runs


@pytest.fixture(scope="module")
def small_network():
    """Has `runs.SMALL` for "tiny", as `runs.train` has in processes of their own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(VARIANTS, "tiny", runs.SMALL)
        yield
