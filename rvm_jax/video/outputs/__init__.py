"""What mattes are written to: the names of targets, and those that are no files (pipes, streams, a virtual camera)."""
