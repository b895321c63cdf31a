"""Compiles ports and groups to nftables commands; pure, so that every rule can be read in a test.

Kernels here have no connection tracking in the bridge family, so a packet's way is this:
bridge prerouting (-300) drops what a guest may not claim to be and marks the packet with the
number of its port; inet prerouting (by br_netfilter) puts it into the conntrack zone of its network
(-300) and applies the port's egress rules by mark (-150); bridge forward (-200) marks it with the
number of the port it is for; inet forward (0) applies that port's ingress rules.
A tap that no map knows is dropped in both directions: default-deny stands before a port does.

Each text is one transaction and may be applied again.  Each port has chains of its own, reached
through maps, so that a change of one port touches nothing else.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence

from pileus.network.drivers import Group, Port, Rule

from .names import METADATA4, METADATA6, TABLE, Network, check_mac, link_local, network, tap, word

_SET = re.compile(r"set g[46]_(\w+) ")

CUT = 1  # conntrack mark of a flow that rules no longer allow

PROTOCOLS = {
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmp": 1, "icmpv6": 58, "igmp": 2, "ipip": 4,
    "ipv6-encap": 41, "ipv6-frag": 44, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ipv6-route": 43,
    "ospf": 89, "pgm": 113, "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112,
}  # fmt: skip
WITH_PORTS = (6, 17, 33, 132, 136)
ND = "{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld2-listener-report }"
TO_GUEST = (
    "{ nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query, "
    "mld-listener-report, mld2-listener-report }"
)


def base(reachable: Mapping[str, Sequence[int]], zones: Mapping[str, int]) -> str:
    """Tables, maps and the chains that all packets pass.

    `reachable`: device by which the node is a neighbour of an external network → TCP ports open on it.
    `zones`: bridge of an external network → conntrack zone.
    """
    lines = [
        *(f"add table {family} {TABLE}" for family in ("bridge", "inet")),
        f"add map bridge {TABLE} marks {{ type ifname : mark; }}",
        f"add map bridge {TABLE} from {{ type ifname : verdict; }}",
        f"add map bridge {TABLE} to {{ type ifname : verdict; }}",
        f"add map inet {TABLE} zones {{ typeof iifname : ct zone; }}",
        f"add map inet {TABLE} egress {{ type mark : verdict; }}",
        f"add map inet {TABLE} ingress {{ type mark : verdict; }}",
    ]
    taps = ("meta mark set 0", '{0} != "tap*" accept', "meta mark set {0} map @marks", "{0} vmap @{1}", "drop")
    lines += _hook("bridge", "before", "prerouting", -300, [r.format("iifname", "from") for r in taps])
    lines += _hook("bridge", "between", "forward", -200, [r.format("oifname", "to") for r in taps])
    lines += _hook("bridge", "own", "output", -200, ['oifname "tap*" drop'])
    lines += _hook("inet", "zone", "prerouting", -300, ["ct zone set iifname map @zones"])
    lines += _hook("inet", "leaving", "prerouting", -150, ["meta mark vmap @egress"])
    lines += _hook("inet", "arriving", "forward", 0, ["meta mark vmap @ingress"])
    lines += _hook("inet", "node", "input", 0, _node_rules(reachable))
    lines += [zone_element(bridge, number) for bridge, number in zones.items()]
    return "\n".join(lines) + "\n"


def _hook(family: str, chain: str, hook: str, priority: int, rules: Iterable[str]) -> list[str]:
    head = f"{{ type filter hook {hook} priority {priority}; policy accept; }}"
    return [f"add chain {family} {TABLE} {chain} {head}", *_fill(family, chain, rules)]


def _fill(family: str, chain: str, rules: Iterable[str]) -> list[str]:
    return [
        f"flush chain {family} {TABLE} {chain}",
        *(f"add rule {family} {TABLE} {chain} {rule}" for rule in rules),
    ]


def _node_rules(reachable: Mapping[str, Sequence[int]]) -> list[str]:
    """The node answers nobody on a bridge, and on external networks only pings and its own calls."""
    rules = [f'iifname "{prefix}*" drop' for prefix in ("br", "ex-", "tap")]
    for device, ports in reachable.items():
        rules += [
            f'iifname "{device}" ct state established,related accept',
            f'iifname "{device}" meta l4proto {{ 1, 58 }} accept',
        ]
        if ports:
            listed = ", ".join(str(int(port)) for port in sorted(set(ports)))
            rules.append(f'iifname "{device}" tcp dport {{ {listed} }} accept')
        rules.append(f'iifname "{device}" drop')
    return rules


def zone_element(bridge: str, number: int) -> str:
    """The command that puts packets of a bridge into a conntrack zone."""
    return f'add element inet {TABLE} zones {{ "{bridge}" : {number} }}'


def drop_zone(bridge: str, number: int) -> str:
    """The transaction that takes a bridge out of its zone, whether it was in it or not."""
    return f'{zone_element(bridge, number)}\ndelete element inet {TABLE} zones {{ "{bridge}" }}\n'


def port(wish: Port, number: int) -> str:
    """Chains and map elements of one port; `number` is its packet mark."""
    name, device = word(wish.id), tap(wish.id)
    lines = [f"add set inet {TABLE} {text}" for text in _group_sets(wish)]
    chains = {
        ("bridge", f"from_{name}"): _from_guest(wish),
        ("bridge", f"to_{name}"): _to_guest(wish),
        ("inet", f"egress_{name}"): _stateful(wish, "egress"),
        ("inet", f"ingress_{name}"): _stateful(wish, "ingress"),
    }
    for (family, chain), rules in chains.items():
        lines += [f"add chain {family} {TABLE} {chain}", *_fill(family, chain, rules)]
    lines += [f"add element {element}" for element in _port_elements(name, device, number)]
    return "\n".join(lines) + "\n"


def _port_elements(name: str, device: str, number: int) -> list[str]:
    return [
        f'bridge {TABLE} marks {{ "{device}" : {number} }}',
        f'bridge {TABLE} from {{ "{device}" : goto from_{name} }}',
        f'bridge {TABLE} to {{ "{device}" : goto to_{name} }}',
        f"inet {TABLE} egress {{ {number} : goto egress_{name} }}",
        f"inet {TABLE} ingress {{ {number} : goto ingress_{name} }}",
    ]


def drop_port(port_id: str, number: int) -> str:
    """The transaction that removes all of a port; it first adds what may be missing, so it never fails."""
    name, device = word(port_id), tap(port_id)
    chains = [f"{family} {TABLE} {way}_{name}" for family, way in _PORT_CHAINS]
    elements = _port_elements(name, device, number)
    lines = [f"add chain {chain}" for chain in chains]
    lines += [f"add element {element}" for element in elements]
    lines += [f"delete element {element}" for element in elements]
    lines += [f"flush chain {chain}" for chain in chains]
    lines += [f"delete chain {chain}" for chain in chains]
    return "\n".join(lines) + "\n"


_PORT_CHAINS = (("bridge", "from"), ("bridge", "to"), ("inet", "egress"), ("inet", "ingress"))


def groups_of(wish: Port) -> set[str]:
    """Ids of the remote groups that a port's rules name."""
    return {rule.remote_group for rule in wish.rules if rule.remote_group}


