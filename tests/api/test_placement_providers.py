"""Providers, inventories, traits, classes, aggregates of placement, as an operator uses them."""

from pathlib import Path
from typing import Any

import pytest
from placement_client import NONE, U1, U2, U3, Placement, code


@pytest.fixture
def api(tmp_path: Path) -> Placement:
    return Placement(tmp_path)


def test_the_version_document_needs_no_token(api: Placement) -> None:
    answer = api.direct("GET", "/placement/", headers={"x-auth-token": ""})
    assert answer.status == 200
    assert answer.json["versions"][0]["max_version"] == "1.39"


def test_errors_have_a_status_a_detail_a_code_and_the_request(api: Placement) -> None:
    answer = api("GET", f"/resource_providers/{NONE}")
    error = answer.json["errors"][0]
    assert answer.status == 404
    assert error["code"] == "placement.resource_provider.not_found"
    assert error["request_id"] == answer.headers["x-openstack-request-id"]
    assert api.direct("GET", "/placement/resource_providers", caller="admin", version="placement 1.99").status == 406


def test_a_provider_lives_and_ends(api: Placement) -> None:
    made = api.provider(name="node-1")
    assert made["uuid"] == U1 and made["generation"] == 0 and made["root_provider_uuid"] == U1
    assert {link["rel"] for link in made["links"]} == {
        "self", "inventories", "usages", "aggregates", "traits", "allocations"
    }  # fmt: skip
    renamed = api("PUT", f"/resource_providers/{U1}", {"name": "node-2"})
    assert renamed.status == 200 and renamed.json["name"] == "node-2"
    shown = api("GET", f"/resource_providers/{U1}")
    assert shown.json["name"] == "node-2"
    assert shown.headers["last-modified"].endswith("GMT") and shown.headers["cache-control"] == "no-cache"
    assert api("DELETE", f"/resource_providers/{U1}").status == 204
    assert api("GET", f"/resource_providers/{U1}").status == 404
    assert api("DELETE", f"/resource_providers/{U1}").status == 404


def test_versions_shape_a_provider(api: Placement) -> None:
    old = api("POST", "/resource_providers", {"name": "n"}, at="1.0")
    assert old.status == 201 and not old.raw
    path = old.headers["location"].removeprefix("/placement")
    assert set(api("GET", path, at="1.0").json) == {"uuid", "name", "generation", "links"}
    assert len(api("GET", path, at="1.0").json["links"]) == 3
    assert "last-modified" not in api("GET", path, at="1.14").headers
    assert api("POST", "/resource_providers", {"name": "m", "parent_provider_uuid": None}, at="1.13").status == 400


@pytest.mark.parametrize(
    "body",
    [{}, {"name": 1}, {"name": "x" * 201}, {"name": "n", "uuid": "x"}, {"name": "n", "extra": 1}, [], "n",
     {"name": "n", "parent_provider_uuid": NONE}, {"name": "n", "uuid": U1, "parent_provider_uuid": U1}],
)  # fmt: skip
def test_bad_providers_are_refused(api: Placement, body: Any) -> None:
    assert api("POST", "/resource_providers", body).status == 400
    assert api("GET", "/resource_providers").json == {"resource_providers": []}


def test_names_and_ids_are_unique(api: Placement) -> None:
    api.provider(name="n")
    same_id = api("POST", "/resource_providers", {"uuid": U1, "name": "m"})
    same_name = api("POST", "/resource_providers", {"name": "n"})
    assert (same_id.status, code(same_id)) == (409, "placement.duplicate_name")
    assert (same_name.status, code(same_name)) == (409, "placement.duplicate_name")
    api.provider(U2, name="m")
    assert api("PUT", f"/resource_providers/{U2}", {"name": "n"}).status == 409


