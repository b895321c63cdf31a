"""A router's way outside: the port on an external network, and extra routes."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.reconcile import poke
from pileus.network.floating_ip.rows import FLOATING_IPS
from pileus.network.network.rows import load_network
from pileus.network.port.make import add_port, free_mac, new_port, readdress, remove_port
from pileus.network.port.rows import GATEWAY, OF_ROUTERS, PORTS, Port
from pileus.network.router.rows import ROUTERS, Router, legs_of
from pileus.network.subnet.rows import Route, Subnet, subnets_by_id, subnets_of

MOST_ROUTES = 30


def bad(why: str) -> BadRequest:
    """The refusal of what a router cannot be."""
    return BadRequest(f"Bad router request: {why}.", kind="BadRequest")


def set_gateway(ctx: Context, router: Router, info: Mapping[str, Any] | None) -> Router:
    """Give a router the gateway that a request describes, or none for an empty one."""
    network_id = (info or {}).get("network_id") or (router.gateway_network_id if info else None)
    if not info or not network_id:
        if info:
            raise bad("external_gateway_info needs a network_id")
        return clear_gateway(ctx, router)
    if router.gateway_network_id not in (None, network_id):
        router = clear_gateway(ctx, router)
    wanted = info.get("external_fixed_ips")
    port = PORTS.get(ctx.tx, id=router.gateway_port_id) if router.gateway_port_id else None
    if port is None:
        port = _plug(ctx, router, network_id, wanted)
    elif wanted is not None:
        port = readdress(ctx.tx, port, wanted, ctx.now)
    changed = {"gateway_network_id": network_id, "gateway_port_id": port.id,
               "enable_snat": info.get("enable_snat", router.enable_snat)}  # fmt: skip
    ROUTERS.update(ctx.tx, changed, id=router.id)
    poke(ctx.tx, "router", router.id, ctx.now)
    return structs.replace(router, **changed)


def _plug(ctx: Context, router: Router, network_id: str, wanted: Sequence[Mapping[str, Any]] | None) -> Port:
    """A port on the external network; nobody's, as its address belongs to the network's owner."""
    network = load_network(ctx, network_id)
    if not network.external:
        raise bad(f"Network {network_id} is not an external network")
    subnets = subnets_of(ctx.tx, network_id)
    for leg in legs_of(ctx.tx, router.id):
        check_overlap(subnets, subnets_by_id(ctx.tx, (fixed.subnet_id for fixed in leg.fixed_ips)).values())
    port = new_port(
        network, ctx.now, project_id="", mac_address=free_mac(ctx.tx, network_id), device_owner=GATEWAY,
        device_id=router.id, port_security_enabled=False,
    )  # fmt: skip
    return add_port(ctx.tx, port, wanted or None, subnets)


def check_overlap(new: Iterable[Subnet], there: Iterable[Subnet]) -> None:
    """Refuse a router on two ranges that overlap: it could not tell them apart."""
    known = list(there)
    for subnet in new:
        for other in known:
            if other.id == subnet.id:
                raise bad(f"Router already has a port on subnet {subnet.id}")
            if other.ip_version == subnet.ip_version and other.net.overlaps(subnet.net):
                raise bad(
                    f"Cidr {subnet.cidr} of subnet {subnet.id} overlaps with cidr {other.cidr} of subnet {other.id}"
                )


def clear_gateway(ctx: Context, router: Router) -> Router:
    """Take the gateway away; refused while floating IPs go through it."""
    if router.gateway_port_id is None:
        return router
    if FLOATING_IPS.count(ctx.tx, router_id=router.id):
        raise Conflicted(
            f"Gateway cannot be updated for router {router.id}, since a gateway to external network "
            f"{router.gateway_network_id} is required by one or more floating IPs.",
            kind="RouterExternalGatewayInUseByFloatingIp",
        )
    port = PORTS.get(ctx.tx, id=router.gateway_port_id)
    cleared = {"gateway_network_id": None, "gateway_port_id": None}
    ROUTERS.update(ctx.tx, cleared, id=router.id)
    if port is not None:
        remove_port(ctx.tx, port, ctx.now)
    poke(ctx.tx, "router", router.id, ctx.now)
    return structs.replace(router, **cleared)


def routes_of(given: Iterable[Mapping[str, str]] | None) -> list[Route]:
    """Routes in their canonical form, each once."""
    found: list[Route] = []
    for one in given or ():
        net, via = ipaddress.ip_network(one["destination"], strict=False), ipaddress.ip_address(one["nexthop"])
        if net.version != via.version:
            raise _invalid(found, f"{net} and {via} are of different IP versions")
        route = Route(str(net), str(via))
        if route not in found:
            found.append(route)
    return found


def set_routes(ctx: Context, router: Router, routes: Sequence[Route]) -> Router:
    """Give a router these extra routes, whose next hops must be neighbours of it."""
    if len(routes) > MOST_ROUTES:
        raise BadRequest(
            f"Unable to complete operation for {router.id}. The number of routes exceeds the maximum {MOST_ROUTES}.",
            kind="RoutesExhausted",
        )
    ports = PORTS.all(ctx.tx, device_id=router.id, device_owner=OF_ROUTERS, deleting=False)
    own = {ip for port in ports for ip in port.ips}
    nets = [s.net for s in subnets_by_id(ctx.tx, (f.subnet_id for p in ports for f in p.fixed_ips)).values()]
    for route in routes:
        via = ipaddress.ip_address(route.nexthop)
        if not any(via in net for net in nets):
            raise _invalid(routes, "the nexthop is not connected with router")
        if route.nexthop in own:
            raise _invalid(routes, "the nexthop is used by router")
    ROUTERS.update(ctx.tx, {"routes": list(routes)}, id=router.id)
    poke(ctx.tx, "router", router.id, ctx.now)
    return structs.replace(router, routes=list(routes))


def _invalid(routes: Sequence[Route], why: str) -> BadRequest:
    shown = [{"destination": route.destination, "nexthop": route.nexthop} for route in routes]
    return BadRequest(f"Invalid format for routes: {shown}, {why}", kind="InvalidRoutes")
