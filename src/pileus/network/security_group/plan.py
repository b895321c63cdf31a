"""What a security group rule may say: pure checks, and the one form in which rules are stored.

Source: Networking API reference, "Security group rules".
"""

import ipaddress
from collections.abc import Mapping
from typing import Any

from pileus.core.errors import BadRequest

NUMBERS = {
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmp": 1, "igmp": 2, "ipip": 4, "ipv6-encap": 41,
    "ipv6-frag": 44, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ipv6-route": 43, "ospf": 89, "pgm": 113,
    "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112,
}  # fmt: skip
_ICMP = (1, 58)
_WITH_PORTS = (6, 17, 33, 132, 136)
_ONLY_IPV6 = (41, 43, 44, 58, 59, 60)


def planned(given: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that say what a rule lets pass; raises BadRequest where it contradicts itself."""
    ethertype = _ethertype(given.get("ethertype") or "IPv4")
    protocol = _protocol(given.get("protocol"), ethertype)
    prefix = _prefix(given.get("remote_ip_prefix"), ethertype)
    group_id = given.get("remote_group_id") or None
    if prefix and group_id:
        raise BadRequest(
            "Only remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.",
            kind="SecurityGroupMultipleRemoteEntites",
        )
    low, high = _port(given, "port_range_min"), _port(given, "port_range_max")
    _check_ports(protocol, low, high)
    return {
        "direction": given["direction"], "ethertype": ethertype, "protocol": protocol, "port_range_min": low,
        "port_range_max": high, "remote_ip_prefix": prefix, "remote_group_id": group_id,
    }  # fmt: skip


def _ethertype(text: str) -> str:
    found = {"ipv4": "IPv4", "ipv6": "IPv6"}.get(text.lower())
    if found is None:
        raise BadRequest(
            f"Security group rule for ethertype '{text}' not supported. Allowed values are ['IPv4', 'IPv6'].",
            kind="SecurityGroupRuleInvalidEtherType",
        )
    return found


def _protocol(given: str | int | None, ethertype: str) -> str | None:
    """A name in lower case or a number as text; ICMP means that of the rule's IP version."""
    if given is None or given == "" or str(given).lower() == "any":
        return None
    text = str(given).lower()
    text = "ipv6-icmp" if text == "icmpv6" or (text == "icmp" and ethertype == "IPv6") else text
    number = NUMBERS.get(text, int(text) if text.isascii() and text.isdigit() and len(text) < 4 else -1)
    if not 0 <= number <= 255:
        raise BadRequest(
            f"Security group rule protocol {given} not supported. Only protocol values"
            f" {sorted(NUMBERS)} and integer representations [0 to 255] are supported.",
            kind="SecurityGroupRuleInvalidProtocol",
        )
    if number in _ONLY_IPV6 and ethertype == "IPv4":
        raise BadRequest(
            f"Invalid ethertype IPv4 for protocol {text}.", kind="SecurityGroupEthertypeConflictWithProtocol"
        )
    return text


def _prefix(given: str | None, ethertype: str) -> str | None:
    if not given:
        return None
    prefix = ipaddress.ip_interface(given)
    if f"IPv{prefix.version}" != ethertype:
        raise BadRequest(
            f"Conflicting value ethertype {ethertype} for CIDR {given}", kind="SecurityGroupRuleParameterConflict"
        )
    return str(prefix)


def _port(given: Mapping[str, Any], name: str) -> int | None:
    value = given.get(name)
    return None if value is None else int(value)


def _check_ports(protocol: str | None, low: int | None, high: int | None) -> None:
    if low is None and high is None:
        return
    if protocol is None:
        raise BadRequest(
            "Must also specify protocol if port range is given.", kind="SecurityGroupProtocolRequiredWithPorts"
        )
    number = NUMBERS.get(protocol) or int(protocol)
    if number in _ICMP:
        for name, value in (("type (port-range-min)", low), ("code (port-range-max)", high)):
            if value is not None and not 0 <= value <= 255:
                raise BadRequest(f"Invalid value for ICMP {name} {value}.", kind="SecurityGroupInvalidIcmpValue")
        if low is None:
            raise BadRequest(
                f"ICMP code (port-range-max) {high} is provided but ICMP type (port-range-min) is missing.",
                kind="SecurityGroupMissingIcmpType",
            )
        return
    if number not in _WITH_PORTS:
        raise BadRequest(
            f"Ports cannot be given for protocol {protocol}: it has none.", kind="SecurityGroupInvalidProtocolForPort"
        )
    for value in (low, high):
        if value is not None and not 1 <= value <= 65535:
            raise BadRequest(f"Invalid value for port {value}", kind="SecurityGroupInvalidPortValue")
    if low is None or high is None or low > high:
        raise BadRequest(
            "For TCP/UDP protocols, port_range_min must be <= port_range_max", kind="SecurityGroupInvalidPortRange"
        )
