"""Ports of servers: os-interface.  Source: Compute API reference, "Port interfaces (servers, os-interface)"."""

from typing import Any

from msgspec import Struct

from pileus.compute.server.access import at_rest, load_server, require, wish
from pileus.compute.server.plugs import Plug, check_network, plug_in
from pileus.compute.server.rows import NICS, Server
from pileus.compute.server.schemas import TAG, UUID
from pileus.compute.service import COMPUTE, MEMBER, READER, refuse_unknown
from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.fields import Field, Fields
from pileus.core.op import Many, Reply
from pileus.core.paging import Query
from pileus.core.schema import IP, Schema
from pileus.network import facade as network
from pileus.network.facade import PortView

_RULE = "os_compute_api:os-attach-interfaces"
_PATH = "/servers/{server_id}/os-interface"


class Interface(Struct, frozen=True, kw_only=True):
    """A server's port with what compute adds to it."""

    port: PortView
    tag: str | None


INTERFACE = Fields(
    "interfaceAttachment",
    "interfaceAttachments",
    (
        Field("port_state", "r", get="port.status"),
        Field("fixed_ips", "r", get=lambda row, _ctx: [
            {"subnet_id": subnet_id, "ip_address": ip} for ip, subnet_id in row.port.fixed_ips
        ]),
        Field("port_id", "r", get="port.id"),
        Field("net_id", "r", get="port.network_id"),
        Field("mac_addr", "r", get="port.mac_address"),
        Field("tag", "r", since="2.70"),
    ),
)  # fmt: skip
_ATTACH: dict[str, Any] = {
    "net_id": UUID,
    "port_id": UUID,
    "fixed_ips": {
        "type": "array", "minItems": 1, "maxItems": 1,
        "items": {"type": "object", "properties": {"ip_address": IP}, "required": ["ip_address"],
                  "additionalProperties": False},
    },
}  # fmt: skip


def _schema(**more: Any) -> Schema:
    inner = {"type": "object", "properties": {**_ATTACH, **more}, "additionalProperties": False}
    return {"type": "object", "properties": {"interfaceAttachment": inner}, "additionalProperties": False}


@COMPUTE.op("GET", _PATH, rule=f"{_RULE}:list", allow=READER, load=load_server, gives=Many(INTERFACE))
def list_interfaces(ctx: Context, server: Server, query: Query) -> list[Interface]:
    """List port interfaces."""
    refuse_unknown(ctx, query)
    nics = {nic.port_id: nic for nic in NICS.all(ctx.tx, server_id=server.id)}
    there = [port for port in network.ports_of(ctx.tx, server.id) if port.id in nics and not nics[port.id].detach]
    return [Interface(port=port, tag=nics[port.id].tag) for port in there]


@COMPUTE.op("GET", f"{_PATH}/{{port_id}}", rule=f"{_RULE}:show", allow=READER, load=load_server, gives=INTERFACE)
def show_interface(ctx: Context, server: Server, port_id: str, query: Query) -> Interface:
    """Show port interface details."""
    refuse_unknown(ctx, query)
    nic, port = NICS.get(ctx.tx, port_id=port_id, server_id=server.id), network.get_port(ctx.tx, port_id)
    if nic is None or port is None:
        raise NotFound(f"Instance {server.id} does not have a port with id {port_id[:80]}")
    return Interface(port=port, tag=nic.tag)


@COMPUTE.op(
    "POST", _PATH, rule=f"{_RULE}:create", allow=MEMBER, load=load_server, takes=_schema(), gives=INTERFACE,
    until="2.48",
)  # fmt: skip
def attach_interface_untagged(ctx: Context, server: Server, body: dict[str, Any]) -> Interface:
    """Create an interface."""
    return _attach(ctx, server, body.get("interfaceAttachment") or {})


@COMPUTE.op(
    "POST", _PATH, rule=f"{_RULE}:create", allow=MEMBER, load=load_server, takes=_schema(tag=TAG), gives=INTERFACE,
    since="2.49",
)  # fmt: skip
def attach_interface(ctx: Context, server: Server, body: dict[str, Any]) -> Interface:
    """Create an interface, with a tag that the guest learns of."""
    return _attach(ctx, server, body.get("interfaceAttachment") or {})


def _attach(ctx: Context, server: Server, given: dict[str, Any]) -> Interface:
    require(ctx, server, "attach_interface", ("active", "paused", "stopped"))
    network_id, port_id = given.get("net_id"), given.get("port_id")
    fixed_ip = given["fixed_ips"][0]["ip_address"] if given.get("fixed_ips") else ""
    if network_id and port_id:
        raise BadRequest("Must not input both network_id and port_id")
    if fixed_ip and not network_id:
        raise BadRequest("Must input network_id when request IP address")
    plug = _plug(ctx, port_id, network_id, fixed_ip, given.get("tag"))
    last = max((nic.position for nic in NICS.all(ctx.tx, server_id=server.id)), default=-1)
    nic, port = plug_in(ctx, server, plug, last + 1, server.security_groups or None)
    wish(ctx, server, "attach_interface")
    return Interface(port=port, tag=nic.tag)


def _plug(ctx: Context, port_id: str | None, network_id: str | None, fixed_ip: str, tag: str | None) -> Plug:
    """The port that is meant; 404 for a network or port that the caller does not see."""
    if port_id:
        if network.get_port(ctx.tx, port_id) is None:
            raise NotFound(f"Port id {port_id} could not be found.")
        return Plug(port_id=port_id, tag=tag)
    if network_id:
        try:
            check_network(ctx, network_id)
        except BadRequest as error:
            raise NotFound(error.message) from None
        return Plug(network_id=network_id, fixed_ip=fixed_ip, tag=tag)
    there = network.default_networks(ctx)
    if len(there) != 1:
        many = "Multiple possible networks found, use a Network ID to be more specific."
        raise BadRequest(many if there else "No specific network was requested and none are available.")
    return Plug(network_id=there[0].id, tag=tag)


@COMPUTE.op("DELETE", f"{_PATH}/{{port_id}}", rule=f"{_RULE}:delete", allow=MEMBER, load=load_server, ok=202)
def detach_interface(ctx: Context, server: Server, port_id: str) -> Reply:
    """Detach an interface; a port that was made for the server is deleted."""
    require(ctx, server, "detach_interface", ("active", "paused", "stopped"))
    nic = NICS.get(ctx.tx, port_id=port_id, server_id=server.id)
    if nic is None:
        raise NotFound(f"Port {port_id[:80]} could not be found.")
    if nic.detach and not at_rest(ctx, server):
        return Reply()  # on its way already
    NICS.update(ctx.tx, {"detach": True}, port_id=port_id)
    wish(ctx, server, "detach_interface")
    return Reply()
