"""Compiled programs, kept from one run to the next."""

import os
from pathlib import Path

import jax


def enable_compilation_cache() -> None:
    """Keep compiled programs for other runs: where JAX is told to, or else in the user's cache folder."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined, unused-ignore]
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "rvm-jax" / "compiled"))
