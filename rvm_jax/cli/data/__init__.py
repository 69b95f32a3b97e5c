"""`rvm data …`: a file for what is done with datasets, one for where they come from, one for what both are told."""

from rvm_jax.cli.data.commands import app

__all__ = ["app"]
