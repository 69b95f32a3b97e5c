"""From archives to TFDS records: a folder for each dataset, the builder they share, and its worker pool."""