def test_trees_are_made_moved_and_protected(api: Placement) -> None:
    api.provider(U1)
    child = api.provider(U2, parent_provider_uuid=U1)
    assert child["parent_provider_uuid"] == U1 and child["root_provider_uuid"] == U1
    api.provider(U3)
    refused = api("DELETE", f"/resource_providers/{U1}")
    assert (refused.status, code(refused)) == (409, "placement.resource_provider.cannot_delete_parent")
    move = {"name": "child", "parent_provider_uuid": U3}
    assert api("PUT", f"/resource_providers/{U2}", move, at="1.36").status == 400
    assert api("PUT", f"/resource_providers/{U2}", move).json["root_provider_uuid"] == U3
    loop = {"name": "loop", "parent_provider_uuid": U2}
    assert api("PUT", f"/resource_providers/{U3}", loop).status == 400
    alone = api("PUT", f"/resource_providers/{U2}", {"name": "child", "parent_provider_uuid": None})
    assert alone.json["root_provider_uuid"] == U2 and alone.json["parent_provider_uuid"] is None
    assert len(api("GET", f"/resource_providers?in_tree={U3}").json["resource_providers"]) == 1


def test_lists_filter(api: Placement) -> None:
    aggregate = "aaaaaaaa-1111-4222-8333-444444444444"
    api.provider(U1, "one")
    api.provider(U2, "two")
    api.stock(U1, VCPU=4)
    body = {"aggregates": [aggregate], "resource_provider_generation": 1}
    assert api("PUT", f"/resource_providers/{U1}/aggregates", body).status == 200
    traits = {"traits": ["HW_CPU_X86_VMX"], "resource_provider_generation": 2}
    assert api("PUT", f"/resource_providers/{U1}/traits", traits).status == 200
    for query, names in [
        ("", ["one", "two"]),
        ("name=two", ["two"]),
        (f"uuid={U1}", ["one"]),
        (f"member_of=in:{aggregate},{NONE}", ["one"]),
        (f"member_of=!{aggregate}", ["two"]),
        ("resources=VCPU:4", ["one"]),
        ("resources=VCPU:5", []),
        ("required=HW_CPU_X86_VMX", ["one"]),
        ("required=!HW_CPU_X86_VMX", ["two"]),
        (f"in_tree={U2}", ["two"]),
        (f"in_tree={NONE}", []),
    ]:
        found = api("GET", f"/resource_providers?{query}").json["resource_providers"]
        assert [p["name"] for p in found] == names, query
    for query in ("uuid=x", "foo=1", "member_of=x", "resources=VCPU", "resources=NOPE:1", "required=NOPE", "required="):
        assert api("GET", f"/resource_providers?{query}").status == 400, query
    assert api("GET", "/resource_providers?resources=VCPU:1", at="1.3").status == 400


def test_inventories_swap_by_generation(api: Placement) -> None:
    api.provider()
    assert api.stock(U1, VCPU=4, DISK_GB=10).json["resource_provider_generation"] == 1
    stale = api.stock(U1, VCPU=8)
    assert (stale.status, code(stale)) == (409, "placement.concurrent_update")
    assert api.stock(U1, 1, VCPU=8).json == {
        "resource_provider_generation": 2,
        "inventories": {
            "VCPU": {"total": 8, "reserved": 0, "min_unit": 1, "max_unit": 0x7FFFFFFF, "step_size": 1,
                     "allocation_ratio": 1.0}
        },
    }  # fmt: skip
    listed = api("GET", f"/resource_providers/{U1}/inventories").json
    assert list(listed["inventories"]) == ["VCPU"]


def test_one_inventory_lives_and_ends(api: Placement) -> None:
    api.provider()
    here = f"/resource_providers/{U1}/inventories"
    made = api("POST", here, {"resource_class": "VCPU", "total": 4, "allocation_ratio": 2.5})
    assert made.status == 201 and made.headers["location"].endswith(f"{U1}/inventories/VCPU")
    assert api("POST", here, {"resource_class": "VCPU", "total": 4}).status == 409
    assert api("GET", f"{here}/VCPU").json["allocation_ratio"] == 2.5
    assert api("GET", f"{here}/DISK_GB").status == 404
    changed = api("PUT", f"{here}/VCPU", {"total": 6, "resource_provider_generation": 1})
    assert changed.json["total"] == 6 and changed.json["resource_provider_generation"] == 2
    assert api("PUT", f"{here}/VCPU", {"total": 6, "resource_provider_generation": 1}).status == 409
    assert api("PUT", f"{here}/DISK_GB", {"total": 6, "resource_provider_generation": 2}).status == 400
    assert api("DELETE", f"{here}/VCPU").status == 204
    assert api("DELETE", f"{here}/VCPU").status == 404
    api("POST", here, {"resource_class": "VCPU", "total": 4})
    assert api("DELETE", here, at="1.4").status == 404
    assert api("DELETE", here).status == 204
    assert api("GET", here).json["inventories"] == {}


