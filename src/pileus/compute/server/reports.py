"""What else can be read of a server: addresses, security groups, diagnostics, topology, its guest's password.

Source: Compute API reference, "Servers IPs", "Servers Security Groups", "Servers diagnostics",
"Server Topology", "Servers password (servers, os-server-password)".
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from pileus.compute.server.access import edit, load_server, require, unlocked
from pileus.compute.server.actions import action
from pileus.compute.server.consoles import hub_of
from pileus.compute.server.fields import addresses, present
from pileus.compute.server.rows import NICS, Server
from pileus.compute.service import ADMIN, COMPUTE, MEMBER, READER, refuse_unknown
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.op import Reply
from pileus.core.paging import Query
from pileus.core.schema import NAME, Schema
from pileus.network import facade as network

_PATH = "/servers/{server_id}"


@COMPUTE.op("GET", f"{_PATH}/ips", rule="os_compute_api:ips:index", allow=READER, load=load_server)
def list_ips(ctx: Context, server: Server) -> Reply:
    """List the addresses of a server."""
    return Reply({"addresses": addresses(present(ctx, [server])[0], extended=False)})


@COMPUTE.op("GET", f"{_PATH}/ips/{{network_label}}", rule="os_compute_api:ips:show", allow=READER, load=load_server)
def show_ips(ctx: Context, server: Server, network_label: str) -> Reply:
    """List the addresses of a server on one network."""
    found = addresses(present(ctx, [server])[0], extended=False)
    if network_label not in found:
        raise NotFound("Instance is not a member of specified network")
    return Reply({network_label: found[network_label]})


@COMPUTE.op(
    "GET", f"{_PATH}/os-security-groups", rule="os_compute_api:os-security-groups:list", allow=READER,
    load=load_server, until="2.9999",
)  # fmt: skip
def list_security_groups(ctx: Context, server: Server) -> Reply:
    """List the security groups of a server's ports."""
    ports = [nic.port_id for nic in NICS.all(ctx.tx, server_id=server.id)]
    shown = [
        {"id": group_id, "name": name, "description": "", "tenant_id": server.project_id, "rules": []}
        for group_id, name in network.security_groups_of(ctx.tx, ports)
    ]
    return Reply({"security_groups": shown})


_GROUP: Schema = {
    "type": "object", "properties": {"name": NAME}, "required": ["name"], "additionalProperties": False,
}  # fmt: skip


