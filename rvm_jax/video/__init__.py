"""Frames in and mattes out: reading, matting, compositing and writing of videos, pictures and streams."""