@pytest.mark.parametrize(
    "record",
    [{}, {"total": 0}, {"total": -1}, {"total": 2**31}, {"total": "4"}, {"total": 4, "reserved": 5},
     {"total": 4, "min_unit": 0}, {"total": 4, "allocation_ratio": 0}, {"total": 4, "allocation_ratio": 1e39},
     {"total": 4, "extra": 1}],
)  # fmt: skip
def test_bad_inventories_are_refused(api: Placement, record: dict[str, Any]) -> None:
    api.provider()
    here = f"/resource_providers/{U1}/inventories"
    assert api("POST", here, {"resource_class": "VCPU", **record}).status == 400
    assert api("PUT", here, {"resource_provider_generation": 0, "inventories": {"VCPU": record}}).status == 400
    assert api("POST", here, {"resource_class": "NOPE", "total": 1}).status == 400
    assert api("GET", here).json == {"resource_provider_generation": 0, "inventories": {}}


def test_all_may_be_reserved_from_1_26_on(api: Placement) -> None:
    api.provider()
    body = {"resource_class": "VCPU", "total": 4, "reserved": 4}
    assert api("POST", f"/resource_providers/{U1}/inventories", body, at="1.25").status == 400
    assert api("POST", f"/resource_providers/{U1}/inventories", body, at="1.26").status == 201


def test_custom_traits_live_and_end(api: Placement) -> None:
    made = api("PUT", "/traits/CUSTOM_GOLD")
    assert made.status == 201 and made.headers["location"] == "/placement/traits/CUSTOM_GOLD"
    assert api("PUT", "/traits/CUSTOM_GOLD").status == 204
    for bad in ("GOLD", "CUSTOM_gold", "CUSTOM_", "CUSTOM_" + "X" * 250, "CUSTOM_A-B"):
        assert api("PUT", f"/traits/{bad}").status == 400, bad
    assert api("GET", "/traits/CUSTOM_GOLD").status == 204
    assert api("GET", "/traits/HW_CPU_X86_VMX").status == 204
    assert api("GET", "/traits/CUSTOM_NOPE").status == 404
    assert api("GET", "/traits?name=startswith:CUSTOM_").json == {"traits": ["CUSTOM_GOLD"]}
    assert api("GET", "/traits?name=in:CUSTOM_GOLD,NOPE").json == {"traits": ["CUSTOM_GOLD"]}
    assert len(api("GET", "/traits").json["traits"]) > 300
    assert api("GET", "/traits?name=GOLD").status == 400 and api("GET", "/traits?associated=x").status == 400
    assert api("DELETE", "/traits/HW_CPU_X86_VMX").status == 400
    assert api("GET", "/traits", at="1.5").status == 404

    api.provider()
    body = {"traits": ["CUSTOM_GOLD", "HW_CPU_X86_VMX"], "resource_provider_generation": 0}
    assert api("PUT", f"/resource_providers/{U1}/traits", body).json == {**body, "resource_provider_generation": 1}
    assert api("PUT", f"/resource_providers/{U1}/traits", body).status == 409
    unknown = {"traits": ["NOPE"], "resource_provider_generation": 1}
    assert api("PUT", f"/resource_providers/{U1}/traits", unknown).status == 400
    assert api("GET", "/traits?associated=true").json == {"traits": ["CUSTOM_GOLD", "HW_CPU_X86_VMX"]}
    assert api("GET", "/traits?associated=false&name=startswith:CUSTOM_").json == {"traits": []}
    assert api("DELETE", "/traits/CUSTOM_GOLD").status == 409
    assert api("DELETE", f"/resource_providers/{U1}/traits").status == 204
    assert api("GET", f"/resource_providers/{U1}/traits").json == {"traits": [], "resource_provider_generation": 2}
    assert api("DELETE", "/traits/CUSTOM_GOLD").status == 204
    assert api("DELETE", "/traits/CUSTOM_GOLD").status == 404