def _group_sets(wish: Port) -> list[str]:
    return [text for group_id in sorted(groups_of(wish)) for text in _sets(group_id)]


def _sets(group_id: str) -> list[str]:
    return [
        f"g{version}_{word(group_id)} {{ type ipv{version}_addr; flags interval; auto-merge; }}" for version in (4, 6)
    ]


def group(wish: Group) -> str:
    """The transaction that gives a group's sets exactly these members."""
    lines = [f"add set inet {TABLE} {text}" for text in _sets(wish.id)]
    nets = [network(text) for text in wish.addresses]
    for version in (4, 6):
        name = f"g{version}_{word(wish.id)}"
        lines.append(f"flush set inet {TABLE} {name}")
        members = _collapsed(nets, version)
        if members:
            lines.append(f"add element inet {TABLE} {name} {{ {', '.join(members)} }}")
    return "\n".join(lines) + "\n"


def drop_group(group_id: str) -> str:
    """The transaction that removes a group's sets (no rule may use them any more)."""
    lines = [f"add set inet {TABLE} {text}" for text in _sets(group_id)]
    lines += [f"delete set inet {TABLE} g{version}_{word(group_id)}" for version in (4, 6)]
    return "\n".join(lines) + "\n"


def groups_in(listed: str) -> set[str]:
    """Ids of the groups whose sets `nft list` shows."""
    return {found.replace("_", "-") for found in _SET.findall(listed)}


def _collapsed(nets: Iterable[Network], version: int) -> list[str]:
    """The networks of one IP version as nft writes them, none inside another (sets take no overlap)."""
    chosen = [net for net in nets if net.version == version]
    return [_short(net) for net in ipaddress.collapse_addresses(chosen)]  # type: ignore[type-var]  # all of one version, which the type of networks does not say


def _short(net: Network) -> str:
    return str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)


def allowed_sources(wish: Port) -> dict[str, list[Network]]:
    """MAC → addresses that a guest may use as its own: fixed addresses, pairs, the derived link-locals."""
    own = check_mac(wish.mac)
    sources: dict[str, list[Network]] = {own: [network(text) for text in wish.ips]}
    for mac, text in wish.pairs:
        sources.setdefault(check_mac(mac) if mac else own, []).append(network(text))
    for mac, nets in sources.items():
        nets.append(network(str(link_local(mac))))
    return sources


def _from_guest(wish: Port) -> list[str]:
    """What a guest may claim to be: its MACs and addresses, no DHCP server, no router advertisements."""
    if not wish.admin_up:
        return ["drop"]
    if not wish.port_security:
        return ["accept"]
    sources = allowed_sources(wish)
    rules = [
        f"ether saddr != {{ {', '.join(sources)} }} drop",
        "ether type != { ip, arp, ip6 } drop",
        "udp sport { 67, 547 } drop",
        "icmpv6 type { nd-router-advert, nd-redirect } drop",
        "ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
        "ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report } accept",
    ]
    for mac, nets in sources.items():
        rules += _from_mac(mac, nets)
    return [*rules, "drop"]


