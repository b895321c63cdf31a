"""Floating IPs as compute shows them (until 2.35; given to servers until 2.43).

Source: Compute API reference, "Floating IPs (os-floating-ips) (deprecated)", "Floating IP pools", and the server
actions addFloatingIp and removeFloatingIp.
"""

from collections.abc import Mapping
from typing import Any

from pileus.compute.forwarding.networks import networks
from pileus.compute.server.actions import action
from pileus.compute.server.rows import Server
from pileus.compute.service import COMPUTE, MEMBER, READER
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.op import Reply, collection
from pileus.core.schema import IP, Schema
from pileus.network import facade as network

LAST, LAST_ACTION = "2.35", "2.43"
_RULE = "os_compute_api:os-floating-ips"
Floating = Mapping[str, Any]


def load(ctx: Context, floating_ip_id: str) -> Floating:
    """A floating IP; raises NotFound."""
    found: Floating = networks(ctx)("GET", f"/floatingips/{floating_ip_id}")["floatingip"]
    return found


def _pools(ctx: Context) -> dict[str, str]:
    """Name of each external network by its id."""
    found = networks(ctx)("GET", "/networks", query={"router:external": "True"})["networks"]
    return {one["id"]: one["name"] or one["id"] for one in found}


def _shown(ctx: Context, found: Floating, pools: Mapping[str, str]) -> dict[str, Any]:
    port = network.get_port(ctx.tx, found["port_id"]) if found["port_id"] else None
    return {
        "id": found["id"], "ip": found["floating_ip_address"], "fixed_ip": found["fixed_ip_address"],
        "pool": pools.get(found["floating_network_id"]), "instance_id": port.device_id or None if port else None,
    }  # fmt: skip


@COMPUTE.op(
    "GET", "/os-floating-ip-pools", rule="os_compute_api:os-floating-ip-pools", allow=READER, load=collection,
    until=LAST,
)  # fmt: skip
def list_pools(ctx: Context) -> dict[str, Any]:
    """List floating IP pools: the external networks."""
    return {"floating_ip_pools": [{"name": name} for name in _pools(ctx).values()]}


@COMPUTE.op("GET", "/os-floating-ips", rule=f"{_RULE}:list", allow=READER, load=collection, until=LAST)
def list_floating_ips(ctx: Context) -> dict[str, Any]:
    """List the project's floating IPs."""
    found = networks(ctx)("GET", "/floatingips", query={"project_id": ctx.project_id})["floatingips"]
    pools = _pools(ctx)
    return {"floating_ips": [_shown(ctx, one, pools) for one in found]}


@COMPUTE.op(
    "POST", "/os-floating-ips", rule=f"{_RULE}:create", allow=MEMBER, load=collection, until=LAST,
    takes={"type": "object", "properties": {"pool": {"type": ["string", "null"], "maxLength": 255}}},
)  # fmt: skip
def create_floating_ip(ctx: Context, body: dict[str, Any] | None) -> dict[str, Any]:
    """Create a floating IP of a pool, by its name or id; without one, of the first."""
    pools, wanted = _pools(ctx), (body or {}).get("pool")
    found = next((i for i, name in pools.items() if wanted in (None, i, name)), None)
    if found is None:
        raise NotFound(f"Floating IP pool {wanted or ''} not found.")
    made = networks(ctx)("POST", "/floatingips", {"floatingip": {"floating_network_id": found}})["floatingip"]
    return {"floating_ip": _shown(ctx, made, pools)}


@COMPUTE.op("GET", "/os-floating-ips/{floating_ip_id}", rule=f"{_RULE}:show", allow=READER, load=load, until=LAST)
def show_floating_ip(ctx: Context, found: Floating) -> dict[str, Any]:
    """Show a floating IP."""
    return {"floating_ip": _shown(ctx, found, _pools(ctx))}


@COMPUTE.op(
    "DELETE", "/os-floating-ips/{floating_ip_id}", rule=f"{_RULE}:delete", allow=MEMBER, load=load, until=LAST, ok=202
)
def delete_floating_ip(ctx: Context, floating_ip_id: str) -> None:
    """Give a floating IP back."""
    networks(ctx)("DELETE", f"/floatingips/{floating_ip_id}")


def _at(ctx: Context, address: str) -> Floating:
    found = networks(ctx)("GET", "/floatingips", query={"floating_ip_address": address})["floatingips"]
    if not found:
        raise NotFound("floating IP not found")
    first: Floating = found[0]
    return first


def _fixed(ctx: Context, server: Server, wanted: str | None) -> tuple[str, str]:
    """(port, address) of a server that a floating IP shall lead to; raises BadRequest."""
    there = [(port.id, ip) for port in network.ports_of(ctx.tx, server.id) for ip, _ in port.fixed_ips if ":" not in ip]
    if not there:
        raise BadRequest("No fixed IPs associated to instance")
    for port_id, ip in there:
        if wanted in (None, ip):
            return port_id, ip
    raise BadRequest("Specified fixed address not assigned to instance")


def _body(*more: str) -> Schema:
    inner = dict.fromkeys(("address", *more), IP)
    return {"type": "object", "properties": inner, "required": ["address"], "additionalProperties": False}


@action("addFloatingIp", f"{_RULE}:add", inner=_body("fixed_address"), until=LAST_ACTION)
def add_floating_ip(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Lead a floating IP to a server."""
    port_id, fixed = _fixed(ctx, server, body.get("fixed_address"))
    floating, change = _at(ctx, body["address"]), {"port_id": port_id, "fixed_ip_address": fixed}
    try:
        networks(ctx)("PUT", f"/floatingips/{floating['id']}", {"floatingip": change})
    except Conflicted as error:
        raise BadRequest(f"Unable to associate floating IP {body['address']} to fixed IP {fixed}: {error}") from None
    return Reply()


@action("removeFloatingIp", f"{_RULE}:remove", inner=_body(), until=LAST_ACTION)
def remove_floating_ip(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Take a floating IP off a server."""
    floating = _at(ctx, body["address"])
    ports = {port.id for port in network.ports_of(ctx.tx, server.id)}
    if floating["port_id"] not in ports:
        raise Conflicted(f"Floating IP {body['address']} is not associated with instance {server.id}.")
    networks(ctx)("PUT", f"/floatingips/{floating['id']}", {"floatingip": {"port_id": None}})
    return Reply()
