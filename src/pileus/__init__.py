"""Pileus: a cloud that speaks OpenStack's APIs, in one package and one command."""

__version__ = "0.1.0"
