"""Quotas, tags, extensions, agents, zones, what is left of addresses, version documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from networking import Networking
from pileus.core.nodes import NODES, Node

DEMO = "d" * 32


@pytest.fixture
def n(tmp_path: Path) -> Iterator[Networking]:
    made = Networking(tmp_path)
    yield made
    made.close()


def test_clients_find_the_api_without_a_token(n: Networking) -> None:
    for path in ("/networking", "/networking/"):
        (version,) = n.api("GET", path, caller="").json["versions"]
        assert (version["id"], version["status"]) == ("v2.0", "CURRENT")
        assert version["links"][0]["href"].endswith("/networking/v2.0/")
    for path in ("/networking/v2.0", "/networking/v2.0/"):
        assert {"networks", "ports"} <= {r["collection"] for r in n.api("GET", path, caller="").json["resources"]}


def test_only_what_is_implemented_is_advertised(n: Networking) -> None:
    aliases = [extension["alias"] for extension in n.call("GET", "/extensions")["extensions"]]
    assert len(set(aliases)) == len(aliases)
    assert {"router", "security-group", "external-net", "standard-attr-tag", "extraroute-atomic"} <= set(aliases)
    assert not {"dvr", "l3-ha", "qos", "trunk"} & set(aliases)
    assert n.call("GET", "/extensions/router")["extension"]["alias"] == "router"
    n.refused(404, "ExtensionNotFound", "GET", "/extensions/nope")


def test_quotas_limit_each_resource_and_are_the_administrators(n: Networking) -> None:
    assert n.call("GET", f"/quotas/{DEMO}")["quota"]["port"] == 500
    limits = {"network": 1, "subnet": 1, "port": 2, "router": 0, "floatingip": 0, "security_group": 1,
              "security_group_rule": 4}  # fmt: skip
    n.refused(403, "PolicyNotAuthorized", "PUT", f"/quotas/{DEMO}", {"quota": limits})
    assert n.call("PUT", f"/quotas/{DEMO}", {"quota": limits}, "admin")["quota"] == limits
    ext = n.outside()
    net, _ = n.tenant()
    n.make("port", network_id=net["id"])
    group = n.call("GET", "/security-groups")["security_groups"][0]
    for kind, given in (
        ("network", {}),
        ("subnet", {"network_id": net["id"], "ip_version": 4, "cidr": "10.1.0.0/24"}),
        ("port", {"network_id": net["id"]}),
        ("router", {}),
        ("floatingip", {"floating_network_id": ext["id"]}),
        ("security_group", {"name": "g"}),
        ("security_group_rule", {"security_group_id": group["id"], "direction": "ingress"}),
    ):
        assert kind in n.cannot_make(409, "OverQuota", kind, **given)
    for path in ("details", "details.json"):
        used = n.call("GET", f"/quotas/{DEMO}/{path}")["quota"]
        assert used["port"] == {"limit": 2, "used": 2, "reserved": 0}
    assert n.call("GET", f"/quotas/{DEMO}/default")["quota"]["port"] == 500
    assert [q["project_id"] for q in n.call("GET", "/quotas", caller="admin")["quotas"]] == [DEMO]
    n.refused(403, "PolicyNotAuthorized", "GET", "/quotas")
    n.refused(403, "PolicyNotAuthorized", "GET", f"/quotas/{DEMO}", caller="other")
    low = {"quota": {"port": 1, "check_limit": True}}
    n.refused(400, "QuotaUpdateLimitBelowUsage", "PUT", f"/quotas/{DEMO}", low, "admin")
    for bad in ({"port": "x"}, {"port": -2}, {"nonsense": 1}):
        n.refused(400, "HTTPBadRequest", "PUT", f"/quotas/{DEMO}", {"quota": bad}, "admin")
    n.refused(403, "PolicyNotAuthorized", "DELETE", f"/quotas/{DEMO}")
    n.call("DELETE", f"/quotas/{DEMO}", caller="admin")
    assert n.call("GET", f"/quotas/{DEMO}")["quota"]["port"] == 500


def tagged(n: Networking) -> dict[str, Any]:
    net, subnet, ext, router = n.routed()
    return {
        "networks": net, "subnets": subnet, "routers": router, "ports": n.make("port", network_id=net["id"]),
        "floatingips": n.make("floatingip", floating_network_id=ext["id"]),
        "security-groups": n.make("security_group", name="g"),
    }  # fmt: skip


def test_tags_of_every_kind_are_set_added_asked_for_and_removed(n: Networking) -> None:
    for plural, thing in tagged(n).items():
        base = f"/{plural}/{thing['id']}/tags"
        assert n.call("PUT", base, {"tags": ["red", "blue"]}) == {"tags": ["blue", "red"]}
        n.call("PUT", f"{base}/green", ok=201)
        assert n.call("POST", base, {"tags": ["white"]})["tags"] == ["blue", "green", "red", "white"]
        n.call("GET", f"{base}/green", ok=204)
        n.call("DELETE", f"{base}/green")
        n.refused(404, "TagNotFound", "GET", f"{base}/green")
        n.refused(404, "TagNotFound", "DELETE", f"{base}/green")
        assert n.call("GET", base) == {"tags": ["blue", "red", "white"]}
        for query, found in (("tags=red,blue", 1), ("tags=red,pink", 0), ("tags-any=pink,red", 1), ("not-tags=red", 0),
                             ("not-tags=red,pink", 1), ("not-tags-any=pink", 1), ("tags=re", 0)):  # fmt: skip
            listed = n.call("GET", f"/{plural}?id={thing['id']}&{query}")
            assert len(listed[plural.replace("-", "_")]) == found, (plural, query)
        n.refused(403, "PolicyNotAuthorized", "PUT", base, {"tags": []}, "reader")
        assert n.ask("GET", base, caller="other").status == 404
        for bad in (["a,b"], [""], ["x" * 256], "red", [str(i) for i in range(51)]):
            n.refused(400, "HTTPBadRequest", "PUT", base, {"tags": bad})
        n.call("DELETE", base)
        assert n.call("GET", base) == {"tags": []}


def test_agents_are_the_nodes_and_can_be_taken_out(n: Networking) -> None:
    node = Node(id="n1", name="node1", url="", endpoint="192.0.2.1", roles=["network"], capabilities={}, pools=[],
                created_at=0.0, seen_at=0.0)  # fmt: skip
    n.db.transact(lambda tx: NODES.insert(tx, node))
    (agent,) = n.call("GET", "/agents?host=node1&alive=false", caller="admin")["agents"]
    assert agent["id"] == "n1" and agent["admin_state_up"] and not agent["alive"]
    assert n.call("GET", "/agents?alive=true", caller="admin")["agents"] == []
    assert n.call("GET", "/agents?binary=nova-compute", caller="admin")["agents"] == []
    changed = n.change("agent", "n1", "admin", admin_state_up=False, description="d")
    assert not changed["admin_state_up"] and n.get("agent", "n1", "admin")["description"] == "d"
    assert n.call("GET", "/agents")["agents"] == []
    n.refused(403, "PolicyNotAuthorized", "GET", "/agents/n1")
    n.refused(404, "AgentNotFound", "GET", "/agents/nope", caller="admin")
    n.cannot_delete(409, "AgentInUse", "agent", "n1", "admin")
    zones = n.call("GET", "/availability_zones?resource=router")["availability_zones"]
    assert zones == [{"name": "nova", "resource": "router", "state": "available"}]


def test_addresses_in_use_and_left_are_counted(n: Networking) -> None:
    net, subnet = n.tenant()
    n.make("port", network_id=net["id"])
    query = f"?network_id={net['id']}&ip_version=4"
    (found,) = n.call("GET", f"/network-ip-availabilities{query}", caller="admin")["network_ip_availabilities"]
    assert (found["total_ips"], found["used_ips"]) == (253, 2)
    assert found["subnet_ip_availability"][0]["subnet_id"] == subnet["id"]
    path = f"/network-ip-availabilities/{net['id']}"
    assert n.call("GET", path, caller="admin")["network_ip_availability"]["used_ips"] == 2
    n.refused(403, "PolicyNotAuthorized", "GET", "/network-ip-availabilities")
    n.refused(400, "HTTPBadRequest", "GET", "/network-ip-availabilities?nope=1", caller="admin")


def test_services_have_a_provider(n: Networking) -> None:
    assert n.call("GET", "/service-providers")["service_providers"][0]["service_type"] == "L3_ROUTER_NAT"
