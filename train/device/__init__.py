"""What devices compute: losses, optimizer, one pass, validation, data parallelism. JAX alone."""
