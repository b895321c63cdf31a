"""Checks of our own that run in CI."""
