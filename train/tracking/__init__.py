"""What a run tells: metrics, pictures, provenance, Weights & Biases and the report."""
