"""Where networking is available, and how many addresses are left.

Source: Networking API reference, "Availability zones", "Network IP availability".
"""

import ipaddress
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.op import collection
from pileus.core.paging import Query
from pileus.network.network.rows import Network, load_network, seen_networks
from pileus.network.service import ADMIN, NETWORK
from pileus.network.subnet.rows import Subnet, subnets_of


@NETWORK.op("GET", "/availability_zones", rule="get_availability_zone", allow="@", load=collection)
def list_availability_zones(ctx: Context, query: Query) -> dict[str, Any]:
    """List the zones in which networks and routers can be."""
    zones = [str(row[0]) for row in ctx.tx.all("select distinct zone from nodes order by zone")]
    found = [
        {"name": zone, "resource": resource, "state": "available"}
        for zone in zones
        for resource in ("network", "router")
    ]
    wanted = {name: query.all(name) for name in ("name", "resource", "state") if name in query}
    return {"availability_zones": [z for z in found if all(z[name] in values for name, values in wanted.items())]}


def _total(subnet: Subnet) -> int:
    ends = [(int(ipaddress.ip_address(p.start)), int(ipaddress.ip_address(p.end))) for p in subnet.allocation_pools]
    return sum(end - start + 1 for start, end in ends)


def _available(ctx: Context, network: Network, versions: list[str]) -> dict[str, Any]:
    subnets = [s for s in subnets_of(ctx.tx, network.id) if not versions or str(s.ip_version) in versions]
    used: dict[str, int] = dict(ctx.tx.all(
        "select subnet_id, count(*) from addresses where network_id = ? group by subnet_id", network.id
    ))  # fmt: skip
    by_subnet = [
        {
            "subnet_id": subnet.id, "subnet_name": subnet.name, "cidr": subnet.cidr, "ip_version": subnet.ip_version,
            "total_ips": _total(subnet), "used_ips": used.get(subnet.id, 0),
        }
        for subnet in subnets
    ]  # fmt: skip
    return {
        "network_id": network.id, "network_name": network.name, "project_id": network.project_id,
        "tenant_id": network.project_id, "total_ips": sum(_total(subnet) for subnet in subnets),
        "used_ips": sum(used.get(subnet.id, 0) for subnet in subnets), "subnet_ip_availability": by_subnet,
    }  # fmt: skip


_COLUMNS = {"network_id": "id", "network_name": "name", "project_id": "project_id", "tenant_id": "project_id"}


@NETWORK.op("GET", "/network-ip-availabilities", rule="get_network_ip_availability", allow=ADMIN, load=collection)
def list_network_ip_availabilities(ctx: Context, query: Query) -> dict[str, Any]:
    """List networks with the addresses that they have and use."""
    listing = seen_networks(ctx)
    for name in query.values:
        if name in _COLUMNS:
            listing.equals(_COLUMNS[name], query.all(name))
        elif name not in ("ip_version", "fields"):
            raise BadRequest(f"['{name[:80]}'] is invalid attribute for filtering")
    networks = listing.page(ctx.tx, sort=[("id", False)])
    versions = query.all("ip_version")
    return {"network_ip_availabilities": [_available(ctx, network, versions) for network in networks]}


@NETWORK.op("GET", "/network-ip-availabilities/{network_id}", rule="get_network_ip_availability", load=load_network)
def get_network_ip_availability(ctx: Context, network: Network) -> dict[str, Any]:
    """Show the addresses that a network has and uses."""
    return {"network_ip_availability": _available(ctx, network, [])}
