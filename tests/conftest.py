"""Strict JAX for all tests: nothing is promoted or broadcast by accident, and there are eight CPU devices.

`RVM_TEST_PLATFORM=gpu pytest tests/reference` runs the reference tests on the accelerator that JAX has (gpu or tpu).
"""

import gc
import os
import sys
from pathlib import Path

from tests.compiling import QUICKLY

# Tracing programs makes millions of objects, and no garbage: as in the commands.
gc.set_threshold(100_000, 20, 20)
PLATFORM = os.environ.get("RVM_TEST_PLATFORM") or "cpu"
if PLATFORM == "cpu":
    os.environ["XLA_FLAGS"] = " ".join(
        [
            "--xla_force_host_platform_device_count=8",
            QUICKLY,
            # On a busy machine, eight devices on two cores can be far apart; XLA would end the process after 40
            # seconds.
            "--xla_cpu_collective_call_terminate_timeout_seconds=600",
            os.environ.get("XLA_FLAGS", ""),
        ]
    )
# The size of XLA's thread pool. With fewer threads than devices, those that wait in a collective can hold all threads,
# and the devices they wait for never come (seen on two cores, once in eight runs).
os.environ.setdefault("NPROC", "16")

import jax  # noqa: E402
import pytest  # noqa: E402

from rvm_jax.model.platforms import tracing_for  # noqa: E402

if PLATFORM == "cpu":
    jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


_traced_for = "every"


def pytest_configure():
    if PLATFORM != "cpu" and (found := jax.default_backend()) != PLATFORM:
        raise pytest.UsageError(
            f"RVM_TEST_PLATFORM is {PLATFORM!r}, but JAX finds no more than {found!r} here: give cpu, or gpu or tpu on "
            "a machine that has one, with a JAX that supports it"
        )


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)


@pytest.fixture(autouse=True)
def _one_platform(request):
    """The forms of other platforms are traced for tests with a `platform`, or marked so: it takes twice the time."""
    global _traced_for
    every = "platform" in request.fixturenames or request.node.get_closest_marker("platforms")
    platform = "every" if every else PLATFORM
    if platform != _traced_for:
        jax.clear_caches()  # of loops, say, which JAX keeps as they were traced
        _traced_for = platform
    with tracing_for(platform):
        yield


@pytest.fixture(scope="module", autouse=True)
def _programs_of_a_module():
    """Programs are kept for the tests of a module; all modules' together would take several GB."""
    yield
    jax.clear_caches()
    if "train.device.programs" in sys.modules:
        sys.modules["train.device.programs"]._COMPILED.clear()
