"""Networks and subnets through the whole pipeline."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from networking import Networking


@pytest.fixture
def n(tmp_path: Path) -> Iterator[Networking]:
    made = Networking(tmp_path)
    yield made
    made.close()


def test_a_network_lives_through_create_show_update_delete(n: Networking) -> None:
    net = n.make("network", name="a", description="d")
    assert net["status"] == "ACTIVE" and net["mtu"] == 1450 and not net["shared"] and net["revision_number"] == 0
    assert net["project_id"] == net["tenant_id"] == "d" * 32 and "provider:segmentation_id" not in net
    changed = n.change("network", net, name="b", admin_state_up=False, mtu=1400, port_security_enabled=False)
    assert (changed["name"], changed["admin_state_up"], changed["mtu"]) == ("b", False, 1400)
    assert changed["revision_number"] == 1 and n.get("network", net)["name"] == "b"
    assert n.get("network", net, "admin")["provider:segmentation_id"] > 0
    n.delete("network", net)


def test_networks_are_made_in_bulk_or_not_at_all(n: Networking) -> None:
    made = n.call("POST", "/networks", {"networks": [{"name": "a"}, {"name": "b"}]})["networks"]
    assert [net["name"] for net in made] == ["a", "b"]
    bad = {"networks": [{"name": "c"}, {"name": "d", "shared": True}]}
    n.refused(403, "PolicyNotAuthorized", "POST", "/networks", bad)
    assert len(n.ids("network")) == 2


def test_others_do_not_see_a_network_and_readers_do_not_change_it(n: Networking) -> None:
    net = n.make("network", name="a")
    for method in ("GET", "PUT", "DELETE"):
        body = {"network": {"name": "x"}} if method == "PUT" else None
        n.refused(404, "NetworkNotFound", method, f"/networks/{net['id']}", body, "other")
    n.cannot_change(403, "PolicyNotAuthorized", "network", net, "reader", name="x")
    n.cannot_delete(403, "PolicyNotAuthorized", "network", net, "reader")
    n.cannot_make(403, "PolicyNotAuthorized", "network", "reader", name="x")
    assert n.ids("network", caller="other") == [] and n.ids("network", caller="reader") == [net["id"]]
    assert n.ids("network", caller="admin") == [net["id"]]


@pytest.mark.parametrize(
    "given", [{"shared": True}, {"router:external": True}, {"provider:network_type": "vxlan"}, {"is_default": True}]
)
def test_what_concerns_all_is_the_administrators(n: Networking, given: dict[str, object]) -> None:
    n.cannot_make(403, "PolicyNotAuthorized", "network", **given)


def test_a_shared_network_is_seen_by_all_and_changed_by_its_owner(n: Networking) -> None:
    net, subnet = n.tenant(caller="admin", shared=True)
    assert n.get("network", net, "other")["shared"] and n.get("subnet", subnet, "other")
    n.cannot_change(403, "PolicyNotAuthorized", "network", net, "other", name="x")
    port = n.make("port", "other", network_id=net["id"])
    n.cannot_change(409, "InvalidSharedSetting", "network", net, "admin", shared=False)
    n.delete("port", port, "other")
    n.change("network", net, "admin", shared=False)
    assert n.ids("network", caller="other") == [] and n.ids("subnet", caller="other") == []


def test_an_external_network_is_seen_but_its_subnets_are_not(n: Networking) -> None:
    ext = n.outside()
    assert n.get("network", ext, "other")["router:external"] and len(ext["subnets"]) == 0
    subnet_id = n.get("network", ext, "other")["subnets"][0]
    n.refused(404, "SubnetNotFound", "GET", f"/subnets/{subnet_id}", caller="other")
    assert n.ids("network", "?router:external=True", "demo") == [ext["id"]]


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"provider:network_type": "vlan"}, "InvalidInput"),
        ({"provider:network_type": "flat"}, "InvalidInput"),
        ({"provider:network_type": "vxlan", "provider:segmentation_id": 0}, "InvalidInput"),
        ({"provider:network_type": "vxlan", "provider:physical_network": "public"}, "InvalidInput"),
        ({"mtu": 9000}, "InvalidInput"),
        ({"mtu": "big"}, "HTTPBadRequest"),
        ({"name": "x" * 256}, "HTTPBadRequest"),
        ({"nonsense": 1}, "HTTPBadRequest"),
    ],
)
def test_networks_that_cannot_be_are_refused(n: Networking, given: dict[str, object], refusal: str) -> None:
    n.cannot_make(400, refusal, "network", "admin", **given)


def test_numbers_and_physical_networks_are_used_once(n: Networking) -> None:
    n.make("network", "admin", **{"provider:network_type": "vxlan", "provider:segmentation_id": 7})
    n.cannot_make(409, "TunnelIdInUse", "network", "admin", **{"provider:segmentation_id": 7})
    ext = n.outside()
    flat = {"provider:network_type": "flat", "provider:physical_network": "p172"}
    n.cannot_make(409, "FlatNetworkInUse", "network", "admin", **flat)
    n.delete("network", ext, "admin")
    n.make("network", "admin", **flat)


def test_a_network_in_use_stays(n: Networking) -> None:
    net, subnet = n.tenant()
    port = n.make("port", network_id=net["id"])
    n.cannot_delete(409, "NetworkInUse", "network", net)
    n.cannot_delete(409, "SubnetInUse", "subnet", subnet)
    n.delete("port", port)
    n.delete("network", net)
    assert n.ids("subnet") == [] and n.ids("port") == []


def test_a_subnet_lives_through_create_show_update_delete(n: Networking) -> None:
    net, subnet = n.tenant()
    assert subnet["gateway_ip"] == "10.0.0.1"
    assert subnet["allocation_pools"] == [{"start": "10.0.0.2", "end": "10.0.0.254"}]
    dhcp = n.call("GET", f"/ports?network_id={net['id']}")["ports"]
    assert [(p["device_owner"], p["fixed_ips"][0]["ip_address"]) for p in dhcp] == [("network:dhcp", "10.0.0.2")]
    changed = n.change(
        "subnet", subnet, name="s", dns_nameservers=["9.9.9.9"], enable_dhcp=False, gateway_ip=None,
        host_routes=[{"destination": "10.9.0.0/24", "nexthop": "10.0.0.9"}],
        allocation_pools=[{"start": "10.0.0.10", "end": "10.0.0.20"}],
    )  # fmt: skip
    assert changed["gateway_ip"] is None and changed["dns_nameservers"] == ["9.9.9.9"] and not changed["enable_dhcp"]
    assert n.ids("port") == []
    assert n.make("port", network_id=net["id"])["fixed_ips"][0]["ip_address"] == "10.0.0.10"
    n.delete("port", n.ids("port")[0])
    n.delete("subnet", subnet)
    assert n.get("network", net)["subnets"] == []


@pytest.mark.parametrize(
    ("given", "status", "refusal"),
    [
        ({"cidr": "10.0.0.5/24"}, 400, "InvalidInput"),
        ({"cidr": "224.0.0.0/24"}, 400, "InvalidInput"),
        ({"cidr": "10.0.0.0"}, 400, "HTTPBadRequest"),
        ({"cidr": "10.0.0.0/33"}, 400, "HTTPBadRequest"),
        ({"cidr": "10.0.0.0/31"}, 400, "InvalidInput"),
        ({"cidr": "2001:db8::/64"}, 400, "InvalidInput"),
        ({"ip_version": 5}, 400, "HTTPBadRequest"),
        ({"gateway_ip": "10.0.0.255"}, 400, "InvalidInput"),
        ({"gateway_ip": "2001:db8::1"}, 400, "InvalidInput"),
        ({"gateway_ip": "x"}, 400, "HTTPBadRequest"),
        ({"allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.8"}]}, 400, "InvalidAllocationPool"),
        ({"allocation_pools": [{"start": "10.0.1.1", "end": "10.0.1.8"}]}, 400, "OutOfBoundsAllocationPool"),
        ({"allocation_pools": [{"start": "10.0.0.1", "end": "10.0.0.8"}]}, 409, "GatewayConflictWithAllocationPools"),
        (
            {"allocation_pools": [{"start": "10.0.0.2", "end": "10.0.0.8"}, {"start": "10.0.0.8", "end": "10.0.0.9"}]},
            409,
            "OverlappingAllocationPools",
        ),
        ({"dns_nameservers": ["x"]}, 400, "HTTPBadRequest"),
        ({"dns_nameservers": [f"9.9.9.{i}" for i in range(9)]}, 400, "DNSNameServersExhausted"),
        ({"host_routes": [{"destination": "10.9.0.0/24"}]}, 400, "HTTPBadRequest"),
        ({"host_routes": [{"destination": "10.9.0.0/24", "nexthop": "2001:db8::1"}]}, 400, "InvalidInput"),
        ({"ipv6_ra_mode": "slaac"}, 400, "InvalidInput"),
        ({"subnetpool_id": "x"}, 400, "HTTPBadRequest"),
    ],
)
def test_subnets_that_cannot_be_are_refused(n: Networking, given: dict[str, object], status: int, refusal: str) -> None:
    net = n.make("network")
    n.cannot_make(
        status, refusal, "subnet", **{"network_id": net["id"], "ip_version": 4, "cidr": "10.0.0.0/24", **given}
    )


@pytest.mark.parametrize(
    "given",
    [
        {"cidr": "2001:db8::/80", "ipv6_address_mode": "slaac"},
        {"ipv6_address_mode": "slaac", "ipv6_ra_mode": "dhcpv6-stateful"},
        {"ipv6_address_mode": "slaac", "enable_dhcp": False},
        {"ipv6_address_mode": "magic"},
    ],
)
def test_ipv6_modes_that_cannot_be_are_refused(n: Networking, given: dict[str, object]) -> None:
    net = n.make("network")
    body = {"network_id": net["id"], "ip_version": 6, "cidr": "2001:db8::/64", **given}
    assert n.ask("POST", "/subnets", {"subnet": body}).status == 400


def test_subnets_of_a_network_do_not_overlap_and_belong_to_its_owner(n: Networking) -> None:
    net, _ = n.tenant()
    n.cannot_make(400, "InvalidInput", "subnet", network_id=net["id"], ip_version=4, cidr="10.0.0.128/25")
    n.make("subnet", network_id=net["id"], ip_version=4, cidr="10.0.1.0/24")
    n.cannot_make(404, "NetworkNotFound", "subnet", "other", network_id=net["id"], ip_version=4, cidr="10.0.2.0/24")
    shared = n.make("network", "admin", shared=True)
    given = {"network_id": shared["id"], "ip_version": 4, "cidr": "10.0.2.0/24"}
    n.cannot_make(403, "PolicyNotAuthorized", "subnet", **given)


def test_a_gateway_that_a_router_holds_is_not_changed(n: Networking) -> None:
    _, subnet, _, router = n.routed()
    n.cannot_change(409, "GatewayIpInUse", "subnet", subnet, gateway_ip="10.0.0.254")
    n.cannot_delete(409, "SubnetInUse", "subnet", subnet)
    n.interface("remove", router, subnet_id=subnet["id"])
    n.cannot_change(409, "GatewayConflictWithAllocationPools", "subnet", subnet, gateway_ip="10.0.0.254")
    pools = [{"start": "10.0.0.2", "end": "10.0.0.250"}]
    assert n.change("subnet", subnet, gateway_ip="10.0.0.254", allocation_pools=pools)["gateway_ip"] == "10.0.0.254"


def test_guests_get_slaac_addresses_of_their_mac_and_a_new_subnet_reaches_those_that_are_there(n: Networking) -> None:
    net, _ = n.tenant()
    port = n.make("port", network_id=net["id"])
    six = n.make("subnet", network_id=net["id"], ip_version=6, cidr="2001:db8::/64", ipv6_ra_mode="slaac",
                 ipv6_address_mode="slaac")  # fmt: skip
    assert six["gateway_ip"] == "2001:db8::1"
    addresses = [fixed["ip_address"] for fixed in n.get("port", port)["fixed_ips"]]
    tail = port["mac_address"].split(":")
    assert len(addresses) == 2 and addresses[1].startswith("2001:db8::f816:3eff:fe")
    assert addresses[1].endswith(f"{int(tail[4] + tail[5], 16):x}")
    n.delete("subnet", six)  # nobody chose these addresses: they go with the prefix
    assert len(n.get("port", port)["fixed_ips"]) == 1


def test_revisions_guard_against_lost_updates(n: Networking) -> None:
    net = n.make("network")
    body = {"network": {"name": "x"}}
    stale = {"headers": {"if-match": "revision_number=5"}}
    n.refused(412, "RevisionNumberConstraintFailed", "PUT", f"/networks/{net['id']}", body, **stale)
    n.refused(412, "RevisionNumberConstraintFailed", "DELETE", f"/networks/{net['id']}", **stale)
    n.refused(400, "HTTPBadRequest", "PUT", f"/networks/{net['id']}", body, headers={"if-match": "W/7"})
    n.call("PUT", f"/networks/{net['id']}", body, headers={"if-match": "revision_number=0"})


def test_lists_are_filtered_sorted_and_paged(n: Networking) -> None:
    made = {name: n.make("network", name=name, admin_state_up=name != "c")["id"] for name in "abcd"}
    assert n.ids("network", "?name=a&name=b&sort_key=name&sort_dir=desc") == [made["b"], made["a"]]
    assert n.ids("network", "?admin_state_up=False") == [made["c"]]
    assert n.ids("network", f"?id={made['d']}&fields=id&fields=name") == [made["d"]]
    assert n.ids("network", "?status=DOWN") == [] and len(n.ids("network", "?status=ACTIVE&mtu=1450")) == 4
    assert n.call("GET", "/networks?fields=name&name=a")["networks"] == [{"name": "a"}]
    first = n.call("GET", "/networks?limit=3&sort_key=name")
    links = {link["rel"]: link["href"].partition("/v2.0")[2] for link in first["networks_links"]}
    assert [net["name"] for net in n.call("GET", links["next"])["networks"]] == ["d"]
    back = n.call("GET", f"/networks?limit=2&sort_key=name&page_reverse=True&marker={made['c']}")
    assert [net["name"] for net in back["networks"]] == ["a", "b"]
    for query in ("sort_key=nope", "sort_key=name&sort_dir=up", "limit=x", "nope=1", "sort_dir=asc"):
        n.refused(400, "HTTPBadRequest", "GET", f"/networks?{query}")
    n.refused(404, "HTTPNotFound", "GET", "/networks?marker=nope")


def test_broken_requests_name_what_is_wrong(n: Networking) -> None:
    n.refused(400, "HTTPBadRequest", "POST", "/networks", {"network": []})
    n.refused(400, "HTTPBadRequest", "POST", "/networks", {})
    n.refused(400, "HTTPBadRequest", "POST", "/networks", {"network": {}, "networks": [{}]})
    n.refused(400, "HTTPBadRequest", "POST", "/networks", None)
    n.refused(400, "HTTPBadRequest", "POST", "/networks", {"networks": []})
    n.refused(404, "NetworkNotFound", "GET", "/networks/%0a")
    n.refused(404, "HTTPNotFound", "GET", "/nonsense")
    n.refused(405, "HTTPMethodNotAllowed", "PATCH", "/networks")
    n.refused(401, "Unauthorized", "GET", "/networks", caller="")


def test_an_administrator_makes_things_for_others(n: Networking) -> None:
    net = n.make("network", "admin", project_id="d" * 32)
    assert n.get("network", net)["project_id"] == "d" * 32
    n.cannot_make(403, "PolicyNotAuthorized", "network", "other", project_id="d" * 32)
