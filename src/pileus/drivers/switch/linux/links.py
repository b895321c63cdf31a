"""Devices: bridges, tunnels, taps, pairs, their addresses and routes.

Each function makes one thing so, whatever was there before, and runs in the namespace of the
calling thread (see `namespaces.inside`).
"""

import fcntl
import os
import socket
import struct
from collections.abc import Iterable

from msgspec import Struct

from pileus.network.drivers import Peer, Segment

from . import names, namespaces
from .names import Interface, Network
from .namespaces import exists_here, run_json

VXLAN_PORT = 4789
TUNNEL_OVERHEAD = 50  # outer IPv4, UDP, VXLAN and inner Ethernet headers
ROUTE_PROTOCOL = 99  # marks the routes that are ours (rtnetlink "protocol")
_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_FLOOD_MAC = "00:00:00:00:00:00"  # the VXLAN driver's entry for "no other entry fits"


class PhysicalNet(Struct, frozen=True, kw_only=True):
    """An external network as this node is wired to it.

    `cidrs`: addresses that the node itself holds on it ("172.24.4.1/24"), so that programs in the
    node's namespace reach floating IPs and can play the outside gateway.  `device`: a device of the
    node's namespace that leads to the real network.  `reachable`: TCP ports of the node that guests
    may call through it (none by default: a router leads outside, never to the node).
    """

    cidrs: tuple[str, ...] = ()
    device: str = ""
    mtu: int = 1500
    reachable: tuple[int, ...] = ()


class Underlay(Struct, frozen=True, kw_only=True):
    """The device that carries tunnels; taken from the agent's namespace into the node's if it is there."""

    device: str
    cidr: str  # the node's tunnel endpoint with its prefix


def ensure_bridge(name: str, mtu: int) -> None:
    """A bridge that has no address, floods nothing of its own and passes packets to the inet filters."""
    lines = []
    if not exists_here(name):
        lines.append(
            f"link add {name} type bridge forward_delay 0 mcast_snooping 0 nf_call_iptables 1 nf_call_ip6tables 1"
        )
    lines.append(f"link set {name} type bridge forward_delay 0 mcast_snooping 0 nf_call_iptables 1 nf_call_ip6tables 1")
    namespaces.ip([*lines, f"link set {name} mtu {mtu} up"])


def ensure_tap(name: str) -> None:
    """A persistent tap that a guest's QEMU may open (`TUNSETIFF` with the same name), with a vnet header."""
    if exists_here(name):
        return
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
        fcntl.ioctl(fd, _TUNSETIFF, request)
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    finally:
        os.close(fd)


def join_tap(name: str, bridge: str, mtu: int, macs: Iterable[str], *, flood: bool) -> None:
    """Put a tap into its bridge; without `flood` it gets only frames for the MACs known to be its own."""
    on = "on" if flood else "off"
    namespaces.ip([f"link set {name} mtu {mtu} master {bridge} up"])
    namespaces.bridge(
        [
            f"link set dev {name} flood {on} mcast_flood on bcast_flood on learning on isolated off",
            *(f"fdb replace {mac} dev {name} master static" for mac in macs),
        ]
    )


def ensure_pair(here: str, bridge: str, mtu: int, netns: str, there: str, mac: str) -> None:
    """A veth pair: `here` in a bridge of this namespace, `there` in another ("" is this one) with its MAC."""
    into = f" netns {netns}" if netns else ""
    target = f"-n {netns} " if netns else ""
    if not _pair_stands(here, netns, there):
        remove_link(here)
        mac_word = f" address {mac}" if mac else ""
        namespaces.ip([f"link add {here} mtu {mtu} type veth peer name {there} mtu {mtu}{mac_word}{into}"])
    namespaces.ip([f"link set {here} mtu {mtu} master {bridge} up"])
    mac_word = f" address {mac}" if mac else ""
    namespaces.run(f"ip {target}link set {there} mtu {mtu}{mac_word} up".split())


def _pair_stands(here: str, netns: str, there: str) -> bool:
    if not exists_here(here):
        return False
    return namespaces.inside(netns, lambda: exists_here(there))


def remove_link(name: str) -> None:
    """Remove a device of this namespace; no error where there is none."""
    if exists_here(name):
        namespaces.ip([f"link delete {name}"])


def ensure_vxlan(segment: Segment, bridge: str) -> None:
    """The tunnel device of a segment and its tables of who is where; none without a tunnel endpoint."""
    name = names.vxlan(segment.id)
    if not segment.endpoint:
        remove_link(name)
        return
    if not 0 < segment.vni < 2**24:
        raise ValueError(f"segment {segment.id}: not a VXLAN network identifier: {segment.vni}")
    local = names.address(segment.endpoint)
    if exists_here(name) and not _tunnel_fits(name, segment.vni, str(local)):
        remove_link(name)
    lines = []
    if not exists_here(name):
        lines.append(f"link add {name} type vxlan id {segment.vni} local {local} dstport {VXLAN_PORT} nolearning")
    namespaces.ip([*lines, f"link set {name} mtu {segment.mtu} master {bridge} up"])
    _tunnel_tables(name, bridge, segment)


def _tunnel_fits(name: str, vni: int, local: str) -> bool:
    found = run_json(["ip", "-json", "-details", "link", "show", name])
    data = found[0].get("linkinfo", {}).get("info_data", {})
    return bool(data.get("id") == vni and (data.get("local") or data.get("local6")) == local)