def _from_mac(mac: str, nets: Sequence[Network]) -> list[str]:
    """What a guest may send under one of its MACs."""
    v4, v6 = _collapsed(nets, 4), _collapsed(nets, 6)
    probe_or_own = ", ".join(["0.0.0.0", *v4])  # noqa: S104  an address in a packet
    mine = f"ether saddr {mac}"
    rules = [f"{mine} arp saddr ether {mac} arp saddr ip {{ {probe_or_own} }} accept"]
    if v4:
        rules.append(f"{mine} ip saddr {{ {', '.join(v4)} }} accept")
    from_own = f"{mine} ip6 saddr {{ {', '.join(v6)} }}"
    rules += [f"{from_own} {_advert_target(text)} accept" for text in v6]
    return [*rules, f"{mine} icmpv6 type nd-neighbor-advert drop", f"{from_own} accept"]


def _advert_target(text: str) -> str:
    """Matches a neighbour advertisement for an address of this network (RFC 4861, section 4.4: target at 8)."""
    net = network(text)
    value = f"0x{int(net.network_address):032x}"
    mask = "" if net.prefixlen == 128 else f"& 0x{int(net.netmask):032x} "
    return f"icmpv6 type nd-neighbor-advert @th,64,128 {mask}== {value}"


def _to_guest(wish: Port) -> list[str]:
    if not wish.admin_up:
        return ["drop"]
    if not wish.port_security:
        return ["accept"]
    return ["ether type != { ip, arp, ip6 } drop", "accept"]


def _stateful(wish: Port, direction: str) -> list[str]:
    """One direction of a port's security groups, with what every guest needs to live."""
    if not wish.admin_up:
        return ["drop"]
    if not wish.port_security:
        return ["accept"]
    rules = [f"ct mark {CUT} drop", "ct state established,related accept", "ct state invalid drop"]
    if direction == "egress":
        rules += [
            "meta nfproto ipv4 udp sport 68 udp dport 67 accept",
            "meta nfproto ipv6 udp sport 546 udp dport 547 accept",
            f"icmpv6 type {ND} accept",
            f"ip daddr {METADATA4} tcp dport 80 accept",
            f"ip6 daddr {METADATA6} tcp dport 80 accept",
        ]
    else:
        rules += [
            "meta nfproto ipv4 udp sport 67 udp dport 68 accept",
            "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
            f"icmpv6 type {TO_GUEST} accept",
        ]
    rules += [rule_text(rule) for rule in wish.rules if rule.direction == direction]
    return [*rules, "drop"]


def protocol_number(rule: Rule) -> int | None:
    """The IP protocol number that a rule means, None for any.

    Networking API reference, "Create security group rule": names, or 0-255; "icmp" of an IPv6 rule is ICMPv6.
    """
    text = rule.protocol.lower()
    if text in ("", "any", "0"):
        return None
    number = PROTOCOLS.get(text)
    if number is None:
        if not text.isascii() or not text.isdigit() or int(text) > 255:
            raise ValueError(f"not a protocol: {rule.protocol!r}")
        number = int(text)
    return 58 if number == 1 and rule.ethertype == "IPv6" else number


def rule_text(rule: Rule) -> str:
    """One security group rule as an nft rule."""
    version = 4 if rule.ethertype == "IPv4" else 6
    family = "ip" if version == 4 else "ip6"
    other = "saddr" if rule.direction == "ingress" else "daddr"
    parts = [f"meta nfproto ipv{version}"]
    if rule.remote_group:
        parts.append(f"{family} {other} @g{version}_{word(rule.remote_group)}")
    elif rule.remote_cidr:
        net = network(rule.remote_cidr)
        if net.version != version:
            raise ValueError(f"an {rule.ethertype} rule with the remote {rule.remote_cidr!r}")
        if net.prefixlen:
            parts.append(f"{family} {other} {_short(net)}")
    number = protocol_number(rule)
    if number is not None:
        parts.append(f"meta l4proto {number}")
        parts += _port_match(rule, number)
    return " ".join([*parts, "accept"])


def _port_match(rule: Rule, number: int) -> list[str]:
    low, high = rule.port_min, rule.port_max
    if number in (1, 58):
        kind = "icmp" if number == 1 else "icmpv6"
        parts = [] if low is None else [f"{kind} type {_within(low, 255)}"]
        return parts if high is None else [*parts, f"{kind} code {_within(high, 255)}"]
    if number not in WITH_PORTS or (low is None and high is None):
        return []
    first = _within(low if low is not None else high or 0, 65535)
    last = _within(high if high is not None else first, 65535)
    if first > last:
        raise ValueError(f"a port range from {first} down to {last}")
    return [f"th dport {first}" if first == last else f"th dport {first}-{last}"]


def _within(value: int, most: int) -> int:
    if not 0 <= value <= most:
        raise ValueError(f"{value} is not within 0-{most}")
    return value


def port_nets(wish: Port) -> list[Network]:
    """Every network whose addresses belong to a port's guest."""
    return [net for nets in allowed_sources(wish).values() for net in nets]
