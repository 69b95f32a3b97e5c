"""`python -m rvm_jax`: the `rvm` command, where its script is not on the path."""

import sys

from rvm_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
