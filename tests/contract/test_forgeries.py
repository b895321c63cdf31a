"""A guest writes whatever frames it likes (forged MAC, IP, ARP; a DHCP server's, a router's): they reach nobody.

Two guests with security groups that let everything in, so that only anti-spoofing stands between them.
"""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs
from switch_lab import Guest, arp, closing_all, ethernet, icmpv6, ipv4, ipv6, mac_bytes, udp, wait

from pileus.drivers.switch.linux import LinuxSwitch, namespaces
from pileus.network.drivers import Port, Rule, Segment, Subnet

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="making network namespaces needs root"),
]
NETNS = f"swf{os.getpid() % 10000}"
NET = "bbbbbbbb-0000-4000-8000-000000000001"
EVERYBODY = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "33:33:00:00:00:01"
EVIL, VICTIM, FOREIGN = "fa:16:3e:00:00:01", "fa:16:3e:00:00:02", "fa:16:3e:99:99:99"
EVIL_IP, VICTIM_IP, GATEWAY, FREE = "10.0.0.11", "10.0.0.12", "10.0.0.1", "10.0.0.99"
EVIL_IP6, VICTIM_IP6, FREE6 = "2001:db8:1::11", "2001:db8:1::12", "2001:db8:1::99"
EVIL_LINK_LOCAL = "fe80::f816:3eff:fe00:1"
MARK = b"pileus-forgery-test"


def open_port(number: int, mac: str, ips: tuple[str, ...]) -> Port:
    rules = tuple(
        Rule(direction=way, ethertype=kind)  # type: ignore[arg-type]  # both are words of the Literals
        for way in ("ingress", "egress")
        for kind in ("IPv4", "IPv6")
    )
    return Port(id=f"{number:08x}-0000-4000-8000-0000000000f0", network_id=NET, mac=mac, ips=ips, rules=rules, mtu=1450)


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinuxSwitch]:
    folder = tmp_path_factory.mktemp("forgeries")
    made = LinuxSwitch(folder / "state", NETNS, run_dir=Path(f"/run/pileus-switch/{NETNS}"))
    made.prepare()
    subnets = (
        Subnet(id="s4", cidr="10.0.0.0/24", ip_version=4, gateway_ip=GATEWAY),
        Subnet(id="s6", cidr="2001:db8:1::/64", ip_version=6, ra_mode="slaac", address_mode="slaac"),
    )
    try:
        made.ensure_segment(Segment(id=NET, kind="vxlan", vni=78, mtu=1450, subnets=subnets))
        yield made
    finally:
        made.destroy()
        assert not namespaces.exists(NETNS)


def plug(switch: LinuxSwitch, wish: Port, *inside: str) -> Guest:
    """A guest behind this port, with these addresses."""
    seen = switch.ensure_port(wish)
    assert seen is not None and seen.up
    return Guest(f"{NETNS}g{wish.mac[-1]}", seen, wish.mac, inside)


@pytest.fixture(scope="module")
def guests(switch: LinuxSwitch) -> Iterator[tuple[Guest, Guest]]:
    evil = plug(switch, open_port(1, EVIL, (EVIL_IP, EVIL_IP6)), f"{EVIL_IP}/24", f"{EVIL_IP6}/64")
    victim = plug(switch, open_port(2, VICTIM, (VICTIM_IP, VICTIM_IP6)), f"{VICTIM_IP}/24", f"{VICTIM_IP6}/64")
    with closing_all(evil, victim):
        assert evil.pings(VICTIM_IP) and evil.pings(VICTIM_IP6)
        yield evil, victim


def advertisement(kind: int, body: bytes) -> bytes:
    """An ICMPv6 message of the neighbour discovery protocol (RFC 4861)."""
    return struct.pack("!BBH", kind, 0, 0) + body


def neighbour(target: str, mac: str) -> bytes:
    return advertisement(136, b"\x20\0\0\0" + socket.inet_pton(socket.AF_INET6, target) + b"\x02\x01" + mac_bytes(mac))


ROUTER = advertisement(134, struct.pack("!BBHII", 64, 0, 1800, 0, 0) + b"\x01\x01" + mac_bytes(EVIL))
REDIRECT = advertisement(137, bytes(36))
OFFER = struct.pack("!BBBBIHH", 2, 1, 6, 0, 7, 0, 0x8000) + bytes(228) + b"\x63\x82\x53\x63\x35\x01\x02\xff" + MARK
PLAIN = udp(9999, 9999, MARK)


def v4(source: str, body: bytes, target: str = VICTIM_IP) -> bytes:
    return ipv4(source, target, 17, body)


