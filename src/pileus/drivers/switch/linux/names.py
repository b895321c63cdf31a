"""Names on the machine, each derived from an id, and the checks that make values safe to write into scripts.

Everything that reaches `ip`, `nft` or dnsmasq passes through here first: ids, addresses and MACs
come from requests, so a value that is not exactly what it claims to be is a ValueError.
"""

import ipaddress
import re

from pileus.network.drivers import device_name

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

TABLE = "pileus"
METADATA4 = "169.254.169.254"
METADATA6 = "fe80::a9fe:a9fe"
DHCP_DEVICE = "dhcp0"
FIRST_PHYSICAL_ZONE = 65000  # segments count their conntrack zones from 1

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}\Z")
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")


def check_id(resource_id: str) -> str:
    """The id itself; ValueError where it could not be part of a name."""
    if not _ID.match(resource_id):
        raise ValueError(f"not an id: {resource_id!r}")
    return resource_id


def check_device(name: str) -> str:
    """The device name itself; ValueError where Linux or a script would not take it."""
    if not _DEVICE.match(name):
        raise ValueError(f"not a device name: {name!r}")
    return name


def check_mac(mac: str) -> str:
    """The MAC address in lower case; ValueError where it is none or a group address."""
    mac = mac.lower()
    if not _MAC.match(mac) or int(mac[:2], 16) & 1:
        raise ValueError(f"not a MAC address of one device: {mac!r}")
    return mac


def address(text: str) -> Address:
    """An address without a scope; ValueError otherwise."""
    if "%" in text:
        raise ValueError(f"an address with a scope: {text!r}")
    return ipaddress.ip_address(text)


def network(text: str) -> Network:
    """A CIDR (host bits are cleared) or a single address."""
    if "%" in text:
        raise ValueError(f"an address with a scope: {text!r}")
    return ipaddress.ip_network(text, strict=False)


def interface(text: str) -> Interface:
    """An address with its prefix length."""
    if "%" in text:
        raise ValueError(f"an address with a scope: {text!r}")
    return ipaddress.ip_interface(text)


def link_local(mac: str) -> ipaddress.IPv6Address:
    """The IPv6 link-local address that a device with this MAC gives itself (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    eui64 = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + eui64)


def tap(port_id: str) -> str:
    """The tap device of a guest's port."""
    return device_name("tap", check_id(port_id))


def bridge(segment_id: str) -> str:
    """The bridge of a VXLAN segment."""
    return device_name("br", check_id(segment_id))


def vxlan(segment_id: str) -> str:
    """The tunnel device of a VXLAN segment."""
    return device_name("vx", check_id(segment_id))


def dhcp_plug(segment_id: str) -> str:
    """The bridge's end of the pair that leads to the DHCP namespace."""
    return device_name("dh", check_id(segment_id))


def leg_plug(port_id: str) -> str:
    """The bridge's end of the pair that leads to a router."""
    return device_name("qr", check_id(port_id))


def leg(port_id: str) -> str:
    """The router's end of an inner leg."""
    return device_name("lg", check_id(port_id))


def gateway(port_id: str) -> str:
    """The router's end of its gateway leg."""
    return device_name("gw", check_id(port_id))


def physical_bridge(physical: str) -> str:
    """The bridge of an external network."""
    return check_device(f"ex-{physical[:12]}")


def physical_plug(physical: str) -> str:
    """The bridge's end of the pair by which the node itself is a neighbour on an external network."""
    return check_device(f"gp-{physical[:12]}")


def physical_device(physical: str) -> str:
    """The node's end of that pair; it holds the addresses."""
    return check_device(f"gw-{physical[:12]}")


def word(resource_id: str) -> str:
    """The id as part of an nft identifier."""
    return check_id(resource_id).replace("-", "_")
