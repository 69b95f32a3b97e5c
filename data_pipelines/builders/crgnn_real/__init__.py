"""CRGNN's real videos: a test set of people as they were filmed, with alpha on every tenth frame."""
