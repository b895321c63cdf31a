"""What of a port's wishes can be together.  Source: Networking API reference, "Create port", "Update port"."""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.network.port.rows import DhcpOption, FixedIp, Pair
from pileus.network.security_group.rows import GROUPS, group_not_found

MOST_PAIRS = 10


def canonical_mac(text: str) -> str:
    """fa:16:3e:00:00:01; a group address is refused."""
    mac = text.lower().replace("-", ":")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise BadRequest(f"Invalid input for mac_address. Reason: '{text}' is not a valid unicast MAC address.")
    return mac


def address_pairs(given: Iterable[Mapping[str, Any]] | None, own_mac: str) -> list[Pair]:
    """The pairs of a request in their canonical form."""
    found: list[Pair] = []
    for one in given or ():
        mac = canonical_mac(one["mac_address"]) if one.get("mac_address") else own_mac
        text = one["ip_address"]
        if "/" in text:
            net = ipaddress.ip_network(text, strict=False)
            ip = str(net)
        else:
            ip = str(ipaddress.ip_address(text))
        if Pair(ip, mac) in found:
            raise BadRequest(
                f"Request contains duplicate address pair: mac_address {mac} ip_address {ip}.",
                kind="DuplicateAddressPairInRequest",
            )
        found.append(Pair(ip, mac))
    if len(found) > MOST_PAIRS:
        raise BadRequest(
            f"The number of allowed address pair exceeds the maximum {MOST_PAIRS}.", kind="AllowedAddressPairExhausted"
        )
    return found


def dhcp_options(given: Iterable[Mapping[str, Any]] | None, before: Sequence[DhcpOption] = ()) -> list[DhcpOption]:
    """The options of a request merged into those before; a null value takes one away."""
    found = {(option.opt_name, option.ip_version): option for option in before}
    for one in given or ():
        key = (one["opt_name"], int(one.get("ip_version", 4)))
        if key[0].isdigit() and int(key[0]) > 254:
            raise BadRequest(f"Invalid input for extra_dhcp_opts: {key[0]} is not the number of a DHCP option.")
        if one["opt_value"] is None:
            found.pop(key, None)
        else:
            found[key] = DhcpOption(key[0], one["opt_value"], key[1])
    return list(found.values())


def dns_name(given: str | None) -> str:
    """The host part of a name, checked; guests and DNS see only that."""
    name = (given or "").rstrip(".").partition(".")[0]
    if name and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", name):
        raise BadRequest(f"Invalid input for dns_name. Reason: '{name}' is no host name (RFC 1123).")
    return name.lower()


def groups(ctx: Context, given: Iterable[str], project_id: str) -> list[str]:
    """The ids of security groups that a port of the project may have; raises NotFound."""
    wanted = list(dict.fromkeys(given))
    everything = ctx.allows("get_security_group", {})
    known = {group.id: group for group in GROUPS.all(ctx.tx, id=tuple(wanted), deleting=False)} if wanted else {}
    for group_id in wanted:
        group = known.get(group_id)
        if group is None or not (everything or group.project_id in (ctx.caller.project_id, project_id)):
            raise group_not_found(group_id)
    return wanted


def together(
    *, secured: bool, group_ids: Sequence[str], pairs: Sequence[Pair], fixed: Sequence[FixedIp], asked: bool
) -> None:
    """Refuse groups or pairs on a port without port security, and groups asked for a port without addresses."""
    if not secured and group_ids:
        raise Conflicted(
            "Port has security group associated. Cannot disable port security or ip address until security group is"
            " removed.",
            kind="PortSecurityPortHasSecurityGroup",
        )
    if not secured and pairs:
        raise Conflicted(
            "Port Security must be enabled in order to have allowed address pairs on a port.",
            kind="AddressPairAndPortSecurityRequired",
        )
    if asked and group_ids and not fixed:
        raise BadRequest(
            "Port security must be enabled and port must have an IP address in order to use security groups.",
            kind="PortSecurityAndIPRequiredForSecurityGroups",
        )
