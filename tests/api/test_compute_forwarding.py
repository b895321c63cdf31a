"""What compute's old versions forward to images, networking and block storage, in the words of those versions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from direct import Answer
from server_cloud import COMPUTE, NETWORK, VOLUME, ServerCloud

Json = dict[str, Any]


class Old(ServerCloud):
    """A cloud asked through the first version of compute."""

    def old(self, method: str, path: str, body: Any = None, ok: int = 200, **how: Any) -> Any:
        answer = self.ask_old(method, path, body, **how)
        assert answer.status == ok, answer
        return answer.json if answer.raw else None

    def ask_old(self, method: str, path: str, body: Any = None, at: str = "2.1", **how: Any) -> Answer:
        return self.call(method, f"{COMPUTE}{path}", body, version=f"compute {at}", **how)


@pytest.fixture
def c(tmp_path: Path) -> Iterator[Old]:
    cloud = Old(tmp_path)
    yield cloud
    cloud.close()


@pytest.mark.parametrize(
    ("path", "last"),
    [("/images", "2.35"), ("/os-floating-ips", "2.35"), ("/os-floating-ip-pools", "2.35"), ("/os-volumes", "2.35"),
     ("/os-security-groups", "2.35"), ("/os-tenant-networks", "2.35"), ("/os-snapshots", "2.35")],
)  # fmt: skip
def test_each_ends_with_its_version(c: Old, path: str, last: str) -> None:
    assert c.ask_old("GET", path, at=last).status == 200
    assert c.ask_old("GET", path, at="2.36").status == 404


def test_images_are_shown_in_computes_words(c: Old) -> None:
    shown = c.old("GET", f"/images/{c.image}")["image"]
    assert (shown["status"], shown["progress"], shown["name"], shown["minDisk"]) == ("ACTIVE", 100, "guest", 0)
    assert shown["OS-EXT-IMG-SIZE:size"] == 4096 and {link["rel"] for link in shown["links"]} == {
        "self", "bookmark", "alternate"
    }  # fmt: skip
    assert [one["id"] for one in c.old("GET", "/images")["images"]] == [c.image]
    server = c.boot()
    assert c.ask_old("POST", f"/servers/{server}/action", {"createImage": {"name": "shot"}}).status == 202
    c.run()
    (shot,) = c.old("GET", f"/images/detail?server=http://x/servers/{server}&type=snapshot&status=ACTIVE")["images"]
    assert shot["server"]["id"] == server and shot["metadata"]["image_type"] == "snapshot"
    assert c.old("GET", "/images?name=other")["images"] == []
    c.old("DELETE", f"/images/{shot['id']}", ok=204)
    c.run()
    assert c.ask_old("GET", f"/images/{shot['id']}").status == 404


def test_a_list_of_images_leads_to_its_next_page(c: Old) -> None:
    made = {c.image} | {c.call("POST", "/image/v2/images", {"name": f"i{i}"}).json["id"] for i in range(2)}
    first = c.old("GET", "/images?limit=2")
    rest = c.old("GET", first["images_links"][0]["href"].partition("/v2.1")[2])
    assert {one["id"] for one in first["images"] + rest["images"]} == made and "images_links" not in rest


def test_metadata_of_images_is_added_replaced_and_removed(c: Old) -> None:
    base = f"/images/{c.image}/metadata"
    assert c.old("POST", base, {"metadata": {"a.b": "1", "c": "2"}})["metadata"] == {"a.b": "1", "c": "2"}
    assert c.old("PUT", base, {"metadata": {"c": "3"}}, at="2.38")["metadata"] == {"c": "3"}
    assert c.old("PUT", f"{base}/d", {"meta": {"d": "4"}}) == {"meta": {"d": "4"}}
    assert c.old("GET", f"{base}/d") == {"meta": {"d": "4"}}
    c.old("DELETE", f"{base}/c", ok=204)
    assert c.old("GET", base)["metadata"] == {"d": "4"}
    for method, path, body, status in (
        ("GET", f"{base}/none", None, 404), ("DELETE", f"{base}/none", None, 404),
        ("PUT", f"{base}/d", {"meta": {"e": "5"}}, 400), ("POST", base, {"metadata": {"status": "active"}}, 400),
        ("POST", base, {"metadata": {str(i): "" for i in range(129)}}, 403), ("GET", f"{base}/d", None, 200),
    ):  # fmt: skip
        assert c.ask_old(method, path, body).status == status, (method, path)
    assert c.ask_old("POST", base, {"metadata": {"x": "y"}}, caller="other").status == 403
    assert c.ask_old("GET", base, at="2.39").status == 404


def outside(c: Old) -> str:
    """An external network that a router connects with the network of the tests; its id."""
    provider = {"router:external": True, "provider:network_type": "flat", "provider:physical_network": "public"}
    ext = c.call("POST", f"{NETWORK}/networks", {"network": {"name": "ext", **provider}}, caller="admin")
    net: str = ext.json["network"]["id"]
    subnet = {"network_id": net, "ip_version": 4, "cidr": "203.0.113.0/24", "enable_dhcp": False}
    assert c.call("POST", f"{NETWORK}/subnets", {"subnet": subnet}, caller="admin").status == 201
    gateway = {"router": {"external_gateway_info": {"network_id": net}}}
    router = c.call("POST", f"{NETWORK}/routers", gateway).json["router"]["id"]
    (own,) = c.call("GET", f"{NETWORK}/subnets?network_id={c.network}").json["subnets"]
    plug = {"subnet_id": own["id"]}
    assert c.call("PUT", f"{NETWORK}/routers/{router}/add_router_interface", plug).status == 200
    c.run()
    return net


def test_floating_ips_are_made_led_to_servers_and_given_back(c: Old) -> None:
    net, server = outside(c), c.boot()
    assert c.old("GET", "/os-floating-ip-pools") == {"floating_ip_pools": [{"name": "ext"}]}
    made = c.old("POST", "/os-floating-ips", {"pool": "ext"})["floating_ip"]
    assert made["pool"] == "ext" and made["instance_id"] is None and made["fixed_ip"] is None
    action = f"/servers/{server}/action"
    c.old("POST", action, {"addFloatingIp": {"address": made["ip"]}}, ok=202, at="2.43")
    (led,) = c.old("GET", "/os-floating-ips")["floating_ips"]
    assert led["instance_id"] == server and led["fixed_ip"].startswith("10.9.0.")
    assert c.old("GET", f"/os-floating-ips/{made['id']}")["floating_ip"] == led
    second = c.old("POST", "/os-floating-ips", {"pool": net})["floating_ip"]
    assert c.ask_old("POST", action, {"addFloatingIp": {"address": second["ip"]}}).status == 400
    assert c.ask_old("POST", action, {"removeFloatingIp": {"address": second["ip"]}}).status == 409
    c.old("POST", action, {"removeFloatingIp": {"address": made["ip"]}}, ok=202)
    c.old("DELETE", f"/os-floating-ips/{made['id']}", ok=202)
    assert [one["id"] for one in c.old("GET", "/os-floating-ips")["floating_ips"]] == [second["id"]]
    for method, path, body, status in (
        ("POST", "/os-floating-ips", {"pool": "none"}, 404),
        ("POST", action, {"addFloatingIp": {"address": "0.0.0.0"}}, 404),
        ("POST", action, {"removeFloatingIp": {"address": "0.0.0.0"}}, 404),
        ("POST", action, {"addFloatingIp": {"address": second["ip"], "fixed_address": "192.0.2.1"}}, 400),
        ("DELETE", f"/os-floating-ips/{made['id']}", None, 404),
    ):  # fmt: skip
        assert c.ask_old(method, path, body).status == status, (method, path, body)
    assert c.ask_old("GET", f"/os-floating-ips/{second['id']}", caller="other").status == 404
    assert c.ask_old("POST", "/os-floating-ips", {"pool": "ext"}, caller="reader").status == 403


def test_security_groups_and_what_they_let_in(c: Old) -> None:
    assert [g["name"] for g in c.old("GET", "/os-security-groups")["security_groups"]] == ["default"]
    group = c.old("POST", "/os-security-groups", {"security_group": {"name": "web", "description": "d"}})[
        "security_group"
    ]
    assert group["rules"] == []
    rules = "/os-security-group-rules"
    given = {
        "parent_group_id": group["id"],
        "ip_protocol": "tcp",
        "from_port": 22,
        "to_port": 22,
        "cidr": "10.2.3.9/24",
    }
    rule = c.old("POST", rules, {"security_group_rule": given})["security_group_rule"]
    assert rule["ip_range"] == {"cidr": "10.2.3.9/24"} and rule["group"] == {} and rule["from_port"] == 22
    peer = {
        "parent_group_id": group["id"],
        "ip_protocol": "icmp",
        "from_port": -1,
        "to_port": -1,
        "group_id": group["id"],
    }
    inner = c.old("POST", rules, {"security_group_rule": peer})["security_group_rule"]
    assert inner["group"] == {"name": "web", "tenant_id": group["tenant_id"]} and inner["ip_range"] == {}
    assert (inner["from_port"], inner["to_port"]) == (-1, -1)
    shown = c.old("GET", f"/os-security-groups/{group['id']}")["security_group"]
    assert [one["id"] for one in shown["rules"]] == [rule["id"], inner["id"]]
    for body, status in (
        (given, 400), ({**given, "from_port": 23}, 400), ({**given, "to_port": 65536}, 400),
        ({**given, "ip_protocol": "999x"}, 400), ({**given, "parent_group_id": "nope"}, 400),
        ({**given, "parent_group_id": "0f4ba9d3-aabb-4677-8413-b70cfa1a0d91"}, 404),
    ):  # fmt: skip
        assert c.ask_old("POST", rules, {"security_group_rule": body}).status == status, body
    c.old("DELETE", f"{rules}/{rule['id']}", ok=202)
    renamed = {"security_group": {"name": "web2", "description": ""}}
    assert c.old("PUT", f"/os-security-groups/{group['id']}", renamed)["security_group"]["name"] == "web2"
    c.old("DELETE", f"/os-security-groups/{group['id']}", ok=202)
    (default,) = c.old("GET", "/os-security-groups")["security_groups"]
    assert c.ask_old("DELETE", f"/os-security-groups/{default['id']}").status == 400
    assert c.ask_old("GET", f"/os-security-groups/{default['id']}", caller="other").status == 404
    every = c.old("GET", "/os-security-groups?all_tenants=1", caller="admin")["security_groups"]
    assert default["id"] in [one["id"] for one in every]


def test_volumes_and_snapshots(c: Old) -> None:
    wanted = {"display_name": "v", "display_description": "d", "size": "1", "metadata": {"k": "v"}}
    made = c.old("POST", "/os-volumes", {"volume": wanted})["volume"]
    c.run()
    shown = c.old("GET", f"/os-volumes/{made['id']}")["volume"]
    assert shown["status"] == "available" and shown["displayName"] == "v" and shown["attachments"] == [{}]
    shot = c.old("POST", "/os-snapshots", {"snapshot": {"volume_id": made["id"], "display_name": "s"}})["snapshot"]
    c.run()
    assert c.old("GET", f"/os-snapshots/{shot['id']}")["snapshot"]["status"] == "available"
    for path in ("/os-snapshots", "/os-snapshots/detail"):
        assert [one["id"] for one in c.old("GET", path)["snapshots"]] == [shot["id"]]
    server = c.boot()
    attached = {"volumeAttachment": {"volumeId": made["id"]}}
    assert c.ask_old("POST", f"/servers/{server}/os-volume_attachments", attached).status == 200
    c.run()
    for path in ("/os-volumes", "/os-volumes/detail?limit=5"):
        (listed,) = c.old("GET", path)["volumes"]
        assert listed["attachments"][0]["serverId"] == server
    c.old("DELETE", f"/os-snapshots/{shot['id']}", ok=202)
    for size in ("0", "", "#$%", -1):
        assert c.ask_old("POST", "/os-volumes", {"volume": {"size": size}}).status == 400, size
    assert c.ask_old("DELETE", f"/os-volumes/{made['id']}").status == 400  # it is in use
    other = c.call("POST", f"{VOLUME}/volumes", {"volume": {"size": 1}}).json["volume"]["id"]
    c.run()
    assert c.ask_old("GET", f"/os-volumes/{other}", caller="other").status == 404
    c.old("DELETE", f"/os-volumes/{other}", ok=202)


def test_networks_of_the_project_and_of_all(c: Old) -> None:
    assert c.old("GET", "/os-tenant-networks") == {"networks": [{"id": c.network, "cidr": "None", "label": "net"}]}
    assert c.old("GET", f"/os-tenant-networks/{c.network}")["network"]["label"] == "net"
    (one,) = c.old("GET", "/os-networks")["networks"]
    assert one["label"] == "net" and one == c.old("GET", f"/os-networks/{c.network}")["network"]
    assert c.old("GET", "/os-networks", caller="other")["networks"] == []
    assert c.ask_old("GET", f"/os-tenant-networks/{c.network}", caller="other").status == 404
