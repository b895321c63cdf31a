"""Which addresses a port gets: chosen by the request, or the next free one of a pool.

The primary key of `addresses` is what keeps an address from being given twice; choosing only makes
a collision rare.  Sources: Networking API reference, "Create port"; RFC 4291 appendix A (EUI-64).
"""

import ipaddress
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.db.connect import Conflict, Tx
from pileus.network.port.rows import ADDRESSES, OF_ROUTERS, Address, FixedIp, Port
from pileus.network.subnet.rows import Subnet

MOST = 5  # addresses of one port, unless networking itself owns it
_TRIES = 8  # random picks in a pool whose last address is taken, before all of it is read


def sortable(ip: str | int) -> str:
    """An address as 32 hexadecimal digits."""
    return f"{int(ipaddress.ip_address(ip)) if isinstance(ip, str) else ip:032x}"


def eui64(cidr: str, mac: str) -> str:
    """The address that a guest makes of its MAC in a prefix."""
    octets = bytearray(int(part, 16) for part in mac.split(":"))
    octets[0] ^= 2
    suffix = int.from_bytes(bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]]), "big")
    net = ipaddress.ip_network(cidr)
    return str(ipaddress.ip_address(int(net.network_address) | suffix))


def _text(subnet: Subnet, number: int) -> str:
    return str(ipaddress.IPv4Address(number) if subnet.ip_version == 4 else ipaddress.IPv6Address(number))


def next_free(tx: Tx, subnet: Subnet) -> str | None:
    """A free address of the subnet's pools: the one after the highest in use, else one from a gap."""
    ranges = [
        (int(ipaddress.ip_address(pool.start)), int(ipaddress.ip_address(pool.end))) for pool in subnet.allocation_pools
    ]
    for low, high in ranges:
        row = tx.one(
            "select max(number) from addresses where subnet_id = ? and number between ? and ?",
            subnet.id, sortable(low), sortable(high),
        )  # fmt: skip
        number = int(row[0], 16) + 1 if row and row[0] else low
        if number <= high:
            return _text(subnet, number)
    for low, high in ranges:
        number = _gap(tx, subnet, low, high)
        if number:
            return _text(subnet, number)
    return None


def _gap(tx: Tx, subnet: Subnet, low: int, high: int) -> int:
    """A free number of a pool whose highest one is taken; 0 when it is full."""
    for _ in range(_TRIES if high - low > 64 else 0):
        number = random.randint(low, high)  # noqa: S311 (no secret)
        if (
            tx.one("select 1 from addresses where network_id = ? and ip = ?", subnet.network_id, _text(subnet, number))
            is None
        ):
            return number
    expected = low
    for (number_text,) in tx.all(
        "select number from addresses where subnet_id = ? and number between ? and ? order by number",
        subnet.id, sortable(low), sortable(high),
    ):  # fmt: skip
        if int(number_text, 16) != expected:
            return expected
        expected += 1
    return expected if expected <= high else 0


def take(tx: Tx, port: Port, subnet: Subnet, ip: str) -> FixedIp:
    """Give an address to a port whose row stands; raises Conflicted when another has it."""
    row = Address(network_id=port.network_id, ip=ip, subnet_id=subnet.id, port_id=port.id, number=sortable(ip))
    try:
        ADDRESSES.insert(tx, row)
    except Conflict:
        raise already_allocated(ip, subnet.id) from None
    return FixedIp(subnet_id=subnet.id, ip_address=ip)


def already_allocated(ip: str, subnet_id: str) -> Conflicted:
    """The refusal of an address that another port has."""
    return Conflicted(f"IP address {ip} already allocated in subnet {subnet_id}", kind="IpAddressAlreadyAllocated")


def take_next(tx: Tx, port: Port, subnet: Subnet) -> FixedIp | None:
    """Give a port the next free address of a subnet; None when it has none left."""
    tx.lock(f"subnet/{subnet.id}")
    ip = next_free(tx, subnet)
    return None if ip is None else take(tx, port, subnet, ip)


