"""Connection tracking of one namespace: list its flows, judge them by the rules, cut or forget them.

Speaks ctnetlink itself (a dump, an update, a delete), because neither `ip` nor `nft` can.
`judge` is pure.  A cut flow is marked, not deleted: the next packet of a deleted TCP flow would be
taken up as new in whichever direction it happens to go, and come back by that door.
Functions that talk to the kernel run in the namespace of the calling thread.
"""

import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from pileus.network.drivers import Port, Rule

from .filters import CUT, port_nets, protocol_number
from .names import METADATA4, METADATA6, Address, Network, network

_NETLINK_NETFILTER = 12
_CT_NEW, _CT_GET, _CT_DELETE = 0x100, 0x101, 0x102
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_TUPLE_ORIG, _TUPLE_REPLY, _MARK, _ZONE, _TUPLE_ZONE = 1, 2, 8, 18, 3
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF
_ENOENT = 2


class Flow(Struct, frozen=True, kw_only=True):
    """One tracked connection, as its first packet saw it."""

    zone: int
    mark: int
    protocol: int
    source: Address
    target: Address
    port: int = 0  # destination port, or ICMP type
    code: int = 0  # ICMP code
    answer_from: Address  # source and target of replies: they differ from the above where there is NAT
    answer_to: Address
    raw: bytes  # the original tuple as the kernel wrote it


def listed() -> list[Flow]:
    """Every flow of the namespace of the calling thread."""
    found = []
    with _opened() as wire:
        for family in (socket.AF_INET, socket.AF_INET6):
            wire.send(_message(_CT_GET, _REQUEST | _DUMP, family, b""))
            for payload in _answers(wire):
                flow = _flow(payload)
                if flow is not None:
                    found.append(flow)
    return found


def mark(flows: Iterable[Flow], value: int) -> None:
    """Set the conntrack mark of flows; those that ended meanwhile are passed over."""
    _each(flows, _CT_NEW, _attribute(_MARK, struct.pack("!I", value)))


def forget(flows: Iterable[Flow]) -> None:
    """Delete flows from the table."""
    _each(flows, _CT_DELETE, b"")


def _opened() -> socket.socket:
    wire = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    wire.settimeout(10)
    wire.bind((0, 0))
    return wire


def _message(kind: int, flags: int, family: int, body: bytes) -> bytes:
    body = struct.pack("BBH", family, 0, 0) + body
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _answers(wire: socket.socket) -> Iterator[bytes]:
    """Payloads after the nfgenmsg header, up to the end of the dump; OSError for an error of the kernel."""
    while True:
        data, at = wire.recv(1 << 18), 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            body = data[at + 16 : at + length]
            at += (length + 3) & ~3
            if kind == _DONE:
                return
            if kind == _ERROR:
                number = -struct.unpack_from("=i", body)[0]
                if number:
                    raise OSError(number, f"ctnetlink: {os.strerror(number)}")
                return
            yield body[4:]


def _flow(payload: bytes) -> Flow | None:
    parts = _attributes(payload)
    orig, reply = _attributes(parts[_TUPLE_ORIG]), _attributes(parts[_TUPLE_REPLY])
    proto = _attributes(orig.get(2, b""))
    if 1 not in orig or 1 not in reply:
        return None
    source, target = _pair(orig[1])
    answer_from, answer_to = _pair(reply[1])
    icmp_type, icmp_code = proto.get(5, proto.get(8)), proto.get(6, proto.get(9, b"\0"))
    port = icmp_type[0] if icmp_type is not None else int.from_bytes(proto.get(3, b"\0\0")[:2], "big")
    zone = parts.get(_ZONE) or orig.get(_TUPLE_ZONE) or b"\0\0"
    return Flow(
        zone=int.from_bytes(zone[:2], "big"),
        mark=int.from_bytes(parts.get(_MARK, b"\0" * 4)[:4], "big"),
        protocol=proto.get(1, b"\0")[0],
        source=source,
        target=target,
        port=port,
        code=icmp_code[0],
        answer_from=answer_from,
        answer_to=answer_to,
        raw=parts[_TUPLE_ORIG],
    )


