"""Subnets: create, list, show, update, delete.  Source: Networking API reference, "Subnets"."""

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import Conflicted, Forbidden
from pileus.core.events import record_request
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_id
from pileus.core.op import Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.reconcile import poke
from pileus.core.schema import BOOLEAN, CIDR, IP, Schema
from pileus.network import address
from pileus.network.conventions import (
    ID,
    body_of,
    changes_of,
    check_revision,
    created,
    identity_fields,
    listed,
    project_of,
    shown,
    standard_fields,
)
from pileus.network.network.rows import Network, find_network, load_network
from pileus.network.port.make import drop_addresses, poke_if_placed, sync_dhcp_port
from pileus.network.port.rows import DHCP, FLOATING, OF_ROUTERS, PORTS
from pileus.network.quota import take
from pileus.network.service import ADMIN, ADMIN_OR_MEMBER, MEMBER, NET_OWNER_MEMBER, NET_OWNER_READER, NETWORK, READER
from pileus.network.subnet import plan
from pileus.network.subnet.rows import SUBNETS, Subnet, load_subnet, seen_subnets, subnets_of

IP_OR_NULL: Schema = {"type": ["string", "null"], "anyOf": [IP, {"type": "null"}]}
POOLS: Schema = {
    "type": ["array", "null"],
    "maxItems": 100,
    "items": {
        "type": "object",
        "properties": {"start": IP, "end": IP},
        "required": ["start", "end"],
        "additionalProperties": False,
    },
}
ROUTES: Schema = {
    "type": ["array", "null"],
    "maxItems": 100,
    "items": {
        "type": "object",
        "properties": {"destination": CIDR, "nexthop": IP},
        "required": ["destination", "nexthop"],
        "additionalProperties": False,
    },
}
MODE: Schema = {"enum": [None, "slaac", "dhcpv6-stateful", "dhcpv6-stateless"]}
FIELDS = Fields(
    "subnet",
    "subnets",
    (
        *identity_fields(),
        Field("network_id", "Crqs", ID),
        Field("ip_version", "Crqs", {"enum": [4, 6]}),
        Field("cidr", "Crqs", CIDR),
        Field("gateway_ip", "cruqs", IP_OR_NULL),
        Field("allocation_pools", "cru", POOLS, get=lambda s, _: [{"start": p.start, "end": p.end}
                                                                  for p in s.allocation_pools]),
        Field("dns_nameservers", "cru", {"type": ["array", "null"], "items": IP, "maxItems": 100}, default=[]),
        Field("host_routes", "cru", ROUTES, default=[], get=lambda s, _: [
            {"destination": r.destination, "nexthop": r.nexthop} for r in s.host_routes]),
        Field("enable_dhcp", "cruqs", BOOLEAN, default=True),
        Field("ipv6_ra_mode", "crqs", MODE),
        Field("ipv6_address_mode", "crqs", MODE),
        Field("service_types", "cru", {"type": "array", "items": ID, "maxItems": 16}, default=[]),
        Field("subnetpool_id", "crq", {"type": "null"}),
        *standard_fields(),
    ),
)  # fmt: skip
NETWORK.rule("get_subnet", f"({ADMIN}) or ({READER}) or ({NET_OWNER_READER}) or rule:shared")
OWNERS = f"({ADMIN}) or ({MEMBER}) or ({NET_OWNER_MEMBER})"


@NETWORK.op("POST", "/subnets", rule="create_subnet", allow=ADMIN_OR_MEMBER, load=collection, takes=body_of(FIELDS),
            ok=201, body_limit=4 << 20)  # fmt: skip
def create_subnets(ctx: Context, body: dict[str, Any]) -> Reply:
    """Create a subnet, or many."""
    return created(ctx, FIELDS, body, lambda given: create_subnet(ctx, given))


