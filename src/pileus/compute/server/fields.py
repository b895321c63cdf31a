"""A server as each microversion shows it.  Source: Compute API reference, "Servers (servers)".

The tables read from a Shown: the row together with what was loaded beside it, once for a whole list.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pileus.compute.server.rows import (
    MIGRATIONS,
    SNAPSHOTS,
    TAGS,
    Server,
    ServerVolume,
    plugged,
    volumes_of,
)
from pileus.compute.server.standing import group_ids
from pileus.compute.server.states import State, shown
from pileus.compute.service import ADMIN, COMPUTE, READER, links
from pileus.core.clock import iso, iso_micro
from pileus.core.context import Context
from pileus.core.fields import Field, Fields, Version
from pileus.core.nodes import ALIVE_SECONDS, NODES, Node
from pileus.network import facade as network
from pileus.network.facade import AddressesView

_SHOW = "os_compute_api:servers:show"
EXTRA_SPECS = COMPUTE.rule(f"{_SHOW}:flavor-extra-specs", READER)
HOST_STATUS = COMPUTE.rule(f"{_SHOW}:host_status", ADMIN)
HOST_UNKNOWN = COMPUTE.rule(f"{_SHOW}:host_status:unknown-only", ADMIN)
EXTENDED = COMPUTE.rule("os_compute_api:os-extended-server-attributes", ADMIN)
_PROGRESS = frozenset({"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"})
_PROPERTIES = ("hw_", "os_", "img_", "trait")  # image properties that mean something to compute


class Sight:
    """What one caller may see of the servers of one project."""

    __slots__ = ("admin", "extended", "extra_specs", "host_status", "host_unknown")

    def __init__(self, ctx: Context, project_id: str):
        target = {"project_id": project_id, "tenant_id": project_id}
        self.admin = ctx.allows("context_is_admin", target)
        self.extended = ctx.allows(EXTENDED, target)
        self.extra_specs = ctx.allows(EXTRA_SPECS, target)
        self.host_status = ctx.allows(HOST_STATUS, target)
        self.host_unknown = ctx.allows(HOST_UNKNOWN, target)


class Shown:
    """A server and all that its representation needs."""

    __slots__ = (
        "groups", "host_status", "ports", "project_id", "security_groups", "server", "sight", "state", "tags",
        "volumes",
    )  # fmt: skip

    def __init__(
        self,
        server: Server,
        state: State,
        sight: Sight,
        *,
        ports: Sequence[AddressesView] = (),
        security_groups: Sequence[str] = (),
        volumes: Sequence[ServerVolume] = (),
        tags: Sequence[str] = (),
        groups: Sequence[str] = (),
        host_status: str = "",
    ):
        self.server, self.state, self.sight, self.project_id = server, state, sight, server.project_id
        self.ports, self.volumes, self.tags, self.groups = ports, volumes, tags, groups
        self.security_groups = security_groups  # names
        self.host_status = host_status


def present(ctx: Context, servers: Sequence[Server], *, brief: bool = False) -> list[Shown]:
    """Load beside some servers whatever the caller's version shows, with a fixed number of queries."""
    tx, ids = ctx.tx, [server.id for server in servers]
    sights = {project: Sight(ctx, project) for project in {server.project_id for server in servers}}
    nothing = State("", "", None, 0)
    if brief or not ids:
        return [Shown(server, nothing, sights[server.project_id]) for server in servers]
    migrations = {m.server_id: m for m in MIGRATIONS.all(tx, order="number", server_id=ids) if m.open}
    snapshots = _grouped(SNAPSHOTS.all(tx, order="created_at", server_id=ids))
    volumes = _grouped(row for row in volumes_of(tx, ids) if not row.detach)
    ports = ports_by_server(ctx, ids)
    names = dict(network.security_groups_of(tx, [port.id for there in ports.values() for port in there]))
    tags = _grouped(TAGS.all(tx, order="tag", server_id=ids))
    groups = group_ids(tx, ids)
    nodes = {node.id: node for node in NODES.all(tx)}
    return [
        Shown(
            server,
            shown(server, migrations.get(server.id), snapshots.get(server.id, ())),
            sights[server.project_id],
            ports=ports.get(server.id, ()),
            security_groups=_named(ports.get(server.id, ()), names),
            volumes=volumes.get(server.id, ()),
            tags=[tag.tag for tag in tags.get(server.id, ())],
            groups=[groups[server.id]] if server.id in groups else [],
            host_status=host_status(server, nodes, ctx.now),
        )
        for server in servers
    ]  # fmt: skip


def _named(ports: Sequence[AddressesView], names: Mapping[str, str]) -> list[str]:
    """Names of the security groups of some ports, each once."""
    return list(dict.fromkeys(names[group] for port in ports for group in port.security_groups if group in names))


