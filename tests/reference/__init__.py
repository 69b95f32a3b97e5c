"""Numbers of the released PyTorch networks, and what they are compared with."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from tests.compiling import AS_USERS_DO

FOLDER = Path(os.environ.get("RVM_REFERENCE") or Path(__file__).parent / "data")


def compiled(function: Callable[..., Any], static_argnums: int | tuple[int, ...]) -> dict[str, Callable[..., Any]]:
    """By dtype: in float32 as users run it, and in float64 as the other tests, in a third of the time."""
    quickly = partial(jax.jit, static_argnums=static_argnums)
    return {"float32": quickly(function, compiler_options=AS_USERS_DO), "float64": quickly(function)}


def cast(tree: Any, dtype: jnp.dtype) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype), tree)
