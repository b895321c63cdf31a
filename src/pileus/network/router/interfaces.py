"""Plugging routers into networks.  Source: Networking API reference, "Add interface to router"."""

import ipaddress
from collections.abc import Mapping
from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.events import record_request
from pileus.core.reconcile import poke
from pileus.core.schema import Schema
from pileus.network.conventions import ID
from pileus.network.floating_ip.rows import FLOATING_IPS
from pileus.network.network.rows import NETWORKS
from pileus.network.port.make import add_port, free_mac, new_port, readdress, remove_port, set_device
from pileus.network.port.rows import LEG, OF_ROUTERS, PORTS, FixedIp, Port, load_port
from pileus.network.quota import take
from pileus.network.router.gateway import bad, check_overlap
from pileus.network.router.rows import Router, legs_of, load_router
from pileus.network.service import ADMIN_OR_MEMBER, NETWORK
from pileus.network.subnet.rows import Subnet, load_subnet, subnets_by_id

BODY: Schema = {
    "type": "object",
    "properties": {"subnet_id": ID, "port_id": ID},
    "minProperties": 1,
    "additionalProperties": False,
}


@NETWORK.op("PUT", "/routers/{router_id}/add_router_interface", rule="add_router_interface", allow=ADMIN_OR_MEMBER,
            load=load_router, takes=BODY)  # fmt: skip
def add_router_interface(ctx: Context, router: Router, body: dict[str, Any]) -> dict[str, Any]:
    """Plug a router into a subnet, or make a port its own."""
    if len(body) != 1:
        raise BadRequest("Bad router request: Cannot specify both subnet-id and port-id.", kind="BadRequest")
    before = _subnets(ctx, router)
    if "port_id" in body:
        port = _take_over(ctx, router, load_port(ctx, body["port_id"]), before)
        subnet_ids = [fixed.subnet_id for fixed in port.fixed_ips]
    else:
        subnet = load_subnet(ctx, body["subnet_id"])
        if subnet.gateway_ip is None:
            raise bad("Subnet for router interface must have a gateway IP")
        check_overlap([subnet], before.values())
        port, subnet_ids = _plug(ctx, router, subnet), [subnet.id]
    poke(ctx.tx, "router", router.id, ctx.now)
    record_request(ctx, "router", router.id, "add_interface", "success", port=port.id)
    return _answer(router, port, subnet_ids)


def _subnets(ctx: Context, router: Router) -> dict[str, Subnet]:
    """All that the router is on, its gateway included."""
    ports = PORTS.all(ctx.tx, device_id=router.id, device_owner=OF_ROUTERS, deleting=False)
    return subnets_by_id(ctx.tx, (fixed.subnet_id for port in ports for fixed in port.fixed_ips))


def _answer(router: Router, port: Port, subnet_ids: list[str]) -> dict[str, Any]:
    return {
        "id": router.id, "project_id": router.project_id, "tenant_id": router.project_id, "port_id": port.id,
        "network_id": port.network_id, "subnet_id": subnet_ids[0], "subnet_ids": subnet_ids,
    }  # fmt: skip


def _take_over(ctx: Context, router: Router, port: Port, before: Mapping[str, Subnet]) -> Port:
    """Make an unused port the router's."""
    if port.device_id or port.device_owner or port.node_id is not None:
        raise Conflicted(
            f"Unable to complete operation on port {port.id} for network {port.network_id}. Port already has an"
            f" attached device {port.device_id}.",
            kind="PortInUse",
        )
    subnets = subnets_by_id(ctx.tx, (fixed.subnet_id for fixed in port.fixed_ips))
    if not subnets:
        raise bad("Router port must have at least one fixed IP")
    if sum(subnet.ip_version == 4 for subnet in subnets.values()) > 1:
        raise bad("Cannot have multiple IPv4 subnets on router port")
    check_overlap(subnets.values(), before.values())
    return set_device(ctx.tx, port, router.id, LEG)