HONEST = ethernet(VICTIM, EVIL, 0x0800, v4(EVIL_IP, PLAIN))
FORGERIES = {
    "another MAC": ethernet(VICTIM, FOREIGN, 0x0800, v4(EVIL_IP, PLAIN)),
    "the victim's own MAC": ethernet(VICTIM, VICTIM, 0x0800, v4(EVIL_IP, PLAIN)),
    "another IPv4 address": ethernet(VICTIM, EVIL, 0x0800, v4(FREE, PLAIN)),
    "the gateway's IPv4 address": ethernet(VICTIM, EVIL, 0x0800, v4(GATEWAY, PLAIN)),
    "another IPv6 address": ethernet(VICTIM, EVIL, 0x86DD, ipv6(FREE6, VICTIM_IP6, 17, PLAIN)),
    "an ARP answer for the gateway": ethernet(VICTIM, EVIL, 0x0806, arp(2, EVIL, GATEWAY, VICTIM_IP)),
    "a gratuitous ARP for the victim": ethernet(EVERYBODY, EVIL, 0x0806, arp(1, EVIL, VICTIM_IP, VICTIM_IP)),
    "ARP with another sender MAC": ethernet(EVERYBODY, EVIL, 0x0806, arp(1, FOREIGN, EVIL_IP, VICTIM_IP)),
    "a neighbour advertisement for another": ethernet(
        VICTIM, EVIL, 0x86DD, icmpv6(EVIL_IP6, VICTIM_IP6, neighbour(FREE6, EVIL))
    ),
    "a router advertisement": ethernet(ALL_NODES, EVIL, 0x86DD, icmpv6(EVIL_LINK_LOCAL, "ff02::1", ROUTER)),
    "a redirect": ethernet(VICTIM, EVIL, 0x86DD, icmpv6(EVIL_LINK_LOCAL, VICTIM_IP6, REDIRECT)),
    "a DHCP offer": ethernet(EVERYBODY, EVIL, 0x0800, v4(EVIL_IP, udp(67, 68, OFFER), "255.255.255.255")),
    "a DHCPv6 advertisement": ethernet(
        VICTIM, EVIL, 0x86DD, ipv6(EVIL_LINK_LOCAL, VICTIM_IP6, 17, udp(547, 546, b"\x02" + MARK))
    ),
    "a VLAN tag around another address": ethernet(
        VICTIM, EVIL, 0x8100, struct.pack("!HH", 7, 0x0800) + v4(FREE, PLAIN)
    ),
    "an unknown protocol": ethernet(VICTIM, EVIL, 0x88B5, MARK),
}


def arrived(frame: bytes, guest: Guest) -> bool:
    """Whether this very frame came in (padding apart)."""
    return any(seen[: len(frame)] == frame for seen in guest.frames)


def test_an_honest_frame_arrives(guests: tuple[Guest, Guest]) -> None:
    evil, victim = guests
    evil.send(HONEST)
    assert wait(lambda: arrived(HONEST, victim), 5)


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_reaches_nobody(guests: tuple[Guest, Guest], name: str) -> None:
    evil, victim = guests
    frame, body = FORGERIES[name], FORGERIES[name][12:]
    before = len(victim.frames)
    for _ in range(3):
        evil.send(frame)
    marker = ethernet(VICTIM, EVIL, 0x0800, v4(EVIL_IP, udp(9998, 9998, name.encode())))
    evil.send(marker)  # behind the forgeries on the same wire: when it is here, they would be
    assert wait(lambda: arrived(marker, victim), 5)
    came = victim.frames[before:]
    assert not any(body[:60] in seen for seen in came), name


def test_after_all_that_the_victim_believes_the_truth(guests: tuple[Guest, Guest]) -> None:
    evil, victim = guests
    assert evil.pings(VICTIM_IP) and victim.pings(EVIL_IP)
    neighbours = namespaces.inside(victim.netns, lambda: namespaces.run(["ip", "neighbour"]))
    known = {line.split()[0] for line in neighbours.splitlines()}
    assert not known & {GATEWAY, FREE, FREE6} and FOREIGN not in neighbours
    routes = namespaces.inside(victim.netns, lambda: namespaces.run(["ip", "-6", "route"]))
    assert "default" not in routes


def test_where_port_security_is_off_a_foreign_mac_does_arrive(switch: LinuxSwitch, guests: tuple[Guest, Guest]) -> None:
    """So the tests above are known to be able to fail."""
    _, victim = guests
    free = structs.replace(open_port(3, "fa:16:3e:00:00:03", ("10.0.0.13",)), port_security=False)
    guest = plug(switch, free, "10.0.0.13/24")
    frame = ethernet(VICTIM, FOREIGN, 0x0800, v4(FREE, udp(9997, 9997, MARK)))
    with closing_all(guest):
        assert wait(lambda: guest.send(frame) or arrived(frame, victim), 5)
