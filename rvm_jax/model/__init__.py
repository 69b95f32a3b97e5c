"""The network in Flax, from the tables of its shapes to the guided filter; it imports JAX and Flax alone."""