def _pair(data: bytes) -> tuple[Address, Address]:
    parts = _attributes(data)
    ends = (parts[1], parts[2]) if 1 in parts else (parts[3], parts[4])
    return ipaddress.ip_address(ends[0]), ipaddress.ip_address(ends[1])


def _each(flows: Iterable[Flow], kind: int, extra: bytes) -> None:
    chosen = list(flows)
    if not chosen:
        return
    with _opened() as wire:
        for flow in chosen:
            family = socket.AF_INET if flow.source.version == 4 else socket.AF_INET6
            body = _attribute(_TUPLE_ORIG | _NESTED, flow.raw) + extra
            if flow.zone:
                body += _attribute(_ZONE, struct.pack("!H", flow.zone))
            wire.send(_message(kind, _REQUEST | _ACK, family, body))
            try:
                list(_answers(wire))
            except OSError as error:
                if error.errno != _ENOENT:
                    raise


def touches(flow: Flow, nets: Sequence[Network]) -> bool:
    """Whether one end of a flow is within these networks."""
    return any(end in net for end in (flow.source, flow.target) for net in nets)


def judge(
    found: Iterable[Flow], ports: Sequence[Port], members: Mapping[str, Sequence[str]]
) -> tuple[list[Flow], list[Flow]]:
    """Flows of one zone that the rules of its ports no longer allow, and cut ones that they allow again.

    `members`: group id → its addresses.  A flow between two ports must please both.
    """
    guarded = [(port, port_nets(port)) for port in ports if port.port_security]
    nets = {group_id: [network(text) for text in texts] for group_id, texts in members.items()}
    to_cut, to_free = [], []
    for flow in found:
        good = all(_permits(port, own, flow, nets.get) for port, own in guarded)
        if not good and flow.mark != CUT:
            to_cut.append(flow)
        elif good and flow.mark == CUT:
            to_free.append(flow)
    return to_cut, to_free


def _permits(
    port: Port, own: Sequence[Network], flow: Flow, members: Callable[[str], Sequence[Network] | None]
) -> bool:
    if any(flow.source in net for net in own) and not _matches_any(port, "egress", flow, flow.target, members):
        return False
    into = any(flow.target in net for net in own)
    return not into or _matches_any(port, "ingress", flow, flow.source, members)


def _matches_any(
    port: Port,
    direction: str,
    flow: Flow,
    other: Address,
    members: Callable[[str], Sequence[Network] | None],
) -> bool:
    if _essential(flow):
        return True
    return any(_matches(rule, flow, other, members) for rule in port.rules if rule.direction == direction)


def _essential(flow: Flow) -> bool:
    if flow.protocol == 17:
        return flow.port in (67, 68, 546, 547)
    return flow.protocol == 6 and flow.port == 80 and str(flow.target) in (METADATA4, METADATA6)


def _matches(rule: Rule, flow: Flow, other: Address, members: Callable[[str], Sequence[Network] | None]) -> bool:
    if other.version != (4 if rule.ethertype == "IPv4" else 6):
        return False
    if rule.remote_group and not any(other in net for net in members(rule.remote_group) or ()):
        return False
    if rule.remote_cidr and not rule.remote_group and other not in network(rule.remote_cidr):
        return False
    number = protocol_number(rule)
    if number is None:
        return True
    if number != flow.protocol:
        return False
    if number in (1, 58):
        return rule.port_min in (None, flow.port) and rule.port_max in (None, flow.code)
    low = rule.port_min if rule.port_min is not None else rule.port_max
    high = rule.port_max if rule.port_max is not None else rule.port_min
    return low is None or high is None or low <= flow.port <= high
