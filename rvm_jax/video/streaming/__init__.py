"""Frames as they come: chunks of them, cameras, latency, and mattes one by one."""