def create_subnet(ctx: Context, given: dict[str, Any]) -> Subnet:
    """One subnet as a caller asks for it."""
    project_id = project_of(ctx, "create_subnet", given)
    network = load_network(ctx, given["network_id"])
    if network.project_id != ctx.caller.project_id and not ctx.allows("admin_only"):
        raise Forbidden(f"Tenant {ctx.caller.project_id} not allowed to create subnet on this network")
    take(ctx.tx, project_id, subnet=1)
    subnet = _planned(network, project_id, given, ctx.now)
    ctx.tx.lock(f"network/{network.id}")
    plan.check_apart(subnet.net, subnets_of(ctx.tx, network.id), network.id)
    SUBNETS.insert(ctx.tx, subnet)
    if subnet.automatic:
        _address_all(ctx, subnet)
    _changed(ctx, network)
    record_request(ctx, "subnet", subnet.id, "create", "success")
    return subnet


def _planned(network: Network, project_id: str, given: Mapping[str, Any], now: float) -> Subnet:
    version, dhcp = given["ip_version"], given.get("enable_dhcp", True)
    net = plan.network_of(given["cidr"], version)
    ra, mode = given.get("ipv6_ra_mode"), given.get("ipv6_address_mode")
    plan.check_modes(version, ra, mode, net, dhcp=dhcp)
    plan.check_size(net, dhcp=dhcp)
    gateway = plan.gateway_of(net, given)
    pools = given.get("allocation_pools")
    return Subnet(
        id=new_id(), project_id=project_id, network_id=network.id, network_project_id=network.project_id,
        shared=network.shared, name=given.get("name", ""), description=given.get("description") or "",
        ip_version=version, cidr=str(net), gateway_ip=gateway, enable_dhcp=dhcp,
        dns_nameservers=plan.dns_of(given.get("dns_nameservers")),
        host_routes=plan.routes_of(version, given.get("host_routes")),
        allocation_pools=plan.default_pools(net, gateway) if pools is None else plan.pools_of(net, pools, gateway),
        ipv6_ra_mode=ra, ipv6_address_mode=mode, service_types=given.get("service_types", []),
        created_at=now, updated_at=now,
    )  # fmt: skip


def _address_all(ctx: Context, subnet: Subnet) -> None:
    """Guests on the network make themselves an address of the new subnet: their ports get it too."""
    for port in PORTS.all(ctx.tx, network_id=subnet.network_id, deleting=False):
        if port.device_owner in (DHCP, FLOATING, *OF_ROUTERS):
            continue
        fixed = address.take(ctx.tx, port, subnet, address.eui64(subnet.cidr, port.mac_address))
        PORTS.update(ctx.tx, {"fixed_ips": [*port.fixed_ips, fixed]}, id=port.id)
        poke_if_placed(ctx.tx, port, ctx.now)


def _changed(ctx: Context, network: Network) -> None:
    """DHCP and the routers on a network learn of its subnets."""
    sync_dhcp_port(ctx.tx, network, ctx.now)
    poke(ctx.tx, "network", network.id, ctx.now)
    for (router_id,) in ctx.tx.all(
        "select distinct device_id from ports where network_id = ? and device_owner in"
        " ('network:router_interface', 'network:router_gateway') and deleting = 0",
        network.id,
    ):
        poke(ctx.tx, "router", router_id, ctx.now)


def _by_shared(listing: Listing[Subnet], values: list[str]) -> None:
    listing.equals("shared", [Query({"shared": [v]}).truth("shared") for v in values])


@NETWORK.op("GET", "/subnets", rule="get_subnet", load=collection)
def list_subnets(ctx: Context, query: Query) -> dict[str, Any]:
    """List subnets."""
    return listed(ctx, FIELDS, seen_subnets(ctx), query, {"shared": _by_shared})


@NETWORK.op("GET", "/subnets/{subnet_id}", rule="get_subnet", load=load_subnet)
def get_subnet(ctx: Context, subnet: Subnet, query: Query) -> dict[str, Any]:
    """Show a subnet."""
    return shown(ctx, FIELDS, subnet, query)


