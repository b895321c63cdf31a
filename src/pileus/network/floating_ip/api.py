"""Floating IPs: create, list, show, update, delete.  Source: Networking API reference, "Floating IPs"."""

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.events import record_request
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_id
from pileus.core.op import Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.reconcile import poke
from pileus.core.schema import IP, TEXT, Schema
from pileus.db.connect import Conflict
from pileus.network.address import already_allocated
from pileus.network.conventions import (
    ID,
    body_of,
    changes_of,
    check_revision,
    created,
    enforce_attributes,
    identity_fields,
    listed,
    project_of,
    shown,
    standard_fields,
)
from pileus.network.floating_ip.rows import (
    FLOATING_IPS,
    FloatingIp,
    let_go,
    load_floating_ip,
    seen_floating_ips,
)
from pileus.network.network.rows import Network, load_network
from pileus.network.port.fields import DNS_NAME
from pileus.network.port.make import add_port, free_mac, new_port, remove_port
from pileus.network.port.rows import FLOATING, LEG, PORTS, Port, load_port
from pileus.network.quota import take
from pileus.network.service import ADMIN, ADMIN_OR_MEMBER, ADMIN_OR_READER, NETWORK
from pileus.network.subnet.rows import subnets_of

ID_OR_NULL: Schema = {"type": ["string", "null"], "maxLength": 255}
IP_OR_NULL: Schema = {"anyOf": [IP, {"type": "null"}]}


def _port_details(floating: FloatingIp, ctx: Context) -> dict[str, Any] | None:
    port = PORTS.get(ctx.tx, id=floating.port_id) if floating.port_id else None
    shown_of = ("name", "network_id", "mac_address", "admin_state_up", "status", "device_id", "device_owner")
    return None if port is None else {name: getattr(port, name) for name in shown_of}


FIELDS = Fields(
    "floatingip",
    "floatingips",
    (
        *(field for field in identity_fields() if field.name != "name"),
        Field("floating_network_id", "Crqs", ID),
        Field("floating_ip_address", "crqs", IP_OR_NULL),
        Field("subnet_id", "c", ID_OR_NULL),
        Field("port_id", "cruqs", ID_OR_NULL),
        Field("fixed_ip_address", "cruqs", IP_OR_NULL),
        Field("router_id", "rqs"),
        Field("status", "r"),
        Field("port_details", "r", get=_port_details),
        Field("dns_name", "crq", DNS_NAME, default=""),
        Field("dns_domain", "crq", TEXT, default=""),
        *standard_fields(),
    ),
)
NETWORK.rule("get_floatingip", ADMIN_OR_READER)
NETWORK.rule("create_floatingip:floating_ip_address", ADMIN)


@NETWORK.op("POST", "/floatingips", rule="create_floatingip", allow=ADMIN_OR_MEMBER, load=collection,
            takes=body_of(FIELDS), ok=201)  # fmt: skip
def create_floating_ips(ctx: Context, body: dict[str, Any]) -> Reply:
    """Create a floating IP, or many."""
    return created(ctx, FIELDS, body, lambda given: create_floating_ip(ctx, given))


def create_floating_ip(ctx: Context, given: Mapping[str, Any]) -> FloatingIp:
    """One floating IP as a caller asks for it, translated at once when it names a port."""
    project_id = project_of(ctx, "create_floatingip", given)
    enforce_attributes(ctx, "create_floatingip", FIELDS, given, {"project_id": project_id})
    network = load_network(ctx, given["floating_network_id"])
    if not network.external:
        raise _bad(f"Network {network.id} is not a valid external network")
    take(ctx.tx, project_id, floatingip=1)
    floating_id = new_id()
    port = _reserve(ctx, network, floating_id, given)
    floating = FloatingIp(
        id=floating_id, project_id=project_id, floating_network_id=network.id, floating_ip_address=port.ips[0],
        floating_port_id=port.id, description=given.get("description") or "", dns_name=given.get("dns_name") or "",
        dns_domain=given.get("dns_domain") or "", created_at=ctx.now, updated_at=ctx.now,
    )  # fmt: skip
    try:
        FLOATING_IPS.insert(ctx.tx, floating)
    except Conflict:
        raise already_allocated(port.ips[0], port.fixed_ips[0].subnet_id) from None
    record_request(ctx, "floatingip", floating.id, "create", "success")
    return associate(ctx, floating, given) if given.get("port_id") or given.get("fixed_ip_address") else floating


def _bad(why: str) -> BadRequest:
    return BadRequest(f"Bad floatingip request: {why}.", kind="BadRequest")


def _reserve(ctx: Context, network: Network, floating_id: str, given: Mapping[str, Any]) -> Port:
    """A port that keeps an address of the external network."""
    subnets = [subnet for subnet in subnets_of(ctx.tx, network.id) if subnet.ip_version == 4]
    if not subnets:
        raise _bad(f"Network {network.id} does not contain any IPv4 subnet")
    wanted = {"subnet_id": given.get("subnet_id"), "ip_address": given.get("floating_ip_address")}
    asked = {name: value for name, value in wanted.items() if value}
    port = new_port(
        network, ctx.now, project_id="", mac_address=free_mac(ctx.tx, network.id), device_owner=FLOATING,
        device_id=floating_id, port_security_enabled=False, status="N/A",
    )  # fmt: skip
    return add_port(ctx.tx, port, [asked] if asked else None, subnets)


