"""Strict JAX for all tests: nothing is promoted or broadcast by accident, and there are eight CPU devices.

`RVM_TEST_PLATFORM=gpu pytest tests/reference` runs the reference tests on the accelerator that JAX has (gpu or tpu).
"""

import gc
import os
import sys
from pathlib import Path

# Tracing programs makes millions of objects, and no garbage: as in the commands.
gc.set_threshold(100_000, 20, 20)
PLATFORM = os.environ.get("RVM_TEST_PLATFORM") or "cpu"
if PLATFORM == "cpu":
    os.environ["XLA_FLAGS"] = " ".join(
        [
            "--xla_force_host_platform_device_count=8",
            # Most of a test's time is compiling. `tests/reference` compiles as users do.
            "--xla_backend_optimization_level=0",
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

if PLATFORM == "cpu":
    jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def pytest_configure():
    if PLATFORM != "cpu" and (found := jax.default_backend()) != PLATFORM:
        raise pytest.UsageError(
            f"RVM_TEST_PLATFORM is {PLATFORM!r}, but JAX finds no more than {found!r} here: give cpu, or gpu or tpu on "
            "a machine that has one, with a JAX that supports it"
        )


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)


@pytest.fixture(scope="module", autouse=True)
def _programs_of_a_module():
    """Programs are kept for the tests of a module; all modules' together would take several GB."""
    yield
    jax.clear_caches()
    if "train.device.programs" in sys.modules:
        sys.modules["train.device.programs"]._COMPILED.clear()
