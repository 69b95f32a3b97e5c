"""JAX's persistent compilation cache: compiled programs, kept from one run to the next."""

import jax

from rvm_jax.host.paths import cache_folder


def enable_compilation_cache() -> None:
    """Keep compiled programs for other runs: where JAX is told to, or else in the user's cache folder."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined, unused-ignore]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