def _tunnel_tables(name: str, bridge: str, segment: Segment) -> None:
    """Static entries for known ports, head-end flooding to every other node for the rest.

    Known IPv4 neighbours are answered here instead of flooded (neigh_suppress).
    """
    wanted = {(_FLOOD_MAC, str(names.address(endpoint))) for endpoint in segment.endpoints}
    for peer in segment.peers:
        wanted.add((names.check_mac(peer.mac), str(names.address(peer.endpoint))))
    macs = {mac for mac, _ in wanted if mac != _FLOOD_MAC}
    have, have_bridged = _forwarding(name)
    lines = [f"link set dev {name} neigh_suppress on learning on"]
    lines += [f"fdb del {mac} dev {name} dst {where} self" for mac, where in sorted(have - wanted)]
    lines += [f"fdb append {mac} dev {name} dst {where} self" for mac, where in sorted(wanted - have)]
    lines += [f"fdb del {mac} dev {name} master" for mac in sorted(have_bridged - macs)]
    lines += [f"fdb replace {mac} dev {name} master static" for mac in sorted(macs - have_bridged)]
    namespaces.bridge(lines)
    _neighbours(bridge, segment.peers)


def _forwarding(name: str) -> tuple[set[tuple[str, str]], set[str]]:
    """The tunnel's own entries (MAC, endpoint), and the MACs that the bridge holds static behind it."""
    own, bridged = set(), set()
    for entry in run_json(["bridge", "-json", "fdb", "show", "dev", name]):
        if "dst" in entry:
            own.add((entry["mac"], entry["dst"]))
        elif entry.get("state") == "static":
            bridged.add(entry["mac"])
    return own, bridged


def _neighbours(bridge: str, peers: Iterable[Peer]) -> None:
    wanted = {
        (str(names.address(ip)), names.check_mac(peer.mac))
        for peer in peers
        for ip in peer.ips
        if names.address(ip).version == 4
    }
    have = {
        (entry["dst"], entry.get("lladdr", ""))
        for entry in run_json(["ip", "-json", "-4", "neigh", "show", "dev", bridge, "nud", "permanent"])
    }
    lines = [f"neigh del {ip} dev {bridge}" for ip, _ in sorted(have - wanted)]
    lines += [f"neigh replace {ip} lladdr {mac} dev {bridge} nud permanent" for ip, mac in sorted(wanted - have)]
    namespaces.ip(lines)


def set_addresses(device: str, wanted: Iterable[Interface]) -> set[str]:
    """Give a device exactly these addresses (and its own link-local); the ones that were new."""
    want = {str(one) for one in wanted}
    have = set()
    for entry in run_json(["ip", "-json", "address", "show", "dev", device]):
        for info in entry.get("addr_info", []):
            text = f"{info['local']}/{info['prefixlen']}"
            if text in want or not (info.get("scope") == "link" and info["family"] == "inet6"):
                have.add(text)
    lines = [f"address del {old} dev {device}" for old in sorted(have - want)]
    lines += [f"address replace {new} dev {device}" + (" nodad" if ":" in new else "") for new in sorted(want - have)]
    namespaces.ip(lines)
    return want - have


def set_routes(wanted: Iterable[tuple[Network, str, str]]) -> None:
    """Make exactly these (destination, next hop, device or "") our routes of this namespace."""
    want = {(str(to), via): device for to, via, device in wanted}
    have = set()
    for family, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        for entry in run_json(["ip", "-json", family, "route", "show", "proto", str(ROUTE_PROTOCOL)]):
            to = everything if entry["dst"] == "default" else str(names.network(entry["dst"]))
            have.add((to, entry.get("gateway", "")))
    lines = [f"route del {to} via {via} proto {ROUTE_PROTOCOL}" for to, via in sorted(have - set(want))]
    for (to, via), device in sorted(want.items()):
        through = f" dev {device} onlink" if device else ""
        lines.append(f"route replace {to} via {via}{through} proto {ROUTE_PROTOCOL}")
    namespaces.ip(lines)


def announce(device: str, mac: str, addresses: Iterable[str]) -> None:
    """Tell the neighbours by gratuitous ARP who has these IPv4 addresses now (RFC 5227, section 3)."""
    source = bytes.fromhex(mac.replace(":", ""))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((device, 0))
        for text in addresses:
            ip4 = socket.inet_aton(text)
            arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + source + ip4 + bytes(6) + ip4
            wire.send(b"\xff" * 6 + source + b"\x08\x06" + arp)


def quiet_devices(*, ipv6: bool) -> None:
    """Defaults for devices made from now on: no IPv6 of their own unless wanted, no autoconfiguration."""
    namespaces.sysctl("ipv6/conf/default/disable_ipv6", 0 if ipv6 else 1)
    for scope in ("all", "default"):
        namespaces.sysctl(f"ipv6/conf/{scope}/accept_ra", 0)
        namespaces.sysctl(f"ipv6/conf/{scope}/accept_dad", 0)


def wire_physical(name: str, net: PhysicalNet) -> None:
    """The bridge of an external network, and the pair by which the node is a neighbour on it."""
    bridge, plug, device = names.physical_bridge(name), names.physical_plug(name), names.physical_device(name)
    ensure_bridge(bridge, net.mtu)
    ensure_pair(plug, bridge, net.mtu, "", device, "")
    namespaces.sysctl(f"ipv4/conf/{device}/arp_ignore", 1)
    addresses = [names.interface(text) for text in net.cidrs]
    if any(one.version == 6 for one in addresses):
        namespaces.sysctl(f"ipv6/conf/{device}/disable_ipv6", 0)
    set_addresses(device, addresses)
    if net.device:
        namespaces.ip([f"link set {names.check_device(net.device)} master {bridge} up"])
