"""Making, re-addressing, binding and removing ports, for the API and for every other part of networking.

No policy here: who may is decided before.  What stands on nodes follows by the port's own life.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import structs

from pileus.core.errors import Conflicted
from pileus.core.ids import new_id
from pileus.core.nodes import NODES, Node
from pileus.core.reconcile import forget, poke
from pileus.db.connect import Conflict, Tx
from pileus.network import address
from pileus.network.floating_ip.rows import let_go_of_port
from pileus.network.network.rows import Network
from pileus.network.port.rows import ADDRESSES, DHCP, OF_ROUTERS, PORTS, FixedIp, Port, poke_around, poke_groups
from pileus.network.subnet.rows import Subnet, subnets_of


def new_mac() -> str:
    """A random address of the range that this API's clouds use."""
    return "fa:16:3e:" + ":".join(f"{octet:02x}" for octet in secrets.token_bytes(3))


def free_mac(tx: Tx, network_id: str) -> str:
    """A random MAC address that no port of the network has."""
    while True:
        mac = new_mac()
        if PORTS.get(tx, network_id=network_id, mac_address=mac, deleting=False) is None:
            return mac


def new_port(network: Network, now: float, **given: Any) -> Port:
    """A port of a network, not stored yet; `mac_address` must be given."""
    return Port(
        id=given.pop("id", None) or new_id(), network_id=network.id, network_project_id=network.project_id,
        created_at=now, updated_at=now, **given,
    )  # fmt: skip


def add_port(
    tx: Tx, port: Port, wanted: Iterable[Mapping[str, Any]] | None, subnets: Sequence[Subnet] | None = None
) -> Port:
    """Store a port with its addresses; `wanted` None means as the network's subnets give them.

    Raises Conflicted (MacAddressInUse, IpAddressAlreadyAllocated, IpAddressGenerationFailure), BadRequest
    or NotFound for addresses that cannot be.
    """
    try:
        PORTS.insert(tx, port)
    except Conflict:
        raise mac_in_use(port) from None
    found = subnets_of(tx, port.network_id) if subnets is None else subnets
    fixed = address.take_default(tx, port, found) if wanted is None else address.take_wanted(tx, port, found, wanted)
    set_groups(tx, port.id, port.security_groups)
    return _with_addresses(tx, port, fixed) if fixed else port


def mac_in_use(port: Port) -> Conflicted:
    """The refusal of a MAC address that another port of the network has."""
    return Conflicted(
        f"Unable to complete operation for network {port.network_id}. The mac address {port.mac_address} is in use.",
        kind="MacAddressInUse",
    )


def _with_addresses(tx: Tx, port: Port, fixed: list[FixedIp]) -> Port:
    PORTS.update(tx, {"fixed_ips": fixed}, id=port.id)
    return structs.replace(port, fixed_ips=fixed)


def set_groups(tx: Tx, port_id: str, group_ids: Sequence[str]) -> None:
    """Make these the security groups of a port (the port's own column is written by the caller)."""
    for group_id in group_ids:
        tx.run("insert into port_groups (port_id, group_id) values (?, ?) on conflict do nothing", port_id, group_id)


def replace_groups(tx: Tx, port: Port, group_ids: Sequence[str], now: float) -> Port:
    """Give a port other security groups; what stands of it looks again."""
    poke_if_placed(tx, port, now)
    tx.run("delete from port_groups where port_id = ?", port.id)
    set_groups(tx, port.id, group_ids)
    PORTS.update(tx, {"security_groups": list(group_ids)}, id=port.id)
    changed = structs.replace(port, security_groups=list(group_ids))
    poke_if_placed(tx, changed, now)
    return changed


def readdress(tx: Tx, port: Port, wanted: Sequence[Mapping[str, Any]], now: float) -> Port:
    """Give a port other addresses; those that it keeps are not touched, floating IPs of lost ones are let go."""
    kept = [fixed for fixed in port.fixed_ips if any(_means(one, fixed) for one in wanted)]
    more = [one for one in wanted if not any(_means(one, fixed) for fixed in kept)]
    for fixed in port.fixed_ips:
        if fixed not in kept:
            ADDRESSES.delete(tx, network_id=port.network_id, ip=fixed.ip_address)
    let_go_of_port(tx, port.id, now, kept=tuple(fixed.ip_address for fixed in kept))
    address.check_count(port, len(wanted))
    fresh = address.take_wanted(tx, port, subnets_of(tx, port.network_id), more)
    changed = _with_addresses(tx, port, kept + fresh)
    poke_if_placed(tx, changed, now)
    return changed


def drop_addresses(tx: Tx, port: Port, subnet_id: str, now: float) -> None:
    """Take a port's addresses of a subnet that is going."""
    kept = [fixed for fixed in port.fixed_ips if fixed.subnet_id != subnet_id]
    ADDRESSES.delete(tx, port_id=port.id, subnet_id=subnet_id)
    let_go_of_port(tx, port.id, now, kept=tuple(fixed.ip_address for fixed in kept))
    poke_if_placed(tx, _with_addresses(tx, port, kept), now)


