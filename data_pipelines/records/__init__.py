"""Prepared clips: any frame of any of them by its number."""
