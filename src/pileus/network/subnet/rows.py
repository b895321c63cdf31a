"""Subnets in the database."""

import ipaddress
from collections.abc import Iterable

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import NotFound
from pileus.core.paging import Listing
from pileus.db.connect import Tx
from pileus.db.rows import Table

Net = ipaddress.IPv4Network | ipaddress.IPv6Network
AUTOMATIC = ("slaac", "dhcpv6-stateless")  # address modes in which the guest makes its address from its MAC


class Pool(Struct, frozen=True):
    """Addresses that are given out, both ends included."""

    start: str
    end: str


class Route(Struct, frozen=True):
    """A static route of hosts or routers."""

    destination: str
    nexthop: str


class Subnet(Struct, frozen=True, kw_only=True):
    """A range of addresses on a network."""

    id: str
    project_id: str
    network_id: str
    network_project_id: str
    shared: bool = False  # its network is
    name: str = ""
    description: str = ""
    ip_version: int
    cidr: str
    gateway_ip: str | None = None
    enable_dhcp: bool = True
    dns_nameservers: list[str] = []
    host_routes: list[Route] = []
    allocation_pools: list[Pool] = []
    ipv6_ra_mode: str | None = None
    ipv6_address_mode: str | None = None
    service_types: list[str] = []
    subnetpool_id: str | None = None
    dns_publish_fixed_ip: bool = False
    tags: list[str] = []
    revision: int = 0
    created_at: float
    updated_at: float

    @property
    def net(self) -> Net:
        return ipaddress.ip_network(self.cidr)

    @property
    def automatic(self) -> bool:
        """Whether guests make their address from their MAC (RFC 4862)."""
        return self.ipv6_address_mode in AUTOMATIC or self.ipv6_ra_mode in AUTOMATIC

    def prefixed(self, ip: str) -> str:
        """An address of the subnet with its prefix length: 10.0.0.1/24."""
        return f"{ip}/{self.cidr.partition('/')[2]}"


SUBNETS = Table(Subnet, "subnets")


def subnets_of(tx: Tx, network_id: str) -> list[Subnet]:
    """The subnets of a network, oldest first."""
    return SUBNETS.all(tx, network_id=network_id, order="subnets.created_at, subnets.id")


def subnets_by_id(tx: Tx, ids: Iterable[str]) -> dict[str, Subnet]:
    """Several subnets at once."""
    return {subnet.id: subnet for subnet in SUBNETS.all(tx, id=tuple(set(ids)))}


def seen_subnets(ctx: Context) -> Listing[Subnet]:
    """The subnets that the caller may know of: its own, those of its networks, those of shared networks."""
    listing = Listing(SUBNETS).where(
        "not exists (select 1 from networks n where n.id = subnets.network_id and n.deleting = 1)"
    )
    if not ctx.allows("get_subnet", {}):
        mine = ctx.caller.project_id
        listing.where("subnets.project_id = ? or subnets.network_project_id = ? or subnets.shared = 1", mine, mine)
    return listing


def load_subnet(ctx: Context, subnet_id: str) -> Subnet:
    """A subnet that the caller may know of; raises NotFound."""
    rows = seen_subnets(ctx).equals("id", [subnet_id]).page(ctx.tx, sort=[("id", False)], limit=1)
    if not rows:
        raise NotFound(f"Subnet {subnet_id} could not be found.", kind="SubnetNotFound")
    return rows[0]
