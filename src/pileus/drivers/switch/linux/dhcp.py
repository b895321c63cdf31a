"""Compiles what dnsmasq serves: DHCP, DNS of the network's own names, router advertisements; pure.

Nothing from a request reaches a configuration line unchecked: a value that would end the line or
begin another field is a ValueError.
"""

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from pileus.network.drivers import Host, Leg, Segment, Subnet

from . import names
from .names import DHCP_DEVICE, METADATA4, Interface, check_mac, network

LEASE = 86400  # seconds
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")
_OPTION = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f,\"#\\]")
_RA = {"slaac": "ra-only", "dhcpv6-stateless": "ra-stateless", "dhcpv6-stateful": "static"}


class Served(Struct, frozen=True, kw_only=True):
    """Files of one dnsmasq: `conf` needs a restart, and so does the end of hosts with tags; the rest a SIGHUP."""

    conf: str
    hosts: str = ""
    options: str = ""
    names: str = ""
    refused: tuple[str, ...] = ()  # what a host asked for and cannot have


def segment(wish: Segment, folder: str) -> Served:
    """What the DHCP namespace of a segment serves; `folder` will hold the files."""
    own = [names.interface(text) for text in wish.dhcp_ips]
    lines = [
        *_common(folder),
        f"interface={DHCP_DEVICE}",
        "bind-interfaces",
        "except-interface=lo",
        "dhcp-authoritative",
        "dhcp-lease-max=65536",
        f"dhcp-hostsfile={folder}/hosts",
        f"dhcp-optsfile={folder}/options",
        f"addn-hosts={folder}/names",
        f"domain={_domain(wish.domain)}",
        f"local=/{_domain(wish.domain)}/",
        f"dhcp-option-force=option:mtu,{int(wish.mtu)}",
        *_solicited(wish.subnets),
    ]
    for number, subnet in enumerate(wish.subnets):
        lines += _subnet(f"s{number}", subnet, own)
    hosts: list[str] = []
    options: list[str] = []
    known: list[str] = []
    refused: list[str] = []
    for host in wish.hosts:
        try:
            entry, extra, named = _host(host, wish)
        except ValueError as error:
            refused.append(f"port {host.port_id}: {error}")
            continue
        hosts += entry
        options += extra
        known += named
    return Served(
        conf=_text(lines),
        hosts=_text(hosts),
        options=_text(options),
        names=_text(known),
        refused=tuple(refused),
    )


def router(legs: Sequence[Leg], devices: Sequence[str], folder: str) -> Served:
    """Router advertisements on the legs that have any (RFC 4861); no DHCP is answered there."""
    lines = [*_common(folder), "enable-ra"]
    for leg, device in zip(legs, devices, strict=True):
        if not leg.advertise:
            continue
        lines += [f"interface={device}", f"ra-param={device},mtu:{int(leg.mtu)},30,1800"]
        for subnet in leg.advertise:
            prefix = network(subnet.cidr)
            mode = _RA[subnet.ra_mode or "slaac"]
            lines.append(f"dhcp-range={prefix.network_address},{mode},{prefix.prefixlen},{LEASE}")
            lines += [f"dhcp-option=option6:dns-server,{_v6(subnet.dns)}"] if _v6(subnet.dns) else []
    return Served(conf=_text(lines))


def addresses_of(hosts: Iterable[Host]) -> dict[str, str]:
    """Address → MAC, as leases would remember them."""
    return {ip: host.mac.lower() for host in hosts for ip in host.ips}


def _common(folder: str) -> list[str]:
    return [
        "user=nobody",
        "group=nogroup",
        "no-resolv",
        "no-hosts",
        "no-poll",
        "leasefile-ro",
        f"pid-file={folder}/pid",
    ]


def _text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _solicited(subnets: Sequence[Subnet]) -> list[str]:
    """Advertise prefixes without being a default router (lifetime 0): the router's word, if there is one."""
    if not any(subnet.ra_mode for subnet in subnets if subnet.ip_version == 6):
        return []
    return ["enable-ra", f"ra-param={DHCP_DEVICE},30,0"]


