"""What owners ship: found, checked and decoded. Worker processes import it, so no TensorFlow."""
