"""P3M-500: the portraits of P3M-10k that are for tests, as they are."""
