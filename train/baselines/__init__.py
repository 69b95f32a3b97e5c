"""Training of the networks that RVM is weighed against: their losses on a batch, and what their recipes bring."""
