"""Imports everything that registers operations, so that whoever imports the facade has the whole API."""

from pileus.network import quota
from pileus.network.port import api as port_api

__all__ = ["port_api", "quota"]
