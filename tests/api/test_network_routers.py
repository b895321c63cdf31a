"""Routers and floating IPs through the whole pipeline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from networking import Networking


@pytest.fixture
def n(tmp_path: Path) -> Iterator[Networking]:
    made = Networking(tmp_path)
    yield made
    made.close()


def cannot_plug(n: Networking, status: int, refusal: str, router: Any, verb: str = "add", **body: str) -> str:
    return n.refused(status, refusal, "PUT", f"/routers/{router['id']}/{verb}_router_interface", body)


def test_a_router_lives_through_create_show_update_delete(n: Networking) -> None:
    router = n.make("router", name="r")
    assert router["external_gateway_info"] is None and router["routes"] == [] and router["status"] == "ACTIVE"
    ext = n.outside()
    changed = n.change(
        "router", router, name="s", admin_state_up=False, external_gateway_info={"network_id": ext["id"]}
    )
    info = changed["external_gateway_info"]
    assert (changed["name"], info["network_id"], info["enable_snat"]) == ("s", ext["id"], True)
    assert info["external_fixed_ips"][0]["ip_address"] == "172.24.4.2"
    n.cannot_delete(409, "NetworkInUse", "network", ext, "admin")
    assert n.change("router", router, external_gateway_info={})["external_gateway_info"] is None
    assert n.get("router", router, "admin")["distributed"] is False and "distributed" not in n.get("router", router)
    n.delete("router", router)
    n.delete("network", ext, "admin")


def test_others_do_not_see_a_router_and_readers_do_not_change_it(n: Networking) -> None:
    router = n.make("router", name="r")
    for method in ("GET", "PUT", "DELETE"):
        body = {"router": {"name": "x"}} if method == "PUT" else None
        n.refused(404, "RouterNotFound", method, f"/routers/{router['id']}", body, "other")
    n.cannot_change(403, "PolicyNotAuthorized", "router", router, "reader", name="x")
    n.refused(
        404, "RouterNotFound", "PUT", f"/routers/{router['id']}/add_router_interface", {"subnet_id": "s"}, "other"
    )
    assert n.ids("router", "?name=r") == [router["id"]] and n.ids("router", caller="other") == []
    assert n.ids("router", "?status=ERROR") == [] and n.ids("router", "?status=ACTIVE") == [router["id"]]


def test_snat_and_addresses_outside_are_the_administrators(n: Networking) -> None:
    ext = n.outside()
    for part in ({"enable_snat": False}, {"external_fixed_ips": [{"ip_address": "172.24.4.9"}]}):
        given = {"external_gateway_info": {"network_id": ext["id"], **part}}
        n.cannot_make(403, "PolicyNotAuthorized", "router", **given)
        made = n.make("router", "admin", **given)
        info = made["external_gateway_info"]
        info["external_fixed_ips"] = [{"ip_address": fixed["ip_address"]} for fixed in info["external_fixed_ips"]]
        assert info == {**info, **part}
        moved = n.change("router", made, "admin", external_gateway_info={
            "network_id": ext["id"], "external_fixed_ips": [{"ip_address": "172.24.4.33"}]})  # fmt: skip
        assert moved["external_gateway_info"]["external_fixed_ips"][0]["ip_address"] == "172.24.4.33"
        n.delete("router", made, "admin")


def test_a_gateway_must_be_an_external_network(n: Networking) -> None:
    net, _ = n.tenant()
    n.cannot_make(400, "BadRequest", "router", external_gateway_info={"network_id": net["id"]})
    n.cannot_make(404, "NetworkNotFound", "router", external_gateway_info={"network_id": "nope"})
    n.cannot_make(400, "BadRequest", "router", external_gateway_info={"enable_snat": True}, caller="admin")
    assert n.ids("router") == []


def test_a_router_is_plugged_by_subnet_and_by_port(n: Networking) -> None:
    router = n.make("router", name="r")
    net, subnet = n.tenant()
    plugged = n.interface("add", router, subnet_id=subnet["id"])
    assert plugged["subnet_ids"] == [subnet["id"]] and plugged["network_id"] == net["id"]
    assert n.get("port", plugged["port_id"])["fixed_ips"][0]["ip_address"] == "10.0.0.1"
    other, second = n.tenant("10.1.0.0/24")
    port = n.make("port", network_id=other["id"])
    assert n.interface("add", router, port_id=port["id"])["subnet_id"] == second["id"]
    assert n.get("port", port)["device_owner"] == "network:router_interface"
    n.cannot_delete(409, "RouterInUse", "router", router)
    n.interface("remove", router, port_id=port["id"])
    n.interface("remove", router, subnet_id=subnet["id"])
    n.delete("router", router)
    assert n.ids("port", "?device_owner=network:router_interface") == []


def test_what_cannot_be_plugged_is_refused(n: Networking) -> None:
    net, subnet, _, router = n.routed()
    cannot_plug(n, 400, "BadRequest", router, subnet_id=subnet["id"])
    _, overlapping = n.tenant("10.0.0.0/25")
    assert "overlaps" in cannot_plug(n, 400, "BadRequest", router, subnet_id=overlapping["id"])
    third, no_gateway = n.tenant("10.2.0.0/24")
    n.change("subnet", no_gateway, gateway_ip=None)
    cannot_plug(n, 400, "BadRequest", router, subnet_id=no_gateway["id"])
    used = n.make("port", network_id=third["id"], device_id="s1")
    cannot_plug(n, 409, "PortInUse", router, port_id=used["id"])
    bare = n.make("port", network_id=third["id"], fixed_ips=[])
    cannot_plug(n, 400, "BadRequest", router, port_id=bare["id"])
    cannot_plug(n, 400, "BadRequest", router, port_id=bare["id"], subnet_id=subnet["id"])
    cannot_plug(n, 400, "HTTPBadRequest", router)
    cannot_plug(n, 404, "SubnetNotFound", router, subnet_id="nope")
    cannot_plug(n, 404, "PortNotFound", router, port_id="nope")
    cannot_plug(n, 404, "RouterInterfaceNotFound", router, "remove", port_id=used["id"])
    cannot_plug(n, 404, "RouterInterfaceNotFoundForSubnet", router, "remove", subnet_id=no_gateway["id"])
    leg = n.ids("port", f"?device_id={router['id']}&network_id={net['id']}")[0]
    cannot_plug(n, 400, "SubnetMismatchForPort", router, "remove", port_id=leg, subnet_id=no_gateway["id"])


def test_ipv6_subnets_of_one_network_share_a_leg(n: Networking) -> None:
    router = n.make("router", name="r")
    net, first = n.tenant("2001:db8:1::/64")
    second = n.make("subnet", network_id=net["id"], ip_version=6, cidr="2001:db8:2::/64")
    ports = {n.interface("add", router, subnet_id=subnet["id"])["port_id"] for subnet in (first, second)}
    assert len(ports) == 1
    assert len(n.get("port", ports.pop())["fixed_ips"]) == 2
    n.interface("remove", router, subnet_id=first["id"])
    assert len(n.ids("port", f"?device_id={router['id']}")) == 1
    n.interface("remove", router, subnet_id=second["id"])
    assert n.ids("port", f"?device_id={router['id']}") == []


def test_routes_are_set_added_and_removed(n: Networking) -> None:
    _, subnet, _, router = n.routed()
    one = {"destination": "10.8.0.0/24", "nexthop": "10.0.0.8"}
    two = {"destination": "10.9.0.0/24", "nexthop": "10.0.0.9"}
    assert n.change("router", router, routes=[one])["routes"] == [one]
    body = {"router": {"routes": [one, two]}}
    assert n.call("PUT", f"/routers/{router['id']}/add_extraroutes", body)["router"]["routes"] == [one, two]
    cannot_plug(n, 409, "RouterInterfaceInUseByRoute", router, "remove", subnet_id=subnet["id"])
    gone = {"router": {"routes": [one]}}
    assert n.call("PUT", f"/routers/{router['id']}/remove_extraroutes", gone)["router"]["routes"] == [two]
    assert n.change("router", router, routes=[])["routes"] == []
    for bad in ({**one, "nexthop": "10.7.0.1"}, {**one, "nexthop": "10.0.0.1"}, {**one, "nexthop": "2001:db8::1"}):
        n.cannot_change(400, "InvalidRoutes", "router", router, routes=[bad])
    many = [{"destination": f"10.8.{i}.0/24", "nexthop": "10.0.0.8"} for i in range(31)]
    n.cannot_change(400, "RoutesExhausted", "router", router, routes=many)
    n.cannot_change(400, "HTTPBadRequest", "router", router, routes=[{"destination": "x", "nexthop": "y"}])


def test_a_floating_ip_lives_through_create_associate_disassociate_delete(n: Networking) -> None:
    net, _, ext, router = n.routed()
    floating = n.make("floatingip", floating_network_id=ext["id"], description="d")
    assert floating["status"] == "DOWN" and floating["port_id"] is None and floating["port_details"] is None
    port = n.make("port", network_id=net["id"])
    changed = n.change("floatingip", floating, port_id=port["id"])
    assert changed["fixed_ip_address"] == port["fixed_ips"][0]["ip_address"] and changed["router_id"] == router["id"]
    assert changed["port_details"]["mac_address"] == port["mac_address"]
    assert n.ids("floatingip", f"?port_id={port['id']}&status=DOWN") == [floating["id"]]
    assert n.ids("floatingip", "?status=ACTIVE") == []
    cleared = n.change("floatingip", floating, port_id=None)
    assert (cleared["port_id"], cleared["fixed_ip_address"], cleared["router_id"]) == (None, None, None)
    assert n.change("floatingip", floating, description="e")["description"] == "e"
    n.refused(404, "FloatingIPNotFound", "GET", f"/floatingips/{floating['id']}", caller="other")
    n.cannot_change(403, "PolicyNotAuthorized", "floatingip", floating, "reader", description="x")
    n.delete("floatingip", floating)
    assert n.ids("port", "?device_owner=network:floatingip", "admin") == []


def test_a_floating_ip_is_let_go_when_its_port_goes(n: Networking) -> None:
    net, _, ext, _ = n.routed()
    port = n.make("port", network_id=net["id"])
    floating = n.make("floatingip", floating_network_id=ext["id"], port_id=port["id"])
    n.change("port", port, fixed_ips=[{"ip_address": "10.0.0.44"}])
    assert n.get("floatingip", floating)["port_id"] is None
    n.change("floatingip", floating, port_id=port["id"])
    n.delete("port", port)
    assert n.get("floatingip", floating)["port_id"] is None


def test_an_external_network_goes_with_floating_ips_that_lead_nowhere(n: Networking) -> None:
    net, _, ext, router = n.routed()
    free = n.make("floatingip", floating_network_id=ext["id"])
    port = n.make("port", network_id=net["id"])
    led = n.make("floatingip", floating_network_id=ext["id"], port_id=port["id"])
    n.cannot_delete(409, "NetworkInUse", "network", ext, "admin")
    n.delete("floatingip", led)
    n.change("router", router, external_gateway_info={})
    n.delete("network", ext, "admin")
    assert n.ids("floatingip") == [] and n.ask("GET", n.path("floatingip", free)).status == 404


def test_floating_ips_that_cannot_be_are_refused(n: Networking) -> None:
    net, _, ext, router = n.routed()
    lonely, _ = n.tenant("10.7.0.0/24")
    port, unreachable = n.make("port", network_id=net["id"]), n.make("port", network_id=lonely["id"])
    given = {"floating_network_id": ext["id"]}
    n.cannot_make(400, "BadRequest", "floatingip", floating_network_id=net["id"])
    n.cannot_make(404, "NetworkNotFound", "floatingip", floating_network_id="nope")
    n.cannot_make(404, "ExternalGatewayForFloatingIPNotFound", "floatingip", **given, port_id=unreachable["id"])
    n.cannot_make(404, "PortNotFound", "floatingip", **given, port_id="nope")
    n.cannot_make(404, "PortNotFound", "floatingip", "other", **given, port_id=port["id"])
    n.cannot_make(400, "BadRequest", "floatingip", **given, port_id=port["id"], fixed_ip_address="10.0.0.99")
    n.cannot_make(400, "BadRequest", "floatingip", **given, fixed_ip_address="10.0.0.99")
    n.cannot_make(403, "PolicyNotAuthorized", "floatingip", **given, floating_ip_address="172.24.4.99")
    floating = n.make("floatingip", "admin", **given, floating_ip_address="172.24.4.99", project_id="d" * 32)
    n.cannot_make(409, "IpAddressAlreadyAllocated", "floatingip", "admin", **given, floating_ip_address="172.24.4.99")
    n.change("floatingip", floating, port_id=port["id"])
    n.cannot_make(409, "FloatingIPPortAlreadyAssociated", "floatingip", **given, port_id=port["id"])
    assert len(n.ids("floatingip")) == 1 and len(n.ids("port", "?device_owner=network:floatingip", "admin")) == 1
    cannot_plug(n, 409, "RouterInterfaceInUseByFloatingIP", router, "remove",
                port_id=n.ids("port", f"?device_id={router['id']}")[0])  # fmt: skip
    n.cannot_change(409, "RouterExternalGatewayInUseByFloatingIp", "router", router, external_gateway_info={})
    n.cannot_change(409, "ExternalNetworkInUse", "network", ext, "admin", **{"router:external": False})


def test_a_port_with_two_addresses_needs_one_named(n: Networking) -> None:
    net, _, ext, _ = n.routed()
    port = n.make("port", network_id=net["id"], fixed_ips=[{"ip_address": "10.0.0.8"}, {"ip_address": "10.0.0.9"}])
    n.cannot_make(400, "BadRequest", "floatingip", floating_network_id=ext["id"], port_id=port["id"])
    for ip in ("10.0.0.8", "10.0.0.9"):
        made = n.make("floatingip", floating_network_id=ext["id"], port_id=port["id"], fixed_ip_address=ip)
        assert made["fixed_ip_address"] == ip
