"""What people run: check, prepare, preview, measure, and make test sets."""
