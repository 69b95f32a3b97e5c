"""Your own footage: foregrounds and alphas in a plain layout."""
