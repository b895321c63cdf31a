"""Figures of docs/benchmarks.md: `make bench`."""
