"""XLA's flags for GPUs: only kernels that give the same bits each time.

Which of those is fastest is still tried out (autotuning), unlike with `--xla_gpu_deterministic_ops`. The choice is kept
with the compiled programs, and beside them for other programs of the same kernels (JAX's own default,
`jax_persistent_cache_enable_xla_caches`).
"""

import importlib.util
import os
import pkgutil

FLAG = "--xla_gpu_exclude_nondeterministic_ops"
STRICTER = "--xla_gpu_deterministic_ops"


def set_flags() -> None:
    """Where JAX may find a GPU, add the flag, unless the user has a word of his own on it, or names a file of flags.

    To be called before JAX computes. Elsewhere it would change nothing but the keys of the compilation cache.
    """
    given = os.environ.get("XLA_FLAGS", "")
    in_file = given and not given.lstrip().startswith("--")
    if compiles_for_gpus() and not in_file and FLAG not in given and STRICTER not in given:
        os.environ["XLA_FLAGS"] = f"{given} {FLAG}=true".strip()


def compiles_for_gpus() -> bool:
    """Whether JAX's compiler for GPUs is installed."""
    found = importlib.util.find_spec("jax_plugins")
    places = found and found.submodule_search_locations
    return any(module.name.startswith(("xla_cuda", "xla_rocm")) for module in pkgutil.iter_modules(places or []))
