"""The pipelines: from a number to a plan with tf.data, and to pixels and a batch by worker processes or threads."""
