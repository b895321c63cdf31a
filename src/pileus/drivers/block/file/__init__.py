"""Volumes as raw files in pool folders, opened by QEMU itself, exported to other nodes over NBD."""
