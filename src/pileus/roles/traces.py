"""What really stands on this machine: namespaces, devices, rules and processes, read from the kernel itself.

Drivers tell what they remember; this looks below them, so that what a driver forgot is found too.
"""

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from pileus.core.config import Config
from pileus.drivers.switch.linux import filters, names, namespaces
from pileus.drivers.switch.linux.driver import RUN

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CHAIN = re.compile(r"chain (?:from|to|egress|ingress)_(\w+) ")


class Traces(Struct, frozen=True, kw_only=True):
    """Each name, as the kernel has it, of everything that looks like ours."""

    routers: frozenset[str]  # ids, by their namespaces
    served: frozenset[str]  # ids of networks, by the namespaces of their DHCP
    devices: frozenset[str]  # names in the node's namespace
    port_rules: frozenset[str]  # ids with _ for -, by nftables chains
    groups: frozenset[str]  # ids, by nftables sets
    processes: tuple[tuple[int, str, str], ...]  # (pid, program, the id that it serves)


def read(config: Config) -> Traces:
    """The traces of a node on this machine; of one that does not run there should be none."""
    space = config.namespace
    stands = namespaces.exists(space)
    devices = namespaces.inside(space, socket.if_nameindex) if stands else []  # /sys shows the machine's own
    rules = namespaces.inside(space, lambda: namespaces.run(["nft", "list", "ruleset"])) if stands else ""
    return Traces(
        routers=_after(f"{space}-r-"),
        served=_after(f"{space}-d-"),
        devices=frozenset(name for _, name in devices),
        port_rules=frozenset(_CHAIN.findall(rules)),
        groups=frozenset(filters.groups_in(rules)),
        processes=tuple(_processes(config)),
    )


def _after(prefix: str) -> frozenset[str]:
    return frozenset(name.removeprefix(prefix) for name in namespaces.listed(prefix))


def _processes(config: Config) -> Iterator[tuple[int, str, str]]:
    """Guests, relays, exports and DHCP servers: programs with a path of ours on their command line."""
    ours = (f"{config.folder}/", f"{RUN / config.namespace}/")
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path("/proc", entry, "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        program = Path(words[0]).name
        word = next((w for w in words[1:] if any(path in w for path in ours)), "")
        found = _UUID.search(word)
        if found and program in PROGRAMS:
            yield int(entry), program, found[0]


PROGRAMS = {  # program → what the id on its command line is
    "qemu-system-x86_64": "server", "qemu-storage-daemon": "server", "nbdkit": "volume", "dnsmasq": "network or router",
}  # fmt: skip


def tap_names(port_ids: set[str]) -> set[str]:
    """Names of the devices of guests' ports."""
    return {names.tap(port_id) for port_id in port_ids}


def segment_names(network_ids: set[str]) -> set[str]:
    """Names of all devices that networks may have in the node's namespace."""
    return {make(i) for i in network_ids for make in (names.bridge, names.vxlan, names.dhcp_plug)}
