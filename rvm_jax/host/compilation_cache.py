"""JAX's persistent compilation cache: compiled programs, kept from one run to the next."""

import os
import sys
from pathlib import Path

import jax

from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from rvm_jax.host.paths import Location, cache_folder, is_url, located, writable

IN_RUN = "compiled"
"""Where a run in a bucket has them, for the machines on which it is started again."""


def enable_compilation_cache(location: Location | None = None, default: Location | None = None) -> None:
    """Keep compiled programs for other runs: in `location`, or where JAX is told to, or in `default`.

    Only the first of several hosts writes there. Where the others shall not compile at a restart what it has compiled,
    the place has to be one that all of them read: a common disk, or a bucket.
    """
    if location is None:
        location = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined, unused-ignore]
    if location is None:
        location = default or cache_folder() / "compiled"
    if is_url(location):
        os.environ["EPATH_USE_TF"] = "0"  # TensorFlow reaches fewer buckets, and is slow to import
        # XLA has files of its own beside the programs, and knows paths only.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
        try:
            buckets.read(buckets.join(location, "anything"))
        except InputError as error:
            print(f"{error}; programs are compiled anew, and kept on this machine", file=sys.stderr)
            location = cache_folder() / "compiled"
    elif not writable(Path(located(location)).absolute()):
        print(f"nothing can be written in {location}: programs that it lacks are not kept", file=sys.stderr)
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)  # or each would be told
    jax.config.update("jax_compilation_cache_dir", os.fspath(located(location)))
