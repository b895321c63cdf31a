"""The ports that a server shall have, from what the request says of networks.

Source: Compute API reference, "Create server", parameter `networks`.
"""

from typing import Any

from msgspec import Struct

from pileus.compute.server.rows import NICS, Nic, Server
from pileus.compute.service import ADMIN, COMPUTE
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden, NotFound, OverQuota, Problem
from pileus.core.ids import is_uuid
from pileus.network import facade as network
from pileus.network.facade import PortView

EXTERNAL = COMPUTE.rule("os_compute_api:servers:create:attach_network:external", ADMIN)
OWNER = "compute:{zone}"


class Plug(Struct, frozen=True, kw_only=True):
    """One port that is wanted: one that exists, or a new one on a network."""

    port_id: str = ""
    network_id: str = ""
    fixed_ip: str = ""
    tag: str | None = None


def plugs(ctx: Context, networks: Any, *, count: int) -> list[Plug]:
    """What `networks` of a create request asks for; raises BadRequest, Conflicted or Forbidden."""
    if networks == "none":
        return []
    if networks == "auto" or not networks:
        return _default(ctx, required=networks == "auto")
    found = [_plug(ctx, item, count) for item in networks]
    ports = [plug.port_id for plug in found if plug.port_id]
    for port_id in ports:
        if ports.count(port_id) > 1:
            raise BadRequest(f"Port ID '{port_id}' was specified twice: you cannot attach a port multiple times.")
    return found


def _default(ctx: Context, *, required: bool) -> list[Plug]:
    """The one network that the project has."""
    there = network.default_networks(ctx)
    if len(there) > 1:
        raise Conflicted("Multiple possible networks found, use a Network ID to be more specific.")
    if not there and required:
        raise BadRequest(f"Unable to automatically allocate a network for project {ctx.project_id}: create one first.")
    return [Plug(network_id=one.id) for one in there]


def _plug(ctx: Context, item: dict[str, Any], count: int) -> Plug:
    port_id, fixed_ip = item.get("port") or "", item.get("fixed_ip") or ""
    if port_id:
        if fixed_ip:
            raise BadRequest(
                f"Specified Fixed IP '{fixed_ip}' cannot be used with port '{port_id}': the two cannot be specified "
                "together."
            )
        if count > 1:
            raise BadRequest(
                "Unable to launch multiple instances with a single configured port ID. Please launch your instance "
                "one by one with different ports."
            )
        return Plug(port_id=port_id, tag=item.get("tag"))
    if "uuid" not in item:
        raise BadRequest("Bad network format: missing 'uuid'")
    network_id = item["uuid"]
    if not is_uuid(network_id):
        raise BadRequest(f"Bad networks format: network uuid is not in proper format ({str(network_id)[:80]})")
    if fixed_ip and count > 1:
        raise BadRequest("Invalid Fixed IP: one address cannot be used by several instances.")
    check_network(ctx, network_id)
    return Plug(network_id=network_id, fixed_ip=fixed_ip, tag=item.get("tag"))


def check_network(ctx: Context, network_id: str) -> None:
    """Raise BadRequest for a network that the caller cannot use, Forbidden for an external one."""
    try:
        found = network.get_network(ctx, network_id)
    except NotFound:
        raise BadRequest(f"Network {network_id} could not be found.") from None
    if found.external and not found.shared and not ctx.allows(EXTERNAL, {"project_id": ctx.project_id}):
        raise Forbidden(f"It is not allowed to create an interface on external network {network_id}")


def plug_in(ctx: Context, server: Server, plug: Plug, position: int, groups: list[str] | None) -> tuple[Nic, PortView]:
    """Make or take the port and tie it to the server; raises BadRequest, Conflicted or Forbidden."""
    owner = OWNER.format(zone=server.node_zone or server.zone or "nova")
    try:
        if plug.port_id:
            port = network.attach_port(ctx, plug.port_id, device_id=server.id, device_owner=owner)
        else:
            port = network.create_port(
                ctx, network_id=plug.network_id, fixed_ips=[plug.fixed_ip] if plug.fixed_ip else [],
                security_groups=groups or None, device_id=server.id, device_owner=owner, dns_name=server.hostname,
            )  # fmt: skip
    except OverQuota as error:
        raise Forbidden(f"Maximum number of ports exceeded: {error.message}") from None
    except NotFound as error:
        raise BadRequest(f"Port id {plug.port_id} could not be found." if plug.port_id else error.message) from None
    except Problem as error:
        in_use = plug.port_id and error.status == 409
        raise (error if in_use or error.status not in (400, 409) else BadRequest(error.message)) from None
    if not port.fixed_ips and port.port_security:
        what = f"Port {port.id}" if plug.port_id else f"Network {plug.network_id}"
        needs = (
            "requires a FixedIP in order to be used."
            if plug.port_id
            else "requires a subnet in order to boot instances on."
        )
        raise BadRequest(f"{what} {needs}")
    nic = Nic(port_id=port.id, server_id=server.id, position=position, tag=plug.tag, own=not plug.port_id)
    return NICS.insert(ctx.tx, nic), port


def groups_of(ctx: Context, names: list[str]) -> list[str]:
    """Ids of security groups by name or id; raises BadRequest."""
    try:
        return network.check_security_groups(ctx, names)
    except (NotFound, Conflicted) as error:
        raise BadRequest(error.message) from None
