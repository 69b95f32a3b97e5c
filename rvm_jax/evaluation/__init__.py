"""Metrics, test sets on disk, and the table of what methods score on them."""
