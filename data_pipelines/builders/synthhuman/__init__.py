"""SynthHuman: rendered people with alpha, in 60 zip files."""