def take_default(tx: Tx, port: Port, subnets: Sequence[Subnet]) -> list[FixedIp]:
    """What a port gets that asks for nothing: one IPv4 and one IPv6 address, and all that it makes itself."""
    usable = for_service(subnets, port.device_owner)
    by_version: dict[int, list[Subnet]] = {}
    taken = []
    for subnet in usable:
        if subnet.automatic and port.device_owner not in OF_ROUTERS:
            taken.append(take(tx, port, subnet, eui64(subnet.cidr, port.mac_address)))
        else:
            by_version.setdefault(subnet.ip_version, []).append(subnet)
    for candidates in by_version.values():
        found = next((fixed for s in candidates if (fixed := take_next(tx, port, s)) is not None), None)
        if found is None:
            raise none_left(port.network_id)
        taken.append(found)
    if subnets and not usable:
        raise Conflicted(
            f"No valid service subnet for the given device owner, network_id: {port.network_id}, "
            f"device_owner: {port.device_owner}.",
            kind="IpAddressGenerationFailureNoMatchingSubnet",
        )
    return sorted(taken, key=lambda fixed: ":" in fixed.ip_address)  # IPv4 first, as clients take the first


def none_left(network_id: str) -> Conflicted:
    """The refusal when every pool is used up."""
    return Conflicted(f"No more IP addresses available on network {network_id}.", kind="IpAddressGenerationFailure")


def for_service(subnets: Sequence[Subnet], device_owner: str) -> list[Subnet]:
    """The subnets meant for this kind of device; those without service types are for all (service-types)."""
    special = [s for s in subnets if any(device_owner.startswith(t) for t in s.service_types)]
    return special or [s for s in subnets if not s.service_types]


def take_wanted(tx: Tx, port: Port, subnets: Sequence[Subnet], wanted: Iterable[Mapping[str, Any]]) -> list[FixedIp]:
    """Give a port the addresses that a request names, by subnet, by address, or both."""
    asked = list(wanted)
    check_count(port, len(asked))
    by_id = {subnet.id: subnet for subnet in subnets}
    taken: list[FixedIp] = []
    # Named addresses come first, so that an automatic choice never takes one of them.
    for one in sorted(asked, key=lambda fixed: not fixed.get("ip_address")):
        subnet = _subnet_for(port, by_id, one)
        ip = one.get("ip_address")
        if ip:
            taken.append(take(tx, port, subnet, check_usable(port, subnet, str(ipaddress.ip_address(ip)))))
        elif subnet.automatic and port.device_owner not in OF_ROUTERS:
            taken.append(take(tx, port, subnet, eui64(subnet.cidr, port.mac_address)))
        else:
            found = take_next(tx, port, subnet)
            if found is None:
                raise none_left(port.network_id)
            taken.append(found)
    return taken


def check_count(port: Port, count: int) -> None:
    """Refuse more addresses than a port may have."""
    if count > MOST and not port.device_owner.startswith("network:"):
        raise BadRequest(
            "Invalid input for operation: Exceeded maximum amount of fixed ips per port.", kind="InvalidInput"
        )


def _subnet_for(port: Port, subnets: Mapping[str, Subnet], wanted: Mapping[str, Any]) -> Subnet:
    subnet_id, ip = wanted.get("subnet_id"), wanted.get("ip_address")
    if subnet_id:
        found = subnets.get(subnet_id)
        if found is None:
            raise NotFound(f"Subnet {subnet_id} could not be found.", kind="SubnetNotFound")
        return found
    if not ip:
        raise BadRequest(
            "Invalid input for operation: IP allocation requires subnet_id or ip_address.", kind="InvalidInput"
        )
    address = ipaddress.ip_address(ip)
    for subnet in subnets.values():
        if address in subnet.net:
            return subnet
    raise BadRequest(
        f"IP address {ip} is not a valid IP for any of the subnets on the specified network.",
        kind="InvalidIpForNetwork",
    )


def check_usable(port: Port, subnet: Subnet, ip: str) -> str:
    """Refuse an address that is not of the subnet, is the subnet's own, or that a guest will not make there."""
    address = ipaddress.ip_address(ip)
    net = subnet.net
    outside = address not in net
    if outside or (net.num_addresses > 2 and address == net.network_address and port.device_owner not in OF_ROUTERS):
        raise _invalid(ip)
    if subnet.ip_version == 4 and net.num_addresses > 2 and address in (net.network_address, net.broadcast_address):
        raise _invalid(ip)
    if subnet.automatic and port.device_owner not in OF_ROUTERS and ip != eui64(subnet.cidr, port.mac_address):
        raise BadRequest(
            f"IPv6 address {ip} can not be directly assigned to a port on subnet {subnet.id} as the subnet is "
            "configured for automatic addresses",
            kind="AllocationOnAutoAddressSubnet",
        )
    return ip


def _invalid(ip: str) -> BadRequest:
    return BadRequest(f"IP address {ip} is not a valid IP for the specified subnet.", kind="InvalidIpForSubnet")
