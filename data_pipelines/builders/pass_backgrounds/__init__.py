"""PASS: pictures without people, in ten tar files."""
