"""What a subnet may be: pure checks of ranges, gateways, pools and modes, and the defaults they have.

Sources: Networking API reference, "Subnets"; RFC 4291 (IPv6 addressing), RFC 4862 (SLAAC).
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from pileus.core.errors import BadRequest, Conflicted
from pileus.network.subnet.rows import AUTOMATIC, Net, Pool, Route, Subnet

MOST_DNS = 5
MOST_ROUTES = 20
_SMALLEST = {4: 30, 6: 126}  # prefix lengths that still have room for a DHCP server


def invalid(why: str, kind: str = "InvalidInput") -> BadRequest:
    """Networking's refusal of a value."""
    return BadRequest(f"Invalid input for operation: {why}", kind=kind)


def network_of(cidr: str, version: int) -> Net:
    """The range of a subnet; host bits, the wrong version and special ranges are refused."""
    net = ipaddress.ip_network(cidr, strict=False)
    if net.version != version:
        raise invalid(f"cidr {cidr} does not match ip_version {version}.")
    if str(ipaddress.ip_interface(cidr).ip) != str(net.network_address):
        raise invalid(f"'{cidr}' isn't a recognized IP subnet cidr, '{net}' is recommended.")
    special = net.is_multicast or net.is_loopback or (net.version == 4 and net.is_link_local)
    if special or net.network_address.is_unspecified:
        raise invalid(f"cidr {cidr} is a range that no subnet can have.")
    return net


def check_modes(version: int, ra: str | None, address: str | None, net: Net, *, dhcp: bool) -> None:
    """IPv6 modes: only with DHCP enabled, alike where both are given, and /64 where guests make addresses."""
    if version == 4:
        if ra or address:
            raise invalid("ipv6_ra_mode and ipv6_address_mode are only for ip_version 6.")
        return
    if (ra or address) and not dhcp:
        raise invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False.")
    if ra and address and ra != address:
        raise invalid(f"ipv6_ra_mode set to '{ra}' with ipv6_address_mode set to '{address}' is not valid.")
    if (ra in AUTOMATIC or address in AUTOMATIC) and net.prefixlen != 64:
        raise invalid(f"Invalid CIDR {net} for IPv6 address mode. OpenStack uses the EUI-64 address format: use /64.")


def check_size(net: Net, *, dhcp: bool) -> None:
    """A subnet with DHCP has room for a server and a guest."""
    if dhcp and net.prefixlen > _SMALLEST[net.version]:
        raise invalid("Subnet has a prefix length that is incompatible with DHCP service enabled.")


def gateway_of(net: Net, given: Mapping[str, Any]) -> str | None:
    """The gateway as given, none for null, else the first address of the range."""
    if "gateway_ip" not in given:
        number = int(net.network_address) + (1 if net.num_addresses > 2 else 0)
        return str(type(net.network_address)(number))
    return None if given["gateway_ip"] is None else check_gateway(net, given["gateway_ip"])


def check_gateway(net: Net, text: str) -> str:
    """The canonical form of a gateway that hosts of the range can have."""
    address = ipaddress.ip_address(text)
    if address.version != net.version:
        raise invalid(f"gateway_ip {text} does not match the ip_version of the subnet.")
    edges = net.version == 4 and net.num_addresses > 2 and address in (net.network_address, net.broadcast_address)
    if edges or address.is_multicast or address.is_unspecified:
        raise invalid("Gateway is not valid on subnet.")
    return str(address)


def hosts(net: Net) -> tuple[int, int]:
    """The first and the last number that a host may have."""
    first, last = int(net.network_address), int(net.broadcast_address)
    if net.num_addresses <= 2:
        return first, last
    return first + 1, last - (1 if net.version == 4 else 0)


def default_pools(net: Net, gateway: str | None) -> list[Pool]:
    """All addresses of hosts but the gateway's."""
    first, last = hosts(net)
    make = type(net.network_address)
    out = int(ipaddress.ip_address(gateway)) if gateway else -1
    if not first <= out <= last:
        return [Pool(str(make(first)), str(make(last)))]
    parts = [(first, out - 1), (out + 1, last)]
    return [Pool(str(make(low)), str(make(high))) for low, high in parts if low <= high]


def pools_of(net: Net, given: Iterable[Mapping[str, str]], gateway: str | None) -> list[Pool]:
    """The pools of a request, checked: inside of the range, in order, apart, without the gateway."""
    first, last = hosts(net)
    found: list[tuple[int, int]] = []
    for one in given:
        start, end = ipaddress.ip_address(one["start"]), ipaddress.ip_address(one["end"])
        if start.version != net.version or end.version != net.version or int(start) > int(end):
            raise BadRequest(f"The allocation pool {start}-{end} is not valid.", kind="InvalidAllocationPool")
        if not first <= int(start) <= int(end) <= last:
            raise BadRequest(
                f"The allocation pool {start}-{end} spans beyond the subnet cidr {net}.",
                kind="OutOfBoundsAllocationPool",
            )
        found.append((int(start), int(end)))
    found.sort()
    for (_, before), (after, _) in pairwise(found):
        if after <= before:
            raise Conflicted(f"Found overlapping allocation pools in subnet {net}.", kind="OverlappingAllocationPools")
    make = type(net.network_address)
    pools = [Pool(str(make(low)), str(make(high))) for low, high in found]
    check_gateway_outside(pools, gateway)
    return pools


def check_gateway_outside(pools: Sequence[Pool], gateway: str | None) -> None:
    """The gateway's address must not be one that is given out."""
    if gateway is None:
        return
    number = int(ipaddress.ip_address(gateway))
    for pool in pools:
        low, high = ipaddress.ip_address(pool.start), ipaddress.ip_address(pool.end)
        if low.version == ipaddress.ip_address(gateway).version and int(low) <= number <= int(high):
            raise Conflicted(
                f"Gateway ip {gateway} conflicts with allocation pool {pool.start}-{pool.end}.",
                kind="GatewayConflictWithAllocationPools",
            )


def dns_of(given: Iterable[str] | None) -> list[str]:
    """Name servers in their canonical form, each once."""
    found = [str(ipaddress.ip_address(text)) for text in given or ()]
    if len(set(found)) != len(found):
        raise invalid("dns_nameservers holds the same address twice.")
    if len(found) > MOST_DNS:
        raise BadRequest(
            f"Unable to complete operation: the number of DNS nameservers exceeds the limit {MOST_DNS}.",
            kind="DNSNameServersExhausted",
        )
    return found


def routes_of(version: int, given: Iterable[Mapping[str, str]] | None) -> list[Route]:
    """Host routes in their canonical form."""
    found = []
    for one in given or ():
        net, via = ipaddress.ip_network(one["destination"], strict=False), ipaddress.ip_address(one["nexthop"])
        if net.version != version or via.version != version:
            raise invalid(
                f"the host route {one['destination']} by {one['nexthop']} does not match ip_version {version}."
            )
        found.append(Route(str(net), str(via)))
    if len(found) > MOST_ROUTES:
        raise BadRequest(
            f"Unable to complete operation: the number of host routes exceeds the limit {MOST_ROUTES}.",
            kind="HostRoutesExhausted",
        )
    return found


def check_apart(net: Net, others: Iterable[Subnet], network_id: str) -> None:
    """Subnets of one network do not overlap."""
    for other in others:
        there = other.net
        if there.version == net.version and there.overlaps(net):
            raise invalid(
                f"Requested subnet with cidr: {net} for network: {network_id} overlaps with another subnet:"
                f" {other.cidr}."
            )
