"""The two encoders: each turns frames into features at 1/2, 1/4, 1/8 and 1/16 of their size."""
