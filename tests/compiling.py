"""How tests compile: quickly, as most of their time is compiling.

The float32 references of `tests/reference` compile as users do.
"""

from importlib.metadata import version
from typing import Any

QUICKLY = "--xla_backend_optimization_level=0"
AS_USERS_DO: dict[str, Any] = {"xla_backend_optimization_level": 3}
if tuple(map(int, version("jax").split(".")[:2])) <= (0, 10):
    # XLA's older way to make fused loops, which JAX 0.12 no longer has, takes two thirds of the time.
    QUICKLY += " --xla_cpu_use_fusion_emitters=false"
    AS_USERS_DO["xla_cpu_use_fusion_emitters"] = True