@action("addSecurityGroup", "os_compute_api:os-security-groups:add", inner=_GROUP)
def add_security_group(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Add a security group to every port of a server."""
    _ports_for(ctx, server, "addSecurityGroup", body["name"], network.add_security_group)
    return Reply()


@action("removeSecurityGroup", "os_compute_api:os-security-groups:remove", inner=_GROUP)
def remove_security_group(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Take a security group off every port of a server."""
    _ports_for(ctx, server, "removeSecurityGroup", body["name"], network.remove_security_group)
    return Reply()


def _ports_for(ctx: Context, server: Server, verb: str, name: str, change: Any) -> None:
    unlocked(ctx, server)
    ports = [nic.port_id for nic in NICS.all(ctx.tx, server_id=server.id)]
    if not ports:
        raise BadRequest(f"Cannot '{verb}': instance {server.id} has no ports.")
    change(ctx, ports, name)
    edit(ctx, server)


async def fetch_diagnostics(call: Any) -> Mapping[str, Any]:
    """Counters from the node, outside of every transaction."""
    server: Server = await call.read(lambda ctx: load_server(ctx, call.match.path["server_id"]))
    if server.node_id is None:
        return {"found": None}
    try:
        return {"found": await asyncio.to_thread(hub_of(call).hypervisor(server.node_id).diagnostics, server.id)}
    except (OSError, LookupError):
        return {"found": None}


_DIAGNOSTICS = "os_compute_api:os-server-diagnostics"
_STATES = {"on": "running", "paused": "paused", "off": "shutdown", "suspended": "suspended", "crashed": "crashed"}
_NIC = ("rx_octets", "rx_errors", "rx_drop", "rx_packets", "rx_rate",
        "tx_octets", "tx_errors", "tx_drop", "tx_packets", "tx_rate")  # fmt: skip
_DISK = ("read_bytes", "read_requests", "write_bytes", "write_requests", "errors_count")


def _running(ctx: Context, server: Server, found: Mapping[str, Any] | None) -> Mapping[str, Any]:
    require(ctx, server, "get_diagnostics", ("active", "rescued", "paused", "suspended"))
    if found is None:
        raise Conflicted(f"Instance {server.id} is not running, or its node does not answer.")
    return found


@COMPUTE.op(
    "GET", f"{_PATH}/diagnostics", rule=_DIAGNOSTICS, allow=ADMIN, load=load_server, slow=fetch_diagnostics,
    until="2.47",
)  # fmt: skip
def show_raw_diagnostics(ctx: Context, server: Server, found: Mapping[str, Any] | None) -> Reply:
    """Counters of a running server as its driver names them."""
    return Reply(dict(_running(ctx, server, found)))


@COMPUTE.op(
    "GET", f"{_PATH}/diagnostics", rule=_DIAGNOSTICS, allow=ADMIN, load=load_server, slow=fetch_diagnostics,
    since="2.48",
)  # fmt: skip
def show_diagnostics(ctx: Context, server: Server, found: Mapping[str, Any] | None, query: Query) -> Reply:
    """Counters of a running server in the form that all drivers share."""
    refuse_unknown(ctx, query)
    data = _running(ctx, server, found)
    macs = {port.id: port.mac_address for port in network.ports_of(ctx.tx, server.id)}
    memory = data.get("memory_details") or {}
    nics = [
        {"mac_address": nic.get("mac_address") or macs.get(nic.get("port_id", "")), **{k: nic.get(k) for k in _NIC}}
        for nic in data.get("nic_details") or []
    ]
    disks = [{key: disk.get(key) for key in _DISK} for disk in data.get("disk_details") or []]
    shown = {
        "state": _STATES.get(server.seen.power, "pending"), "driver": "libvirt", "hypervisor": "qemu",
        "hypervisor_os": "linux", "uptime": data.get("uptime"), "config_drive": server.config_drive,
        "num_cpus": data.get("num_cpus") or server.vcpus, "num_nics": len(nics), "num_disks": len(disks),
        "memory_details": {"maximum": memory.get("maximum"), "used": memory.get("used")},
        "cpu_details": [
            {"id": cpu.get("id"), "time": cpu.get("time"), "utilisation": cpu.get("utilisation")}
            for cpu in data.get("cpu_details") or []
        ],
        "nic_details": nics, "disk_details": disks,
    }  # fmt: skip
    return Reply(shown)


@COMPUTE.op(
    "GET", f"{_PATH}/topology", rule="compute:server:topology:index", allow=READER, load=load_server, since="2.78"
)
def show_topology(ctx: Context, server: Server, query: Query) -> Reply:
    """The NUMA topology of a server: one node with all CPUs, since none can be asked for."""
    refuse_unknown(ctx, query)
    return Reply({"nodes": [], "pagesize_kb": None})


@COMPUTE.op(
    "GET", f"{_PATH}/os-server-password", rule="os_compute_api:os-server-password:show", allow=READER,
    load=load_server,
)  # fmt: skip
def show_password(server: Server) -> Reply:
    """Show the password that the guest posted, encrypted with the owner's key."""
    return Reply({"password": server.password})


@COMPUTE.op(
    "DELETE", f"{_PATH}/os-server-password", rule="os_compute_api:os-server-password:clear", allow=MEMBER,
    load=load_server, ok=204,
)  # fmt: skip
def clear_password(ctx: Context, server: Server) -> Reply:
    """Forget the password; the guest may post another."""
    edit(ctx, server, password="")
    return Reply()
