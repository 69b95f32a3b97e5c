"""P3M-10k: portraits with alpha, faces blurred."""