def test_custom_classes_live_and_end(api: Placement) -> None:
    made = api("POST", "/resource_classes", {"name": "CUSTOM_SEAT"})
    assert made.status == 201 and made.headers["location"].endswith("/resource_classes/CUSTOM_SEAT")
    assert api("POST", "/resource_classes", {"name": "CUSTOM_SEAT"}).status == 409
    assert api("POST", "/resource_classes", {"name": "SEAT"}).status == 400
    assert api("PUT", "/resource_classes/CUSTOM_SEAT").status == 204
    assert api("PUT", "/resource_classes/CUSTOM_TABLE").status == 201
    assert api("PUT", "/resource_classes/VCPU").status == 400
    names = [c["name"] for c in api("GET", "/resource_classes").json["resource_classes"]]
    assert names[0] == "VCPU" and names[-2:] == ["CUSTOM_SEAT", "CUSTOM_TABLE"]
    assert api("GET", "/resource_classes/CUSTOM_SEAT").json["name"] == "CUSTOM_SEAT"
    assert api("GET", "/resource_classes/CUSTOM_NOPE").status == 404
    api.provider()
    assert api.stock(U1, CUSTOM_SEAT=4).status == 200
    assert api("DELETE", "/resource_classes/CUSTOM_SEAT").status == 409
    renamed = api("PUT", "/resource_classes/CUSTOM_SEAT", {"name": "CUSTOM_CHAIR"}, at="1.6")
    assert renamed.status == 200 and renamed.json["name"] == "CUSTOM_CHAIR"
    assert list(api("GET", f"/resource_providers/{U1}/inventories").json["inventories"]) == ["CUSTOM_CHAIR"]
    assert api("PUT", "/resource_classes/VCPU", {"name": "CUSTOM_X"}, at="1.6").status == 400
    assert api("DELETE", "/resource_classes/VCPU").status == 400
    assert api("DELETE", "/resource_classes/CUSTOM_TABLE").status == 204
    assert api("DELETE", "/resource_classes/CUSTOM_TABLE").status == 404


def test_aggregates_have_a_generation_from_1_19_on(api: Placement) -> None:
    api.provider()
    here = f"/resource_providers/{U1}/aggregates"
    assert api("PUT", here, [U2], at="1.1").json == {"aggregates": [U2]}
    assert api("GET", here).json == {"aggregates": [U2], "resource_provider_generation": 0}
    body = {"aggregates": [U2, U3], "resource_provider_generation": 0}
    assert api("PUT", here, body).json["resource_provider_generation"] == 1
    stale = api("PUT", here, body)
    assert (stale.status, code(stale)) == (409, "placement.concurrent_update")
    for bad in ({"aggregates": ["x"], "resource_provider_generation": 1}, [U2], {"aggregates": []}):
        assert api("PUT", here, bad).status == 400


def test_only_operators_and_services_come_in(api: Placement) -> None:
    api.provider()
    for method, path in [
        ("GET", "/resource_providers"), ("GET", f"/resource_providers/{U1}"), ("DELETE", f"/resource_providers/{U1}"),
        ("GET", f"/resource_providers/{U1}/inventories"), ("GET", f"/resource_providers/{U1}/traits"),
        ("GET", "/traits"), ("GET", "/resource_classes"), ("PUT", "/traits/CUSTOM_X"), ("GET", f"/allocations/{U1}"),
        ("GET", "/allocation_candidates?resources=VCPU:1"), ("DELETE", f"/allocations/{U1}"),
    ]:  # fmt: skip
        assert api(method, path, caller="demo").status == 403, path
        assert (
            api.direct(method, f"/placement{path}", headers={"x-auth-token": ""}, version="placement 1.39").status
            == 401
        )
