"""From the owners' archives to batches that never repeat by accident: builders, sampling, augmentation, tf.data."""