def _plug(ctx: Context, router: Router, subnet: Subnet) -> Port:
    """A leg with the subnet's gateway address; IPv6 subnets of one network share a leg."""
    wanted = {"subnet_id": subnet.id, "ip_address": subnet.gateway_ip}
    if subnet.ip_version == 6:
        for leg in legs_of(ctx.tx, router.id):
            if leg.network_id == subnet.network_id and all(":" in ip for ip in leg.ips):
                return readdress(ctx.tx, leg, [*map(structs.asdict, leg.fixed_ips), wanted], ctx.now)
    network = NETWORKS.get(ctx.tx, id=subnet.network_id)
    assert network is not None, "a subnet has a network"
    take(ctx.tx, router.project_id, port=1)
    port = new_port(
        network, ctx.now, project_id=router.project_id, mac_address=free_mac(ctx.tx, network.id), device_owner=LEG,
        device_id=router.id, port_security_enabled=False,
    )  # fmt: skip
    return add_port(ctx.tx, port, [wanted])


@NETWORK.op("PUT", "/routers/{router_id}/remove_router_interface", rule="remove_router_interface",
            allow=ADMIN_OR_MEMBER, load=load_router, takes=BODY)  # fmt: skip
def remove_router_interface(ctx: Context, router: Router, body: dict[str, Any]) -> dict[str, Any]:
    """Unplug a router from a subnet, or by the port."""
    port, going = _found(ctx, router, body.get("port_id"), body.get("subnet_id"))
    _check_unused(ctx, router, going)
    kept = [fixed for fixed in port.fixed_ips if fixed not in going]
    if kept:
        readdress(ctx.tx, port, [structs.asdict(fixed) for fixed in kept], ctx.now)
    else:
        remove_port(ctx.tx, port, ctx.now)
    poke(ctx.tx, "router", router.id, ctx.now)
    record_request(ctx, "router", router.id, "remove_interface", "success", port=port.id)
    return _answer(router, port, [fixed.subnet_id for fixed in going])


def _found(ctx: Context, router: Router, port_id: str | None, subnet_id: str | None) -> tuple[Port, list[FixedIp]]:
    """The leg that is meant and those of its addresses that go."""
    legs = legs_of(ctx.tx, router.id)
    if port_id:
        leg = next((leg for leg in legs if leg.id == port_id), None)
        if leg is None:
            raise NotFound(
                f"Router {router.id} does not have an interface with id {port_id}", kind="RouterInterfaceNotFound"
            )
        if subnet_id and all(fixed.subnet_id != subnet_id for fixed in leg.fixed_ips):
            raise BadRequest(
                f"Subnet on port {port_id} does not match the requested subnet {subnet_id}.",
                kind="SubnetMismatchForPort",
            )
        return leg, list(leg.fixed_ips)
    for leg in legs:
        going = [fixed for fixed in leg.fixed_ips if fixed.subnet_id == subnet_id]
        if going:
            return leg, going
    raise NotFound(
        f"Router {router.id} has no interface on subnet {subnet_id}", kind="RouterInterfaceNotFoundForSubnet"
    )


def _check_unused(ctx: Context, router: Router, going: list[FixedIp]) -> None:
    """Floating IPs and routes that need a leg keep it."""
    for subnet in subnets_by_id(ctx.tx, (fixed.subnet_id for fixed in going)).values():
        for floating in FLOATING_IPS.all(ctx.tx, router_id=router.id):
            if ipaddress.ip_address(str(floating.fixed_ip_address)) in subnet.net:
                raise Conflicted(
                    f"Router interface for subnet {subnet.id} on router {router.id} cannot be deleted, as it is"
                    " required by one or more floating IPs.",
                    kind="RouterInterfaceInUseByFloatingIP",
                )
        if any(ipaddress.ip_address(route.nexthop) in subnet.net for route in router.routes):
            raise Conflicted(
                f"Router interface for subnet {subnet.id} on router {router.id} cannot be deleted, as it is required"
                " by one or more routes.",
                kind="RouterInterfaceInUseByRoute",
            )
