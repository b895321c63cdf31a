"""What other services may ask of networking.

Functions with `ctx` do what the caller may, and raise problems; those with `tx` are for steps and ask no policy.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.nodes import get_node
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.network import consistency, guest, nodes, operations
from pileus.network.floating_ip.rows import FLOATING_IPS
from pileus.network.lives import kinds
from pileus.network.network.rows import NETWORKS, load_network, seen_networks
from pileus.network.network.rows import Network as NetworkRow
from pileus.network.port import make
from pileus.network.port.api import enforce, make_port, target_of
from pileus.network.port.rows import ADDRESSES, PORTS, FixedIp, find_port, load_port, ports_by_id
from pileus.network.port.rows import Port as PortRow
from pileus.network.security_group.rows import GROUPS, SecurityGroup, default_group, group_not_found, seen_groups
from pileus.network.service import NETWORK as SERVICE

__all__ = [
    "SERVICE", "NetworkView", "PortView", "add_security_group", "attach_port", "bind_port", "check_security_groups",
    "compare_node", "create_port", "default_networks", "delete_port", "detach_port", "expected", "get_network",
    "get_port", "inconsistencies", "kinds", "network_data", "node_seen", "operations", "port_at", "ports_of",
    "remove_security_group", "security_groups_of", "unbind_port",
]  # fmt: skip

compare_node = nodes.compare_node
expected = nodes.expected
node_seen = nodes.node_seen
network_data = guest.network_data
inconsistencies = consistency.inconsistencies


class PortView(Struct, frozen=True, kw_only=True):
    """A port as other services see it."""

    id: str
    network_id: str
    network_name: str
    name: str
    mac_address: str
    fixed_ips: tuple[tuple[str, str], ...]  # (address, subnet id)
    status: str
    admin_state_up: bool
    device_id: str
    device_owner: str
    project_id: str
    security_groups: tuple[str, ...]  # ids
    node_id: str | None
    device: str  # the tap on node_id, once `up`
    netns: str
    mtu: int
    up: bool  # ready on node_id
    floating_ips: tuple[tuple[str, str], ...]  # (fixed, floating)
    port_security: bool
    dns_name: str
    fault: str = ""  # why it is not up


class AddressesView(Struct, frozen=True, kw_only=True):
    """What lists of servers show of a port."""

    id: str
    network_name: str
    mac_address: str
    fixed_ips: Sequence[str]
    floating_ips: Sequence[tuple[str, str]]  # (fixed, floating)
    security_groups: Sequence[str]


class _Plugged(Struct, frozen=True, kw_only=True):
    """The few columns of a port that AddressesView needs: a list of 1,000 servers reads as many ports."""

    id: str
    network_id: str
    mac_address: str
    fixed_ips: list[FixedIp]
    security_groups: list[str]


_PLUGGED = Table(_Plugged, "ports")


class NetworkView(Struct, frozen=True, kw_only=True):
    """A network as other services see it."""

    id: str
    name: str
    mtu: int
    shared: bool
    external: bool
    project_id: str


def _networks(tx: Tx, ports: Sequence[PortRow] | Sequence[_Plugged]) -> dict[str, NetworkRow]:
    return {n.id: n for n in NETWORKS.all(tx, id=tuple({port.network_id for port in ports}))}


def _floating(tx: Tx, ports: Sequence[PortRow] | Sequence[_Plugged]) -> dict[str, list[tuple[str, str]]]:
    """(fixed, floating) addresses by port."""
    found: dict[str, list[tuple[str, str]]] = {}
    for one in FLOATING_IPS.all(tx, port_id=tuple(port.id for port in ports)):
        found.setdefault(str(one.port_id), []).append((str(one.fixed_ip_address), one.floating_ip_address))
    return found


def _views(tx: Tx, ports: Sequence[PortRow]) -> list[PortView]:
    networks, floating = _networks(tx, ports), _floating(tx, ports)
    return [_view(port, networks[port.network_id], floating.get(port.id, ())) for port in ports]


def _view(port: PortRow, network: NetworkRow, floating: Sequence[tuple[str, str]]) -> PortView:
    up = port.up and port.node_id is not None and port.placed_on == port.node_id
    return PortView(
        id=port.id, network_id=port.network_id, network_name=network.name, name=port.name,
        mac_address=port.mac_address, fixed_ips=tuple((f.ip_address, f.subnet_id) for f in port.fixed_ips),
        status=port.status, admin_state_up=port.admin_state_up, device_id=port.device_id,
        device_owner=port.device_owner, project_id=port.project_id, security_groups=tuple(port.security_groups),
        node_id=port.node_id, device=port.device if up else "", netns=port.netns if up else "", mtu=network.mtu,
        up=up, floating_ips=tuple(floating), port_security=port.port_security_enabled, dns_name=port.dns_name,
        fault=port.fault,
    )  # fmt: skip


def _network_view(row: NetworkRow) -> NetworkView:
    return NetworkView(
        id=row.id, name=row.name, mtu=row.mtu, shared=row.shared, external=row.external, project_id=row.project_id
    )


def create_port(
    ctx: Context,
    *,
    network_id: str,
    fixed_ips: Sequence[str] = (),
    security_groups: Sequence[str] | None = None,
    device_id: str = "",
    device_owner: str = "",
    name: str = "",
    dns_name: str = "",
    mac_address: str | None = None,
) -> PortView:
    """A new port of the caller's project, not bound; `fixed_ips` are addresses, `security_groups` ids.

    Raises NotFound for a network or group that the caller cannot see, Conflicted when an address is taken
    or none is left, OverQuota, BadRequest.
    """
    network = load_network(ctx, network_id)
    given: dict[str, Any] = {"device_id": device_id, "device_owner": device_owner, "name": name, "dns_name": dns_name}
    if fixed_ips:
        given["fixed_ips"] = [{"ip_address": ip} for ip in fixed_ips]
    if security_groups is not None and network.port_security_enabled:
        given["security_groups"] = list(security_groups)
    target = target_of(network, ctx.project_id, device_owner)
    ctx.enforce("create_port", target)
    enforce(ctx, "create_port", {k: v for k, v in given.items() if k == "fixed_ips"}, target)
    port = make_port(ctx, network, ctx.project_id, {**given, "mac_address": mac_address})
    return _views(ctx.tx, [port])[0]


def attach_port(ctx: Context, port_id: str, *, device_id: str, device_owner: str) -> PortView:
    """Give an existing port of the caller's to a device; raises NotFound, Conflicted (PortInUse)."""
    port = load_port(ctx, port_id)
    ctx.enforce("update_port", port)
    if port.device_id:
        raise Conflicted(f"Port {port_id} is still in use.", kind="PortInUse")
    changed = {"device_id": device_id, "device_owner": device_owner}
    PORTS.update(ctx.tx, changed, id=port_id)
    return _views(ctx.tx, [structs.replace(port, **changed)])[0]