def _means(wanted: Mapping[str, Any], fixed: FixedIp) -> bool:
    """Whether a request for an address is met by one that the port has."""
    subnet_id, ip = wanted.get("subnet_id"), wanted.get("ip_address")
    if ip and address.sortable(ip) != address.sortable(fixed.ip_address):
        return False
    return (not subnet_id or subnet_id == fixed.subnet_id) and bool(ip or subnet_id)


def poke_if_placed(tx: Tx, port: Port, now: float) -> None:
    """A port that stands, or shall, and all that depends on it look again."""
    if port.node_id is None and port.placed_on is None:
        return
    if port.device_owner in OF_ROUTERS:
        poke(tx, "router", port.device_id, now)
        poke(tx, "network", port.network_id, now)
    else:
        poke(tx, "port", port.id, now)
        poke_around(tx, port, now)


def bind(tx: Tx, port: Port, node: Node, now: float) -> Port:
    """Wish a port on a node: its network's segment and its filters are made there."""
    if port.node_id == node.id:
        return port
    PORTS.update(tx, {"node_id": node.id, "host": node.name, "updated_at": now}, id=port.id)
    changed = structs.replace(port, node_id=node.id, host=node.name)
    poke(tx, "port", port.id, now)
    poke(tx, "network", port.network_id, now)  # at once: the port waits for it
    poke_groups(tx, changed, now)
    return changed


def unbind(tx: Tx, port: Port, now: float) -> Port:
    """Wish a port nowhere."""
    if port.node_id is None and not port.host:
        return port
    PORTS.update(tx, {"node_id": None, "host": "", "updated_at": now}, id=port.id)
    poke(tx, "port", port.id, now)
    poke_around(tx, port, now)
    return structs.replace(port, node_id=None, host="")


def set_device(tx: Tx, port: Port, device_id: str, device_owner: str) -> Port:
    """Give a port to a router: it has no security groups from now on, as the router filters nothing."""
    tx.run("delete from port_groups where port_id = ?", port.id)
    changed = {"device_id": device_id, "device_owner": device_owner, "security_groups": list[str](),
               "port_security_enabled": False, "allowed_address_pairs": list[str]()}  # fmt: skip
    PORTS.update(tx, changed, id=port.id)
    return structs.replace(port, **changed)


def node_named(tx: Tx, name: str) -> Node | None:
    """The node that the API calls a host of this name."""
    return NODES.get(tx, name=name)


def remove_port(tx: Tx, port: Port, now: float) -> None:
    """Delete a port: its addresses are free at once; what stands of it on a node goes first, then its row."""
    let_go_of_port(tx, port.id, now)
    ADDRESSES.delete(tx, port_id=port.id)
    if port.node_id is not None or port.placed_on is not None:
        poke_if_placed(tx, port, now)
    tx.run("delete from port_groups where port_id = ?", port.id)
    if port.device_owner.startswith("compute:"):
        poke(tx, "server", port.device_id, now)  # its guest must let go of the tap
    if port.placed_on is None:
        PORTS.delete(tx, id=port.id)
        forget(tx, "port", port.id)
    else:
        PORTS.update(tx, {"deleting": True, "node_id": None, "fixed_ips": [], "security_groups": []}, id=port.id)


def sync_dhcp_port(tx: Tx, network: Network, now: float) -> None:
    """The port of a network's DHCP server has an address of each subnet with DHCP, and goes with the last one."""
    subnets = [subnet for subnet in subnets_of(tx, network.id) if subnet.enable_dhcp]
    port = PORTS.get(tx, network_id=network.id, device_owner=DHCP, deleting=False)
    if not subnets:
        if port is not None:
            remove_port(tx, port, now)
        return
    if port is None:
        port = new_port(
            network, now, project_id=network.project_id, mac_address=free_mac(tx, network.id), device_owner=DHCP,
            device_id=f"dhcp-{network.id}", port_security_enabled=False,
        )  # fmt: skip
        PORTS.insert(tx, port)
    kept = [fixed for fixed in port.fixed_ips if any(subnet.id == fixed.subnet_id for subnet in subnets)]
    for subnet in subnets:
        if not any(fixed.subnet_id == subnet.id for fixed in kept):
            kept += _dhcp_address(tx, port, subnet)
    for fixed in port.fixed_ips:
        if fixed not in kept:
            ADDRESSES.delete(tx, network_id=network.id, ip=fixed.ip_address)
    if kept != port.fixed_ips:
        _with_addresses(tx, port, kept)


def _dhcp_address(tx: Tx, port: Port, subnet: Subnet) -> list[FixedIp]:
    """An address for the DHCP server; a subnet without a free one is not served."""
    try:
        return address.take_wanted(tx, port, [subnet], [{"subnet_id": subnet.id}])
    except Conflicted:
        return []
