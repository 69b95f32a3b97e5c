"""On an accelerator: float32 products in full, and float64 where the platform has it (`RVM_TEST_PLATFORM`)."""

import jax
import jax.numpy as jnp
import pytest


@pytest.fixture(scope="session", autouse=True)
def _full_precision():
    """The references were computed in float32 and float64, not in TF32 or bfloat16. A CPU has no other precision."""
    before = jax.config.jax_default_matmul_precision
    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", "highest")
    yield
    jax.config.update("jax_default_matmul_precision", before)


@pytest.fixture(scope="session")
def float64():
    if jax.default_backend() == "tpu":
        pytest.skip("TPUs have no float64")


@pytest.fixture(autouse=True)
def _float64_if_asked_for(request):
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if "dtype" in parameters and jnp.dtype(parameters["dtype"]) == jnp.float64:
        request.getfixturevalue("float64")