@NETWORK.op("PUT", "/subnets/{subnet_id}", rule="update_subnet", allow=OWNERS, load=load_subnet, takes=FIELDS,
            gives=FIELDS)  # fmt: skip
def update_subnet(ctx: Context, subnet: Subnet, body: dict[str, Any]) -> Subnet:
    """Update a subnet."""
    check_revision(ctx, subnet)
    changed = changes_of(ctx, subnet, **_changes(ctx, subnet, body))
    SUBNETS.update(ctx.tx, changed, id=subnet.id)
    network = find_network(ctx.tx, subnet.network_id)
    if network is not None:
        _changed(ctx, network)
    return structs.replace(subnet, **changed)


def _changes(ctx: Context, subnet: Subnet, body: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that an update writes, checked against each other and what they replace."""
    changed: dict[str, Any] = {k: body[k] or "" for k in ("name", "description") if k in body}
    changed |= {k: body[k] for k in ("enable_dhcp", "service_types") if k in body}
    dhcp = changed.get("enable_dhcp", subnet.enable_dhcp)
    plan.check_modes(subnet.ip_version, subnet.ipv6_ra_mode, subnet.ipv6_address_mode, subnet.net, dhcp=dhcp)
    plan.check_size(subnet.net, dhcp=dhcp)
    if "dns_nameservers" in body:
        changed["dns_nameservers"] = plan.dns_of(body["dns_nameservers"])
    if "host_routes" in body:
        changed["host_routes"] = plan.routes_of(subnet.ip_version, body["host_routes"])
    gateway = subnet.gateway_ip
    if "gateway_ip" in body:
        gateway = changed["gateway_ip"] = plan.gateway_of(subnet.net, body)
        if gateway != subnet.gateway_ip:
            _check_gateway_free(ctx, subnet)
    if body.get("allocation_pools") is not None:
        changed["allocation_pools"] = plan.pools_of(subnet.net, body["allocation_pools"], gateway)
    else:
        plan.check_gateway_outside(subnet.allocation_pools, gateway)
    return changed


def _check_gateway_free(ctx: Context, subnet: Subnet) -> None:
    row = ctx.tx.one(
        "select p.id from addresses a join ports p on p.id = a.port_id"
        " where a.subnet_id = ? and a.ip = ? and p.device_owner = 'network:router_interface'",
        subnet.id, subnet.gateway_ip,
    )  # fmt: skip
    if row:
        raise Conflicted(
            f"Current gateway ip {subnet.gateway_ip} already in use by port {row[0]}. Unable to update.",
            kind="GatewayIpInUse",
        )


@NETWORK.op("DELETE", "/subnets/{subnet_id}", rule="delete_subnet", allow=OWNERS, load=load_subnet, ok=204)
def delete_subnet(ctx: Context, subnet: Subnet) -> Reply:
    """Delete a subnet that no port has an address of, DHCP's own and those that guests made themselves left aside."""
    check_revision(ctx, subnet)
    holders = ctx.tx.all(
        "select p.id, p.device_owner from addresses a join ports p on p.id = a.port_id where a.subnet_id = ?", subnet.id
    )
    holds = [port_id for port_id, owner in holders if owner in OF_ROUTERS or not (owner == DHCP or subnet.automatic)]
    if holds:
        raise Conflicted(
            f"Unable to complete operation on subnet {subnet.id}: One or more ports have an IP allocation from this"
            f" subnet: {holds[0]}.",
            kind="SubnetInUse",
        )
    for port in PORTS.all(ctx.tx, id=tuple(port_id for port_id, _ in holders)):
        drop_addresses(ctx.tx, port, subnet.id, ctx.now)
    SUBNETS.delete(ctx.tx, id=subnet.id)
    network = find_network(ctx.tx, subnet.network_id)
    if network is not None:
        _changed(ctx, network)
    record_request(ctx, "subnet", subnet.id, "delete", "success")
    return Reply()
