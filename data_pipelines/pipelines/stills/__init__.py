"""Samples of one picture, for networks without memory: a person, a background, and a trimap or a clean plate."""