def _grouped(rows: Iterable[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.server_id, []).append(row)
    return found


def ports_by_server(ctx: Context, server_ids: Sequence[str]) -> dict[str, list[AddressesView]]:
    """The ports of some servers in the order in which their guests have them."""
    there = {port.id: port for port in network.addresses_of(ctx.tx, server_ids)}
    found: dict[str, list[AddressesView]] = {}
    for server_id, port_id in plugged(ctx.tx, server_ids):
        port = there.get(port_id)
        if port is not None:
            found.setdefault(server_id, []).append(port)
    return found


def host_status(server: Server, nodes: Mapping[str, Node], now: float) -> str:
    """As an administrator sees the node: UP, DOWN, MAINTENANCE, or "" without one."""
    node = nodes.get(server.node_id or "")
    if node is None:
        return ""
    if node.disabled:
        return "MAINTENANCE"
    return "UP" if now - node.seen_at < ALIVE_SECONDS else "DOWN"


def host_id(server: Server) -> str:
    """The same for servers of one project on one node, and says nothing else of it."""
    return _digest(f"{server.project_id}{server.node_name}") if server.node_name else ""


@lru_cache(1024)
def _digest(text: str) -> str:
    return hashlib.sha224(text.encode()).hexdigest()


def addresses(row: Shown, *, extended: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Network name → addresses, floating ones after those that they lead to."""
    found: dict[str, list[dict[str, Any]]] = {}
    if row.state.vm_state == "building":
        return found
    for port in row.ports:
        here = found.setdefault(port.network_name, [])
        outer = dict(port.floating_ips)
        for ip in port.fixed_ips:
            for kind, address in (("fixed", ip), ("floating", outer.get(ip))):
                if address is None:
                    continue
                shape: dict[str, Any] = {"version": 6 if ":" in address else 4, "addr": address}
                if extended:
                    shape |= {"OS-EXT-IPS:type": kind, "OS-EXT-IPS-MAC:mac_addr": port.mac_address}
                here.append(shape)
    return found


def _image(row: Shown, ctx: Context, *, properties: bool = False) -> Any:
    server = row.server
    if server.image_id is None:
        return ""
    shape: dict[str, Any] = {
        "id": server.image_id,
        "links": [{"rel": "bookmark", "href": f"{ctx.url}/images/{server.image_id}"}],
    }
    if properties:
        shape["properties"] = {k: v for k, v in server.image_properties.items() if k.startswith(_PROPERTIES)}
    return shape


def _flavor(row: Shown, ctx: Context) -> dict[str, Any]:
    size = row.server.flavor
    shape: dict[str, Any] = {
        "vcpus": size.vcpus, "ram": size.ram_mib, "disk": size.disk_gib, "ephemeral": size.ephemeral_gib,
        "swap": size.swap_mib, "original_name": size.name,
    }  # fmt: skip
    if row.sight.extra_specs:
        shape["extra_specs"] = size.extra_specs
    return shape


def _flavor_link(row: Shown, ctx: Context) -> dict[str, Any]:
    flavor_id = row.server.flavor.id
    return {"id": flavor_id, "links": [{"rel": "bookmark", "href": f"{ctx.url}/flavors/{flavor_id}"}]}


def _fault(row: Shown, _ctx: Context) -> dict[str, Any]:
    fault = row.server.fault
    assert fault is not None
    shape: dict[str, Any] = {"code": fault.code, "created": iso(fault.at), "message": fault.message}
    if fault.details and (row.sight.admin or fault.code != 500):
        shape["details"] = fault.details
    return shape


def _volumes(row: Shown, ctx: Context) -> list[dict[str, Any]]:
    if ctx.version < (2, 3):
        return [{"id": volume.volume_id} for volume in row.volumes]
    return [{"id": v.volume_id, "delete_on_termination": v.delete_on_termination} for v in row.volumes]


def _sees_host(row: Shown, _ctx: Context) -> bool:
    sight = row.sight
    return sight.host_status or (sight.host_unknown and row.host_status == "UNKNOWN")


def _attribute(name: str, value: Any, since: str = "") -> Field:
    return Field(f"OS-EXT-SRV-ATTR:{name}", "r", get=value, since=since, see=lambda row, _ctx: row.sight.extended)


FIELDS: tuple[Field, ...] = (
    Field("id", "r", get="server.id"),
    Field("name", "r", get="server.name"),
    Field("status", "r", get="state.status"),
    Field("tenant_id", "r", get="server.project_id"),
    Field("user_id", "r", get="server.user_id"),
    Field("metadata", "r", get="server.metadata"),
    Field("hostId", "r", get=lambda row, _ctx: host_id(row.server)),
    Field("image", "r", get=_image, until="2.97"),
    Field("image", "r", get=lambda row, ctx: _image(row, ctx, properties=True), since="2.98"),
    Field("flavor", "r", get=_flavor_link, until="2.46"),
    Field("flavor", "r", get=_flavor, since="2.47"),
    Field("created", "r", get=lambda row, _ctx: iso(row.server.created_at)),
    Field("updated", "r", get=lambda row, _ctx: iso(max(row.server.changed_at, row.server.moved_at))),
    Field("addresses", "r", get=lambda row, _ctx: addresses(row)),
    Field("accessIPv4", "r", get="server.access_ip_v4"),
    Field("accessIPv6", "r", get="server.access_ip_v6"),
    Field("links", "r", get=lambda row, ctx: links(ctx, f"servers/{row.server.id}")),
    Field("OS-DCF:diskConfig", "r", get="server.disk_config"),
    Field("progress", "r", get=lambda _row, _ctx: 0, see=lambda row, _ctx: row.state.status in _PROGRESS),
    Field("fault", "r", get=_fault,
          see=lambda row, _ctx: row.state.status == "ERROR" and row.server.fault is not None),
    Field("OS-EXT-AZ:availability_zone", "r", get=lambda row, _ctx: row.server.node_zone or ""),
    Field("config_drive", "r", get=lambda row, _ctx: "True" if row.server.config_drive else ""),
    Field("key_name", "r", get="server.key_name"),
    Field("OS-SRV-USG:launched_at", "r", get=lambda row, _ctx: iso_micro(row.server.launched_at)),
    Field("OS-SRV-USG:terminated_at", "r", get=lambda _row, _ctx: None),
    Field("security_groups", "r", get=lambda row, _ctx: [{"name": name} for name in row.security_groups],
          see=lambda row, _ctx: bool(row.security_groups)),
    Field("OS-EXT-STS:task_state", "r", get="state.task_state"),
    Field("OS-EXT-STS:vm_state", "r", get="state.vm_state"),
    Field("OS-EXT-STS:power_state", "r", get="state.power_state"),
    Field("os-extended-volumes:volumes_attached", "r", get=_volumes),
    _attribute("host", "server.node_name"),
    _attribute("instance_name", lambda row, _ctx: f"instance-{row.server.id[:8]}"),
    _attribute("hypervisor_hostname", "server.node_name"),
    _attribute("kernel_id", lambda _row, _ctx: "", "2.3"),
    _attribute("ramdisk_id", lambda _row, _ctx: "", "2.3"),
    _attribute("launch_index", "server.launch_index", "2.3"),
    _attribute("reservation_id", "server.reservation_id", "2.3"),
    _attribute("root_device_name", lambda _row, _ctx: "/dev/vda", "2.3"),
    _attribute("user_data", "server.user_data", "2.3"),
    Field("OS-EXT-SRV-ATTR:hostname", "r", get="server.hostname", since="2.3",
          see=lambda row, ctx: row.sight.extended or ctx.version >= (2, 90)),
    Field("locked", "r", get=lambda row, _ctx: bool(row.server.locked), since="2.9"),
    Field("host_status", "r", since="2.16", see=_sees_host),
    Field("description", "r", get="server.description", since="2.19"),
    Field("tags", "r", since="2.26"),
    Field("trusted_image_certificates", "r", get=lambda _row, _ctx: None, since="2.63"),
    Field("server_groups", "r", get="groups", since="2.71"),
    Field("locked_reason", "r", get="server.locked_reason", since="2.73"),
    Field("pinned_availability_zone", "r", get="server.zone", since="2.96"),
    Field("scheduler_hints", "r", get="server.hints", since="2.100"),
)  # fmt: skip

# What updates and rebuilds show before 2.75, when they began to show all.
_PLAIN = frozenset({
    "id", "name", "status", "tenant_id", "user_id", "metadata", "hostId", "image", "flavor", "created", "updated",
    "accessIPv4", "accessIPv6", "links", "OS-DCF:diskConfig", "progress", "fault", "locked", "description", "tags",
    "trusted_image_certificates", "server_groups", "locked_reason", "pinned_availability_zone", "scheduler_hints",
})  # fmt: skip


def _since(field: Field, version: str) -> Field:
    later: Version = (2, int(version.partition(".")[2]))
    return field if field.first() >= later else Field(**{**_attributes(field), "since": version})


def _attributes(field: Field) -> dict[str, Any]:
    return {name: getattr(field, name) for name in Field.__dataclass_fields__}


def _changed(*, rebuilt: bool) -> tuple[Field, ...]:
    """The shape of an updated or rebuilt server."""
    found = [f if f.name in _PLAIN else _since(f, "2.75") for f in FIELDS if f.name != "addresses"]
    found.append(Field("addresses", "r", get=lambda row, _ctx: addresses(row, extended=False), until="2.74"))
    found.append(Field("addresses", "r", get=lambda row, _ctx: addresses(row), since="2.75"))
    if rebuilt:
        found = [f for f in found if f.name not in ("key_name", "OS-EXT-SRV-ATTR:user_data")]
        found.append(Field("key_name", "r", get="server.key_name", since="2.54"))
        found.append(Field("user_data", "r", get="server.user_data", since="2.57"))
    return tuple(found)


SERVER = Fields("server", "servers", FIELDS)
SERVER_IN_LIST = Fields("server", "servers", [f for f in FIELDS if f.name != "server_groups"])
SERVER_BRIEF = Fields("server", "servers", [f for f in FIELDS if f.name in ("id", "name", "links")])
SERVER_UPDATED = Fields("server", "servers", _changed(rebuilt=False))
SERVER_REBUILT = Fields("server", "servers", _changed(rebuilt=True))
