"""Numbers of the released PyTorch networks, and what they are compared with."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

FOLDER = Path(os.environ.get("RVM_REFERENCE") or Path(__file__).parent / "data")

# As users run it: the other tests compile faster, with less optimisation, which rounds differently.
optimized = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 3})


def cast(tree: Any, dtype: jnp.dtype) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype), tree)
