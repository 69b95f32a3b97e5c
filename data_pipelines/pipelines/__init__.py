"""The tf.data pipelines: from a number to a plan, to pixels, to a batch."""