def detach_port(tx: Tx, port_id: str, now: float) -> None:
    """Take a port off its device and its node; the port stays."""
    port = find_port(tx, port_id)
    if port is not None:
        make.unbind(tx, port, now)
        PORTS.update(tx, {"device_id": "", "device_owner": ""}, id=port_id)


def delete_port(tx: Tx, port_id: str, now: float) -> None:
    """Wish a port away; nothing happens when it is gone already."""
    port = find_port(tx, port_id)
    if port is not None:
        make.remove_port(tx, port, now)


def bind_port(tx: Tx, port_id: str, node_id: str, now: float) -> None:
    """Wish a port on a node; its owner is poked when it is up there.  Raises NotFound."""
    port = find_port(tx, port_id)
    if port is None:
        raise NotFound(f"Port {port_id} could not be found.", kind="PortNotFound")
    make.bind(tx, port, get_node(tx, node_id), now)


def unbind_port(tx: Tx, port_id: str, now: float) -> None:
    """Wish a port on no node."""
    port = find_port(tx, port_id)
    if port is not None:
        make.unbind(tx, port, now)


def get_port(tx: Tx, port_id: str) -> PortView | None:
    """A port by id; None when it is gone or going."""
    port = find_port(tx, port_id)
    return None if port is None else _views(tx, [port])[0]


def ports_of(tx: Tx, device_id: str) -> list[PortView]:
    """The ports of a device, oldest first."""
    order = "ports.created_at, ports.id"
    return _views(tx, PORTS.all(tx, device_id=device_id, deleting=False, order=order))