def _subnet(tag: str, subnet: Subnet, own: Sequence[Interface]) -> list[str]:
    prefix = network(subnet.cidr)
    mine = [str(one.ip) for one in own if one.ip in prefix]
    if prefix.version == 6:
        return _subnet6(tag, subnet, mine)
    if not subnet.dhcp or not mine:
        return []
    server = mine[0]
    routes = [(METADATA4 + "/32", server)]
    routes += [(str(network(to)), str(names.address(via))) for to, via in subnet.host_routes]
    if subnet.gateway_ip:
        routes.append(("0.0.0.0/0", str(names.address(subnet.gateway_ip))))
    static = ",".join(f"{to},{via}" for to, via in routes)
    lines = [
        f"dhcp-range=set:{tag},{prefix.network_address},static,{prefix.netmask},{LEASE}",
        f"dhcp-option=tag:{tag},option:router" + (f",{names.address(subnet.gateway_ip)}" if subnet.gateway_ip else ""),
        f"dhcp-option=tag:{tag},option:classless-static-route,{static}",
        f"dhcp-option=tag:{tag},249,{static}",  # the same under Microsoft's older number
    ]
    return [*lines, _resolvers(tag, "option:dns-server", subnet.dns, server, "0.0.0.0")]  # noqa: S104 (an address in an option, no socket)


def _subnet6(tag: str, subnet: Subnet, mine: Sequence[str]) -> list[str]:
    prefix = network(subnet.cidr)
    mode = subnet.address_mode if subnet.dhcp else ""
    if mode == "dhcpv6-stateful" or (mode == "dhcpv6-stateless" and not subnet.ra_mode):
        kind = "static" if mode == "dhcpv6-stateful" else "ra-stateless"
    elif subnet.ra_mode:
        kind = _RA[subnet.ra_mode]
    else:
        return []
    if not mine:
        return []
    first = max(64, prefix.prefixlen)
    lines = [f"dhcp-range=set:{tag},{prefix.network_address},{kind},{first},{LEASE}"]
    server = f"[{mine[0]}]"
    return [*lines, _resolvers(tag, "option6:dns-server", [f"[{ip}]" for ip in subnet.dns], server, "[::]")]


def _resolvers(tag: str, option: str, listed: Sequence[str], own: str, none: str) -> str:
    """DNS servers of a subnet; dnsmasq itself where none is listed; the address "any" means none at all.

    Networking guide, "Name resolution for instances".
    """
    for text in listed:
        names.address(text.strip("[]"))
    if none in listed:
        return f"dhcp-option=tag:{tag},{option}"
    return f"dhcp-option=tag:{tag},{option},{','.join(listed) or own}"


def _v6(listed: Sequence[str]) -> str:
    return ",".join(f"[{names.address(text)}]" for text in listed if names.address(text).version == 6)


def _domain(text: str) -> str:
    if not all(_LABEL.match(label) for label in text.rstrip(".").split(".")) or len(text) > 253:
        raise ValueError(f"not a domain: {text!r}")
    return text.rstrip(".")


def _host(host: Host, wish: Segment) -> tuple[list[str], list[str], list[str]]:
    """Lines of the hosts file, of the options file, and of the names."""
    mac, tag = check_mac(host.mac), f"p{names.check_id(host.port_id)}"
    hostname = host.hostname or ""
    if hostname and not _LABEL.match(hostname):
        raise ValueError(f"not a host name: {hostname!r}")
    name = f",{hostname}" if hostname else ""
    mark = f"set:{tag}," if host.options else ""
    taken: set[int] = set()
    entries, known = [], []
    for ip in (names.address(text) for text in host.ips):
        if hostname:
            known.append(f"{ip} {hostname}.{_domain(wish.domain)} {hostname}")
        place = next((n for n, subnet in enumerate(wish.subnets) if ip in network(subnet.cidr)), None)
        if place is None or place in taken or not wish.subnets[place].dhcp:
            continue
        taken.add(place)
        shown = str(ip) if ip.version == 4 else f"[{ip}]"
        entries.append(f"{mac},{mark}{shown}{name}")
    options = [option_line(tag, option, value, version) for option, value, version in host.options]
    return entries, options, known


def option_line(tag: str, option: str, value: str, version: int) -> str:
    """An extra DHCP option of one port as a line of the options file; ValueError if it could be more than one."""
    if _UNSAFE.search(value) or len(value) > 255:
        raise ValueError(f"a DHCP option cannot have the value {value!r}")
    number = option.isascii() and option.isdigit()
    if version not in (4, 6) or (not number and not _OPTION.match(option)):
        raise ValueError(f"not a DHCP option: {option!r} for IPv{version}")
    if number and not 1 <= int(option) <= 254:
        raise ValueError(f"not the number of a DHCP option: {option}")
    word = "option" if version == 4 else "option6"
    shown = option if number and version == 4 else f"{word}:{option}"
    return f"tag:{tag},{shown},{value}"
