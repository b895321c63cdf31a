"""Guests for the switch's packet tests: namespaces with a real network stack behind a real tap.

`Guest` opens the switch's tap as QEMU would and carries frames to and from a tap of its own
namespace.  Frames can also be written by hand (forgeries) and all received ones are kept.
"""

import contextlib
import fcntl
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

from pileus.drivers.switch.linux import namespaces
from pileus.network.drivers import PortSeen

TUNSETIFF = 0x400454CA


def wait(what: Callable[[], object], seconds: float = 15.0) -> bool:
    """Whether `what` becomes true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.05)
    return bool(what())


def open_tap(netns: str, device: str) -> int:
    def attach() -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", device.encode(), 0x0002 | 0x1000))
        return fd

    return namespaces.inside(netns, attach)


class Guest:
    """A host behind a port: `ips` with prefix, `via` the default gateways."""

    def __init__(self, name: str, seen: PortSeen, mac: str, ips: tuple[str, ...] = (), via: tuple[str, ...] = ()):
        self.netns, self.mac = name, mac
        namespaces.remove(name)
        namespaces.ensure(name)
        self.wire = open_tap(seen.netns, seen.device)
        namespaces.inside(name, lambda: namespaces.sysctl("ipv6/conf/all/accept_dad", 0))
        namespaces.inside(name, lambda: namespaces.sysctl("ipv6/conf/default/accept_dad", 0))
        self.own = open_tap(name, "eth0")
        lines = [f"link set eth0 address {mac} mtu 1450 up"]
        lines += [f"address add {ip} dev eth0" + (" nodad" if ":" in ip else "") for ip in ips]
        lines += [f"route add default via {ip} dev eth0 onlink" for ip in via]
        namespaces.inside(name, lambda: namespaces.ip(lines))
        self.frames: list[bytes] = []
        self._end, self._ender = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        waiting = select.poll()
        for fd in (self.wire, self.own, self._end):
            waiting.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in waiting.poll()]
            if self._end in ready:
                return
            for here, there in ((self.wire, self.own), (self.own, self.wire)):
                if here in ready:
                    with contextlib.suppress(OSError):
                        frame = os.read(here, 65536)
                        if here == self.wire:
                            self.frames.append(frame)
                        os.write(there, frame)

    def send(self, frame: bytes) -> None:
        os.write(self.wire, frame.ljust(60, b"\0"))

    def ping(self, target: str, count: int = 1, wait_seconds: int = 1) -> bool:
        argv = ["ip", "netns", "exec", self.netns, "ping", "-q", "-i", "0.2", "-c", str(count), "-W", str(wait_seconds)]
        return subprocess.run([*argv, target], capture_output=True).returncode == 0

    def pings(self, target: str) -> bool:
        """Whether a ping gets through in the end (the first may be lost while a link comes up)."""
        return wait(lambda: self.ping(target), 10)

    def listen(self, port: int, kind: int = socket.SOCK_STREAM, host: str = "0.0.0.0") -> socket.socket:
        return listen(self.netns, port, kind, host)

    def connect(self, target: str, port: int, patience: float = 1.0) -> socket.socket | None:
        return connect(self.netns, target, port, patience)

    def close(self) -> None:
        os.write(self._ender, b"x")
        self._thread.join()
        for fd in (self.wire, self.own, self._end, self._ender):
            os.close(fd)
        namespaces.remove(self.netns)


def listen(netns: str, port: int, kind: int = socket.SOCK_STREAM, host: str = "0.0.0.0") -> socket.socket:
    def make() -> socket.socket:
        wire = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        wire.bind((host, port))
        if kind == socket.SOCK_STREAM:
            wire.listen(8)
        wire.settimeout(3)
        return wire

    return namespaces.inside(netns, make)


def connect(netns: str, target: str, port: int, patience: float = 1.0) -> socket.socket | None:
    def dial() -> socket.socket | None:
        wire = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_STREAM)
        wire.settimeout(patience)
        try:
            wire.connect((target, port))
        except OSError:
            wire.close()
            return None
        return wire

    return namespaces.inside(netns, dial)


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(target: str, source: str, kind: int, body: bytes) -> bytes:
    return mac_bytes(target) + mac_bytes(source) + struct.pack("!H", kind) + body


def ipv4(source: str, target: str, protocol: int, body: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + struct.pack("!H", checksum(head + ends)) + ends + body


def udp(source: int, target: int, body: bytes) -> bytes:
    return struct.pack("!HHHH", source, target, 8 + len(body), 0) + body


def ipv6(source: str, target: str, protocol: int, body: bytes) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 255) + ends + body


def icmpv6(source: str, target: str, body: bytes) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    total = checksum(ends + struct.pack("!II", len(body), 58) + body)
    return ipv6(source, target, 58, body[:2] + struct.pack("!H", total) + body[4:])


def arp(operation: int, mac: str, ip: str, target: str) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + mac_bytes(mac) + socket.inet_aton(ip)
    return body + bytes(6) + socket.inet_aton(target)


def dhcp_message(mac: str, kind: int, asked: bytes, extra: bytes = b"") -> bytes:
    """A BOOTP request with the option "message type" and a list of options asked for."""
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, 0x1234, 0, 0x8000) + bytes(16) + mac_bytes(mac).ljust(16, b"\0")
    options = bytes([53, 1, kind, 55, len(asked)]) + asked + extra + b"\xff"
    return head + bytes(192) + b"\x63\x82\x53\x63" + options


def dhcp_options(frame: bytes) -> dict[int, bytes]:
    """Options of a DHCP answer in an Ethernet frame, {} if it is none."""
    if len(frame) < 282 or frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[34:38] != b"\0\x43\0\x44":
        return {}
    data, at, found = frame[282:], 0, {}
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        found[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found


@contextlib.contextmanager
def closing_all(*things: object) -> Iterator[None]:
    try:
        yield
    finally:
        for thing in things:
            if thing is not None:
                thing.close()  # type: ignore[attr-defined]  # of the object that is really there
