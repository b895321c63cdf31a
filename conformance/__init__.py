"""Tempest against a fresh cloud: `make conformance LIST=…` (see README.md)."""