def associate(ctx: Context, floating: FloatingIp, given: Mapping[str, Any]) -> FloatingIp:
    """Translate a floating IP to a port's address; raises what stands in the way."""
    port_id = given.get("port_id") or floating.port_id
    if not port_id:
        raise _bad("fixed_ip_address cannot be specified without a port_id")
    port = load_port(ctx, port_id)
    if port.project_id != floating.project_id and not ctx.allows("admin_only"):
        raise _bad(f"Cannot process floating IP {floating.id} with port {port.id}, since that port is owned by a"
                   " different project")  # fmt: skip
    fixed = _fixed_address(port, given.get("fixed_ip_address"))
    router_id = _router_for(ctx, floating, port, fixed)
    changed = changes_of(ctx, floating, port_id=port.id, fixed_ip_address=fixed, router_id=router_id)
    try:
        FLOATING_IPS.update(ctx.tx, changed, id=floating.id)
    except Conflict:
        raise Conflicted(
            f"Cannot associate floating IP {floating.floating_ip_address} ({floating.id}) with port {port.id} using"
            f" fixed IP {fixed}, as that fixed IP already has a floating IP on external network"
            f" {floating.floating_network_id}.",
            kind="FloatingIPPortAlreadyAssociated",
        ) from None
    for concerned in {router_id, floating.router_id} - {None}:
        poke(ctx.tx, "router", str(concerned), ctx.now)
    return structs.replace(floating, **changed)


def _fixed_address(port: Port, given: str | None) -> str:
    """The IPv4 address of a port that is meant."""
    candidates = [ip for ip in port.ips if ":" not in ip]
    if given:
        if given not in candidates:
            raise _bad(f"Port {port.id} does not have fixed ip {given}")
        return given
    if not candidates:
        raise _bad(f"Cannot add floating IP to port {port.id} that has no fixed IPv4 addresses")
    if len(candidates) > 1:
        raise _bad(
            f"Port {port.id} has multiple fixed IPv4 addresses. Must provide a specific IPv4 address when assigning a"
            " floating IP"
        )
    return candidates[0]


def _router_for(ctx: Context, floating: FloatingIp, port: Port, fixed: str) -> str:
    """The router between the port's subnet and the floating network; that of the subnet's gateway comes first."""
    subnet_id = next(one.subnet_id for one in port.fixed_ips if one.ip_address == fixed)
    rows = ctx.tx.all(
        "select r.id, case when a.ip = s.gateway_ip then 0 else 1 end as distance from addresses a"
        " join subnets s on s.id = a.subnet_id join ports p on p.id = a.port_id join routers r on r.id = p.device_id"
        " where a.subnet_id = ? and p.device_owner = ? and p.deleting = 0 and r.gateway_network_id = ?"
        " and r.deleting = 0 order by distance, r.created_at",
        subnet_id, LEG, floating.floating_network_id,
    )  # fmt: skip
    if not rows:
        raise NotFound(
            f"External network {floating.floating_network_id} is not reachable from subnet {subnet_id}. Therefore,"
            f" cannot associate Port {port.id} with a Floating IP.",
            kind="ExternalGatewayForFloatingIPNotFound",
        )
    return str(rows[0][0])


def _by_status(listing: Listing[FloatingIp], values: list[str]) -> None:
    active = "coalesce(floating_ips.carried = floating_ips.router_id || ' ' || floating_ips.fixed_ip_address, 1 = 0)"
    wanted = {value.upper() for value in values}
    listing.where(" or ".join([active] * ("ACTIVE" in wanted) + [f"not {active}"] * ("DOWN" in wanted)) or "1 = 0")


@NETWORK.op("GET", "/floatingips", rule="get_floatingip", load=collection)
def list_floating_ips(ctx: Context, query: Query) -> dict[str, Any]:
    """List floating IPs."""
    return listed(ctx, FIELDS, seen_floating_ips(ctx), query, {"status": _by_status})


@NETWORK.op("GET", "/floatingips/{floatingip_id}", rule="get_floatingip", load=load_floating_ip)
def get_floating_ip(ctx: Context, floating: FloatingIp, query: Query) -> dict[str, Any]:
    """Show a floating IP."""
    return shown(ctx, FIELDS, floating, query)


@NETWORK.op("PUT", "/floatingips/{floatingip_id}", rule="update_floatingip", allow=ADMIN_OR_MEMBER,
            load=load_floating_ip, takes=FIELDS, gives=FIELDS)  # fmt: skip
def update_floating_ip(ctx: Context, floating: FloatingIp, body: dict[str, Any]) -> FloatingIp:
    """Translate a floating IP to another port, to none, or describe it."""
    check_revision(ctx, floating)
    if "description" in body:
        changed = {"description": body["description"] or ""}
        FLOATING_IPS.update(ctx.tx, changed, id=floating.id)
        floating = structs.replace(floating, **changed)
    if body.get("port_id") or body.get("fixed_ip_address"):
        return associate(ctx, floating, body)
    if "port_id" in body:
        let_go(ctx.tx, floating, ctx.now)
    else:
        FLOATING_IPS.update(ctx.tx, changes_of(ctx, floating), id=floating.id)
    return load_floating_ip(ctx, floating.id)


@NETWORK.op("DELETE", "/floatingips/{floatingip_id}", rule="delete_floatingip", allow=ADMIN_OR_MEMBER,
            load=load_floating_ip, ok=204)  # fmt: skip
def delete_floating_ip(ctx: Context, floating: FloatingIp) -> Reply:
    """Give the address back."""
    check_revision(ctx, floating)
    let_go(ctx.tx, floating, ctx.now)
    FLOATING_IPS.delete(ctx.tx, id=floating.id)
    port = PORTS.get(ctx.tx, id=floating.floating_port_id)
    if port is not None:
        remove_port(ctx.tx, port, ctx.now)
    record_request(ctx, "floatingip", floating.id, "delete", "success")
    return Reply()
