"""Ports in the database, and what others ask about them."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import NotFound
from pileus.core.paging import Listing
from pileus.core.reconcile import poke
from pileus.db.connect import Tx
from pileus.db.rows import Table

DHCP = "network:dhcp"
LEG = "network:router_interface"
GATEWAY = "network:router_gateway"
FLOATING = "network:floatingip"
OF_ROUTERS = (LEG, GATEWAY)
SOON = 0.1  # seconds: pokes of what many ports share come together


class FixedIp(Struct, frozen=True):
    """An address of a port."""

    subnet_id: str
    ip_address: str


class Pair(Struct, frozen=True):
    """What a port may send besides its own addresses."""

    ip_address: str  # or a CIDR
    mac_address: str


class DhcpOption(Struct, frozen=True):
    """An extra DHCP option of one port."""

    opt_name: str
    opt_value: str
    ip_version: int = 4


class Port(Struct, frozen=True, kw_only=True):
    """A place at which something is plugged into a network."""

    id: str
    project_id: str
    network_id: str
    network_project_id: str
    name: str = ""
    description: str = ""
    mac_address: str
    admin_state_up: bool = True
    device_id: str = ""
    device_owner: str = ""
    fixed_ips: list[FixedIp] = []  # as in `addresses`, which keeps them unique
    security_groups: list[str] = []  # as in `port_groups`
    port_security_enabled: bool = True
    allowed_address_pairs: list[Pair] = []
    extra_dhcp_opts: list[DhcpOption] = []
    dns_name: str = ""
    dns_domain: str = ""
    vnic_type: str = "normal"
    binding_profile: dict[str, Any] = {}
    host: str = ""  # binding:host_id: the name of the node
    propagate_uplink_status: bool = True
    node_id: str | None = None  # where it shall stand
    tags: list[str] = []
    revision: int = 0
    created_at: float
    updated_at: float
    deleting: bool = False
    status: str = "DOWN"
    placed_on: str | None = None  # the node that may hold a trace of it
    up: bool = False
    device: str = ""
    netns: str = ""
    fault: str = ""
    told: str = ""  # what the DHCP server of its network knows of it; written by the network's life alone

    @property
    def ips(self) -> tuple[str, ...]:
        return tuple(fixed.ip_address for fixed in self.fixed_ips)


def dhcp_entry(port: Port, served_by: str) -> str:
    """What `told` is once the DHCP server of its network, on this node, answers to the port as it is now."""
    return " ".join((served_by, port.mac_address, *port.ips))


class Address(Struct, frozen=True, kw_only=True):
    """An address in use; `number` is the address as 32 hexadecimal digits, which sort as addresses do."""

    network_id: str
    ip: str
    subnet_id: str
    port_id: str
    number: str


PORTS = Table(Port, "ports")
ADDRESSES = Table(Address, "addresses", key=("network_id", "ip"))


def seen_ports(ctx: Context) -> Listing[Port]:
    """The ports that the caller may know of: its own and those on its networks."""
    listing = Listing(PORTS).where("ports.deleting = 0")
    if not ctx.allows("get_port", {}):
        mine = ctx.caller.project_id
        listing.where("ports.project_id = ? or ports.network_project_id = ?", mine, mine)
    return listing


def load_port(ctx: Context, port_id: str) -> Port:
    """A port that the caller may know of; raises NotFound."""
    rows = seen_ports(ctx).equals("id", [port_id]).page(ctx.tx, sort=[("id", False)], limit=1)
    if not rows:
        raise port_not_found(port_id)
    return rows[0]


def port_not_found(port_id: str) -> NotFound:
    """The refusal for a port that is not there for the caller."""
    return NotFound(f"Port {port_id} could not be found.", kind="PortNotFound")


def find_port(tx: Tx, port_id: str) -> Port | None:
    """A port that is not being deleted."""
    return PORTS.get(tx, id=port_id, deleting=False)


def ports_by_id(tx: Tx, ids: Iterable[str]) -> dict[str, Port]:
    """Several ports at once, those being deleted left out."""
    return {port.id: port for port in PORTS.all(tx, id=tuple(set(ids)), deleting=False)}


def poke_around(tx: Tx, port: Port, now: float) -> None:
    """What a port's place or addresses matter to looks again: its network and groups."""
    poke(tx, "network", port.network_id, now + SOON)
    poke_groups(tx, port, now)


def poke_groups(tx: Tx, port: Port, now: float) -> None:
    """The groups of a port, and those that its rules name, look again."""
    for group_id in port.security_groups:
        poke(tx, "security_group", group_id, now + SOON)
    named = tx.all(
        "select distinct remote_group_id from security_group_rules"
        f" where remote_group_id is not null and security_group_id in ({', '.join('?' * len(port.security_groups))})",
        *port.security_groups,
    ) if port.security_groups else []  # fmt: skip
    for (group_id,) in named:
        if group_id not in port.security_groups:
            poke(tx, "security_group", group_id, now + SOON)
