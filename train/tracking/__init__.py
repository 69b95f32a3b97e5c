"""What is kept of a run: metrics, pictures, provenance, Weights & Biases and the report."""
