"""Networks as compute shows them (until 2.35).

Source: Compute API reference, "Networks (os-networks) (deprecated)", "Project networks (os-tenant-networks)".
Attributes that only nova-network had are null.
"""

from collections.abc import Mapping
from typing import Any

from pileus.compute.service import COMPUTE, READER
from pileus.core.context import Context
from pileus.core.op import Reply, collection
from pileus.http.inside import Inside
from pileus.network import facade as network

LAST = "2.35"
Network = Mapping[str, Any]
_ALWAYS_NULL = (
    "bridge", "bridge_interface", "broadcast", "cidr", "cidr_v6", "created_at", "deleted", "deleted_at", "dhcp_server",
    "dhcp_start", "dns1", "dns2", "enable_dhcp", "gateway", "gateway_v6", "host", "injected", "mtu", "multi_host",
    "netmask", "netmask_v6", "priority", "project_id", "rxtx_base", "share_address", "updated_at", "vlan",
    "vpn_private_address", "vpn_public_address", "vpn_public_port",
)  # fmt: skip


def networks(ctx: Context) -> Inside:
    """The networking API for this caller."""
    return Inside(ctx, COMPUTE, network.SERVICE)


def load(ctx: Context, network_id: str) -> Network:
    """A network; raises NotFound."""
    found: Network = networks(ctx)("GET", f"/networks/{network_id}")["network"]
    return {**found, "project_id": ctx.caller.project_id}  # who sees it may ask


def _detailed(found: Network) -> dict[str, Any]:
    return {**dict.fromkeys(_ALWAYS_NULL), "id": found["id"], "label": found["name"]}


def _brief(found: Network) -> dict[str, Any]:
    return {"id": found["id"], "cidr": "None", "label": found["name"]}


@COMPUTE.op("GET", "/os-networks", rule="os_compute_api:os-networks:list", allow=READER, load=collection, until=LAST)
def list_networks(ctx: Context) -> dict[str, Any]:
    """List networks."""
    return {"networks": [_detailed(one) for one in networks(ctx)("GET", "/networks")["networks"]]}


@COMPUTE.op(
    "GET", "/os-networks/{network_id}", rule="os_compute_api:os-networks:show", allow=READER, load=load, until=LAST
)
def show_network(found: Network) -> Reply:
    """Show a network."""
    return Reply({"network": _detailed(found)})


@COMPUTE.op(
    "GET", "/os-tenant-networks", rule="os_compute_api:os-tenant-networks:list", allow=READER, load=collection,
    until=LAST,
)  # fmt: skip
def list_own_networks(ctx: Context) -> dict[str, Any]:
    """List the project's networks and the shared ones."""
    found = networks(ctx)("GET", "/networks")["networks"]
    own = [one for one in found if one["shared"] or one["project_id"] == ctx.caller.project_id]
    return {"networks": [_brief(one) for one in own]}


@COMPUTE.op(
    "GET", "/os-tenant-networks/{network_id}", rule="os_compute_api:os-tenant-networks:show", allow=READER, load=load,
    until=LAST,
)  # fmt: skip
def show_own_network(found: Network) -> Reply:
    """Show a network of the project."""
    return Reply({"network": _brief(found)})
