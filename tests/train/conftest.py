"""The network of tests of training."""

import pytest

from rvm_jax.model.variants import VARIANTS
from tests.train import runs


@pytest.fixture(scope="module")
def small_network():
    """ "tiny" is `runs.SMALL`, as it is in processes of the tests."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(VARIANTS, "tiny", runs.SMALL)
        yield
