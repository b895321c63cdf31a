"""Imports everything that registers operations, so that whoever imports the facade has the whole API."""

from pileus.network import agent, availability, extension, quota, tag, versions
from pileus.network.floating_ip import api as floating_ip_api
from pileus.network.network import api as network_api
from pileus.network.port import api as port_api
from pileus.network.router import api as router_api
from pileus.network.router import interfaces
from pileus.network.security_group import api as security_group_api
from pileus.network.subnet import api as subnet_api

__all__ = [
    "agent", "availability", "extension", "floating_ip_api", "interfaces", "network_api", "port_api", "quota",
    "router_api", "security_group_api", "subnet_api", "tag", "versions",
]  # fmt: skip
