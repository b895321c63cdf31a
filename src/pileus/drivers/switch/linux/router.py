"""Routers: a namespace each, with legs into bridges, NAT and its own filters.

A router forwards between its legs and to its gateway, translates floating addresses one to one and
everything else to its gateway address, and answers nobody but pings.  `ruleset` is pure.
"""

from collections.abc import Sequence

from pileus.network.drivers import Leg, Router

from . import flows, links, names, namespaces
from .names import TABLE, Interface, Network, address, network

_FROM_OUTSIDE = 1  # packet mark inside a router's namespace


def devices(wish: Router) -> list[tuple[Leg, str, str]]:
    """(leg, device in the bridge, device in the router) of every interface."""
    legs = [(leg, names.leg_plug(leg.port_id), names.leg(leg.port_id)) for leg in wish.legs]
    if wish.gateway:
        gateway = wish.gateway
        legs.append((gateway, names.leg_plug(gateway.port_id), names.gateway(gateway.port_id)))
    return legs


def check(wish: Router) -> None:
    """ValueError where a value of the wish is not what it should be."""
    for leg in (*wish.legs, *((wish.gateway,) if wish.gateway else ())):
        names.check_mac(leg.mac)
        for text in leg.ips:
            names.interface(text)
        for subnet in leg.advertise:
            network(subnet.cidr)
    for texts in wish.floating:
        if any(address(text).version != 4 for text in texts):
            raise ValueError(f"floating addresses are IPv4: {texts!r}")
    for to, via in wish.routes:
        if network(to).version != address(via).version:
            raise ValueError(f"a route to {to} by way of {via}")
    for via in wish.next_hops:
        address(via)


def ruleset(wish: Router) -> str:
    """The whole nftables ruleset of the router's namespace, as one transaction."""
    head = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    chains = [
        ("outside", "type filter hook prerouting priority -150; policy accept;", _marks(wish)),
        ("to_inside", "type nat hook prerouting priority -100; policy accept;", _arriving(wish)),
        ("to_outside", "type nat hook postrouting priority 100; policy accept;", _leaving(wish)),
        ("through", "type filter hook forward priority 0; policy drop;", _forward(wish)),
        ("itself", "type filter hook input priority 0; policy drop;", _itself()),
    ]
    body = [f" chain {name} {{\n  {hook}\n" + "".join(f"  {r}\n" for r in rules) + " }" for name, hook, rules in chains]
    return "\n".join([*head, *body, "}"]) + "\n"


def _marks(wish: Router) -> list[str]:
    if not wish.gateway:
        return []
    return [f'iifname "{names.gateway(wish.gateway.port_id)}" meta mark set {_FROM_OUTSIDE}']


def _arriving(wish: Router) -> list[str]:
    pairs = ", ".join(f"{address(floating)} : {address(fixed)}" for floating, fixed in wish.floating)
    return [f"dnat ip to ip daddr map {{ {pairs} }}"] if pairs and wish.gateway else []


def _leaving(wish: Router) -> list[str]:
    """Source addresses of what goes outside, and of what one guest sends to another's floating address.

    The latter comes back through the router only if its source is not the guest's own.
    """
    if not wish.gateway:
        return []
    device = names.gateway(wish.gateway.port_id)
    own = next((one.ip for one in map(names.interface, wish.gateway.ips) if one.version == 4), None)
    hairpin = f'oifname != "{device}" ct status dnat meta mark != {_FROM_OUTSIDE}'
    rules = []
    pairs = ", ".join(f"{address(fixed)} : {address(floating)}" for floating, fixed in wish.floating)
    if pairs:
        rules += [f"{where} snat ip to ip saddr map {{ {pairs} }}" for where in (f'oifname "{device}"', hairpin)]
    if own is not None:
        rules.append(f"{hairpin} snat ip to {own}")
        if wish.snat:
            rules.append(f'oifname "{device}" meta nfproto ipv4 snat ip to {own}')
    return rules


def _forward(wish: Router) -> list[str]:
    if not wish.admin_up:
        return []
    rules = ["ct state invalid drop", "ct state established,related accept"]
    if wish.gateway and wish.snat:
        rules.append(f"meta mark {_FROM_OUTSIDE} meta nfproto ipv4 ct status ! dnat drop")
    return [*rules, "accept"]


def _itself() -> list[str]:
    return [
        'iifname "lo" accept',
        "ct state established,related accept",
        "icmp type echo-request accept",
        "icmpv6 type { echo-request, nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept",
    ]


def settle() -> None:
    """Sysctls of a fresh router namespace (run inside it)."""
    links.quiet_devices(ipv6=True)
    namespaces.sysctl("ipv4/ip_forward", 1)
    namespaces.sysctl("ipv6/conf/all/forwarding", 1)
    namespaces.sysctl("ipv6/conf/default/forwarding", 1)
    for scope in ("all", "default"):
        namespaces.sysctl(f"ipv4/conf/{scope}/rp_filter", 0)
        namespaces.sysctl(f"ipv4/conf/{scope}/send_redirects", 0)
        namespaces.sysctl(f"ipv4/conf/{scope}/arp_ignore", 1)


def configure(wish: Router, *, changed: bool) -> None:
    """Filters, addresses and routes of a router whose legs are there (run inside its namespace).

    Flows of floating addresses that went away are cut.
    """
    namespaces.nft(ruleset(wish))
    for leg, _, device in devices(wish):
        wanted = [names.interface(text) for text in leg.ips]
        outer = leg is wish.gateway
        if outer:
            wanted += [names.interface(f"{floating}/32") for floating, _ in wish.floating]
        new = links.set_addresses(device, wanted)
        if outer and (new or changed):
            links.announce(device, leg.mac, [str(one.ip) for one in wanted if one.version == 4])
    links.set_routes(_routes(wish))
    if changed:
        _forget_floating(wish)


def _routes(wish: Router) -> list[tuple[Network, str, str]]:
    routes = []
    if wish.gateway:
        device = names.gateway(wish.gateway.port_id)
        for via in wish.next_hops:
            everything = network("0.0.0.0/0" if address(via).version == 4 else "::/0")
            routes.append((everything, str(address(via)), device))
    direct = [(leg_net, device) for leg, _, device in devices(wish) for leg_net in _nets(leg.ips)]
    for to, via in wish.routes:
        # A next hop on none of the legs is skipped: the kernel would refuse it, and the rest must stand.
        if any(address(via) in net for net, _ in direct):
            routes.append((network(to), str(address(via)), ""))
    return routes


def _nets(ips: Sequence[str]) -> list[Network]:
    interfaces: list[Interface] = [names.interface(text) for text in ips]
    return [one.network for one in interfaces]


def _forget_floating(wish: Router) -> None:
    """Cut flows that were translated by a pair (floating, fixed) that is no more."""
    outside = {address(floating): address(fixed) for floating, fixed in wish.floating}
    own = {names.interface(text).ip for text in wish.gateway.ips} if wish.gateway else set()
    stale = []
    for flow in flows.listed():
        arrived = flow.target != flow.answer_from and outside.get(flow.target) != flow.answer_from
        left = (
            flow.source != flow.answer_to and flow.answer_to not in own and outside.get(flow.answer_to) != flow.source
        )
        if arrived or left:
            stale.append(flow)
    flows.forget(stale)
