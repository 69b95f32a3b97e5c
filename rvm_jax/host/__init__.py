"""The process and its machine: files, locks, signals, memory, caches and progress."""
