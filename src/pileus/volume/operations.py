"""Every module that registers operations of this API; importing this one is importing them all."""

from pileus.volume import message, pools, zone

__all__ = ["message", "pools", "zone"]
