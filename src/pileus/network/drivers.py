"""What networking needs of a machine: segments, ports, DHCP, routers, as real as the driver makes them.

Each spec is the whole wish for one thing; ids are the API's.  A driver derives every name on
the machine from the id (`device_name`), so that a repeat finds its own work.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct


def device_name(prefix: str, resource_id: str) -> str:
    """The name of a network device: at most 15 characters (IFNAMSIZ), `prefix` has three or fewer."""
    return f"{prefix}{resource_id[:11]}"


class Subnet(Struct, frozen=True, kw_only=True):
    """One range of addresses on a segment and what DHCP or router advertisements say about it."""

    id: str
    cidr: str
    ip_version: Literal[4, 6]
    gateway_ip: str | None = None
    dhcp: bool = True
    dns: tuple[str, ...] = ()
    host_routes: tuple[tuple[str, str], ...] = ()  # (destination CIDR, next hop)
    ra_mode: Literal["", "slaac", "dhcpv6-stateful", "dhcpv6-stateless"] = ""
    address_mode: Literal["", "slaac", "dhcpv6-stateful", "dhcpv6-stateless"] = ""


class Host(Struct, frozen=True, kw_only=True):
    """What DHCP answers to one MAC address."""

    port_id: str
    mac: str
    ips: tuple[str, ...]
    hostname: str = ""
    options: tuple[tuple[str, str, int], ...] = ()  # (name or number, value, IP version)


class Peer(Struct, frozen=True, kw_only=True):
    """A port of the same network on another node."""

    mac: str
    ips: tuple[str, ...]
    endpoint: str  # VXLAN tunnel endpoint address of its node


class Segment(Struct, frozen=True, kw_only=True):
    """A network on this node: a broadcast domain and, where `serves`, its DHCP and metadata."""

    id: str
    kind: Literal["vxlan", "flat"]
    vni: int = 0  # vxlan
    physical: str = ""  # flat: name of the physical network ("public")
    mtu: int = 1500
    endpoint: str = ""  # this node's own tunnel endpoint address
    endpoints: tuple[str, ...] = ()  # of all other nodes that have a port of it
    peers: tuple[Peer, ...] = ()
    serves: bool = False  # this node runs DHCP and metadata for the whole network
    dhcp_mac: str = ""
    dhcp_ips: tuple[str, ...] = ()  # addresses with prefix of the DHCP port: "10.0.0.2/24"
    subnets: tuple[Subnet, ...] = ()
    hosts: tuple[Host, ...] = ()
    domain: str = "novalocal"


class Rule(Struct, frozen=True, kw_only=True):
    """One rule of a security group: what it lets pass (everything else is dropped)."""

    direction: Literal["ingress", "egress"]
    ethertype: Literal["IPv4", "IPv6"]
    protocol: str = ""  # "" any, else a name or a number as a string
    port_min: int | None = None  # ICMP: the type
    port_max: int | None = None  # ICMP: the code
    remote_cidr: str = ""
    remote_group: str = ""  # id of the group whose members may be the other end


class Port(Struct, frozen=True, kw_only=True):
    """A guest's port on this node."""

    id: str
    network_id: str
    mac: str
    ips: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()  # allowed (MAC, address or CIDR) besides its own
    port_security: bool = True
    rules: tuple[Rule, ...] = ()
    admin_up: bool = True
    mtu: int = 1500


class PortSeen(Struct, frozen=True, kw_only=True):
    """A port made ready: the tap that a guest may open, and where."""

    id: str
    device: str
    netns: str
    up: bool  # filters stand and the tap is in its bridge


class Group(Struct, frozen=True, kw_only=True):
    """The addresses that "remote group" means at this moment."""

    id: str
    addresses: tuple[str, ...]  # IPv4 and IPv6 together


class Leg(Struct, frozen=True, kw_only=True):
    """An interface of a router."""

    port_id: str
    network_id: str
    mac: str
    ips: tuple[str, ...]  # with prefix: "10.0.0.1/24"
    mtu: int = 1500
    advertise: tuple[Subnet, ...] = ()  # IPv6 subnets whose prefix it advertises


class Router(Struct, frozen=True, kw_only=True):
    """A router on this node."""

    id: str
    legs: tuple[Leg, ...] = ()
    gateway: Leg | None = None
    next_hops: tuple[str, ...] = ()  # gateways of the external subnets (one for each IP version)
    snat: bool = True
    floating: tuple[tuple[str, str], ...] = ()  # (floating address, fixed address)
    routes: tuple[tuple[str, str], ...] = ()  # extra (destination CIDR, next hop)
    admin_up: bool = True


class Switch(Protocol):
    """Carries packets.  ensure_ answers True when all stands, None while under way."""

    def netns(self) -> str:
        """The namespace that holds bridges and taps ("" is the agent's own)."""

    def ensure_segment(self, segment: Segment) -> bool | None: ...

    def remove_segment(self, segment_id: str) -> bool: ...

    def ensure_port(self, port: Port) -> PortSeen | None:
        """Filters first, then the tap joins its bridge; the segment must stand."""

    def remove_port(self, port_id: str) -> bool: ...

    def ensure_group(self, group: Group) -> bool:
        """Set the members of a remote group, live; flows of members that left are cut."""

    def remove_group(self, group_id: str) -> bool: ...

    def ensure_router(self, router: Router) -> bool | None: ...

    def remove_router(self, router_id: str) -> bool: ...

    def list_things(self) -> Mapping[str, Sequence[str]]:
        """Ids of what this node has a trace of: {"segment": […], "port": […], "router": […], "group": […]}."""


class OwnSwitch(Switch, Protocol):
    """A switch as its own node holds it."""

    def look_after(self) -> None:
        """Start again what died by itself and say so in the log; cheap, since it is called every few seconds."""