def addresses_of(tx: Tx, device_ids: Sequence[str]) -> list[AddressesView]:
    """The ports of several devices in a fixed number of queries."""
    marks = ", ".join("?" * len(device_ids)) or "null"
    ports = _PLUGGED.query(tx, f"where ports.device_id in ({marks}) and ports.deleting = 0", *device_ids)
    networks, floating = _networks(tx, ports), _floating(tx, ports)
    return [
        AddressesView(
            id=port.id,
            network_name=networks[port.network_id].name,
            mac_address=port.mac_address,
            fixed_ips=[f.ip_address for f in port.fixed_ips],
            floating_ips=floating.get(port.id, ()),
            security_groups=port.security_groups,
        )
        for port in ports
    ]


def get_network(ctx: Context, network_id: str) -> NetworkView:
    """A network that the caller may see; raises NotFound."""
    return _network_view(load_network(ctx, network_id))


def default_networks(ctx: Context) -> list[NetworkView]:
    """The networks that a server gets which names none: the project's own and shared ones, not external."""
    listing = seen_networks(ctx).where(
        "networks.external = 0 and (networks.project_id = ? or networks.shared = 1)", ctx.project_id
    )
    return [_network_view(row) for row in listing.page(ctx.tx, sort=[("created_at", False), ("id", False)])]


def security_groups_of(tx: Tx, port_ids: Sequence[str]) -> list[tuple[str, str]]:
    """(id, name) of the security groups of several ports, each once."""
    marks = ", ".join("?" * len(port_ids)) or "null"
    return [(str(row[0]), str(row[1])) for row in tx.all(
        "select distinct g.id, g.name from port_groups p join security_groups g on g.id = p.group_id"
        f" where p.port_id in ({marks}) order by g.name, g.id",
        *port_ids,
    )]  # fmt: skip


def _named_group(ctx: Context, name_or_id: str) -> SecurityGroup:
    """A group of the caller's by id or by its only name."""
    by_id = seen_groups(ctx).equals("id", [name_or_id]).page(ctx.tx, sort=[("id", False)], limit=1)
    if by_id:
        return by_id[0]
    named = GROUPS.all(ctx.tx, name=name_or_id, project_id=ctx.project_id, deleting=False)
    if len(named) > 1:
        raise Conflicted(
            f"Multiple security groups found matching '{name_or_id}'. Use an ID to be more specific.",
            kind="NoUniqueMatch",
        )
    if not named:
        raise group_not_found(name_or_id)
    return named[0]


def check_security_groups(ctx: Context, names_or_ids: Sequence[str]) -> list[str]:
    """The ids of the caller's security groups; raises NotFound, or Conflicted for a name that two have."""
    if "default" in names_or_ids:
        default_group(ctx.tx, ctx.project_id, ctx.now)
    return list(dict.fromkeys(_named_group(ctx, name).id for name in names_or_ids))


def add_security_group(ctx: Context, port_ids: Sequence[str], name_or_id: str) -> None:
    """Give a group to those of these ports that can have one; raises NotFound, BadRequest when none can."""
    group = _named_group(ctx, name_or_id)
    ports = [p for p in ports_by_id(ctx.tx, port_ids).values() if p.port_security_enabled and p.fixed_ips]
    if not ports:
        raise BadRequest("No port of it has port security and an address, which security groups need.")
    for port in ports:
        if group.id not in port.security_groups:
            make.replace_groups(ctx.tx, port, [*port.security_groups, group.id], ctx.now)


def remove_security_group(ctx: Context, port_ids: Sequence[str], name_or_id: str) -> None:
    """Take a group off these ports; raises NotFound when none has it."""
    group = _named_group(ctx, name_or_id)
    ports = [p for p in ports_by_id(ctx.tx, port_ids).values() if group.id in p.security_groups]
    if not ports:
        raise NotFound(f"Security group {name_or_id} not associated with the instance", kind="SecurityGroupNotFound")
    for port in ports:
        make.replace_groups(ctx.tx, port, [g for g in port.security_groups if g != group.id], ctx.now)


def port_at(tx: Tx, network_id: str, address: str) -> PortView | None:
    """The port that has an address of a network; also by a link-local address made of its MAC."""
    found = ADDRESSES.get(tx, network_id=network_id, ip=address)
    if found is not None:
        return get_port(tx, found.port_id)
    mac = guest.mac_of_link_local(address)
    port = PORTS.get(tx, network_id=network_id, mac_address=mac, deleting=False) if mac else None
    return None if port is None else _views(tx, [port])[0]
