"""Flavors, their extra specs and access, at the versions where they change."""

from pathlib import Path
from typing import Any

import pytest
from compute_client import Compute

from direct import DEMO, OTHER

COMMON = {"id", "name", "links", "ram", "vcpus", "disk", "swap", "OS-FLV-EXT-DATA:ephemeral",
          "os-flavor-access:is_public"}  # fmt: skip


@pytest.fixture
def api(tmp_path: Path) -> Compute:
    return Compute(tmp_path)


def make(api: Compute, name: str = "m1.nano", **more: Any) -> dict[str, Any]:
    body = {"flavor": {"name": name, "ram": 64, "vcpus": 1, "disk": 1, **more}}
    answer = api("POST", "/flavors", body, at="2.61")
    assert answer.status == 200, answer
    flavor: dict[str, Any] = answer.json["flavor"]
    return flavor


@pytest.mark.parametrize(
    ("version", "more"),
    [
        ("2.1", {"rxtx_factor", "OS-FLV-DISABLED:disabled"}),
        ("2.54", {"rxtx_factor", "OS-FLV-DISABLED:disabled"}),
        ("2.55", {"rxtx_factor", "OS-FLV-DISABLED:disabled", "description"}),
        ("2.61", {"rxtx_factor", "OS-FLV-DISABLED:disabled", "description", "extra_specs"}),
        ("2.101", {"rxtx_factor", "OS-FLV-DISABLED:disabled", "description", "extra_specs"}),
        ("2.102", {"description", "extra_specs"}),
        ("2.104", {"description", "extra_specs"}),
    ],
)
def test_a_flavor_has_the_fields_of_its_version(api: Compute, version: str, more: set[str]) -> None:
    flavor = make(api)
    for path in (f"/flavors/{flavor['id']}", "/flavors/detail"):
        shown = api("GET", path, at=version, caller="demo").json
        assert set(shown["flavor"] if "flavor" in shown else shown["flavors"][0]) == COMMON | more
    brief = api("GET", "/flavors", at=version).json["flavors"][0]
    assert set(brief) == {"id", "name", "links"} | (more & {"description"})
    assert {link["rel"] for link in brief["links"]} == {"self", "bookmark"}


def test_no_swap_is_an_empty_text_until_2_74_and_zero_from_then_on(api: Compute) -> None:
    flavor = make(api)
    assert api("GET", f"/flavors/{flavor['id']}", at="2.74").json["flavor"]["swap"] == ""
    assert api("GET", f"/flavors/{flavor['id']}", at="2.75").json["flavor"]["swap"] == 0


def test_a_flavor_lives_and_ends(api: Compute) -> None:
    flavor = make(api, id=42, swap="512", rxtx_factor="2.5", **{"OS-FLV-EXT-DATA:ephemeral": 3})
    assert (flavor["id"], flavor["swap"], flavor["rxtx_factor"]) == ("42", 512, 2.5)
    assert flavor["OS-FLV-EXT-DATA:ephemeral"] == 3
    change = {"flavor": {"description": "small"}}
    assert api("PUT", "/flavors/42", change, at="2.54").status == 404
    assert api("PUT", "/flavors/42", change, at="2.55").json["flavor"]["description"] == "small"
    assert api("PUT", "/flavors/42", {"flavor": {"name": "x"}}, at="2.55").status == 400
    assert api("DELETE", "/flavors/42").status == 202
    assert api("GET", "/flavors/42").status == 404 and api("DELETE", "/flavors/42").status == 404


def test_names_and_ids_are_taken_once(api: Compute) -> None:
    make(api, "m1", id="1")
    for body in ({"name": "m1"}, {"name": "m2", "id": "1"}):
        answer = api("POST", "/flavors", {"flavor": {"ram": 1, "vcpus": 1, "disk": 1, **body}})
        assert answer.status == 409 and "already exists" in answer.json["conflictingRequest"]["message"]


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"name": " x"}, {"name": "x\n"}, {"name": "x" * 256}, {"name": 7}, {"ram": 0}, {"ram": -1},
     {"ram": "x"}, {"ram": 2**31}, {"ram": "99999999999"}, {"vcpus": 0}, {"vcpus": True}, {"disk": -1}, {"id": " 1"},
     {"id": "é"}, {"swap": -1}, {"rxtx_factor": 0}, {"rxtx_factor": "0.0"}, {"extra": 1}, {"description": "x"},
     {"os-flavor-access:is_public": "maybe"}],
)  # fmt: skip
def test_bad_flavors_are_refused_by_field(api: Compute, wrong: dict[str, Any]) -> None:
    body = {"flavor": {"name": "n", "ram": 1, "vcpus": 1, "disk": 0, **wrong}}
    answer = api("POST", "/flavors", body)
    assert answer.status == 400, answer
    assert set(answer.json["badRequest"]) == {"code", "message"}
    assert api("GET", "/flavors").json == {"flavors": []}


def test_lists_filter_sort_and_page(api: Compute) -> None:
    for i, ram in enumerate((64, 128, 256, 512)):
        make(api, f"f{i}", id=str(i), ram=ram, disk=i)

    def names(query: str, at: str = "2.1") -> list[str]:
        return [f["name"] for f in api("GET", f"/flavors/detail?{query}", at=at, caller="demo").json["flavors"]]

    assert names("minRam=200") == ["f2", "f3"] and names("minDisk=1&minRam=100") == ["f1", "f2", "f3"]
    assert names("sort_key=memory_mb&sort_dir=desc") == ["f3", "f2", "f1", "f0"]
    assert names("name=f1", "2.102") == ["f1"] and len(names("name=f1", "2.74")) == 4
    page = api("GET", "/flavors?limit=3", caller="demo").json
    assert [f["name"] for f in page["flavors"]] == ["f0", "f1", "f2"]
    following = page["flavors_links"][0]["href"].partition("/v2.1")[2]
    assert [f["name"] for f in api("GET", following, caller="demo").json["flavors"]] == ["f3"]
    for bad in ("minRam=x", "minDisk=x", "limit=-1", "marker=nope", "sort_key=nope", "sort_dir=up", "is_public=maybe"):
        assert api("GET", f"/flavors?{bad}").status == 400, bad
    assert api("GET", "/flavors?unknown=1", at="2.74").status == 200
    assert api("GET", "/flavors?unknown=1", at="2.75").status == 400


def test_a_private_flavor_is_for_those_with_access(api: Compute) -> None:
    make(api, "secret", id="s", **{"os-flavor-access:is_public": False})
    make(api, "public", id="p")
    here, grant = "/flavors/s", {"addTenantAccess": {"tenant": DEMO.project_id}}
    assert api("GET", here, caller="demo").status == 404
    assert api("GET", f"{here}/os-extra_specs", caller="demo").status == 404
    assert api("GET", "/flavors?is_public=false", caller="demo").json["flavors"][0]["name"] == "public"
    assert [f["name"] for f in api("GET", "/flavors?is_public=none").json["flavors"]] == ["public", "secret"]
    assert [f["name"] for f in api("GET", "/flavors?is_public=false").json["flavors"]] == ["secret"]
    assert api("POST", f"{here}/action", grant).json["flavor_access"] == [
        {"flavor_id": "s", "tenant_id": DEMO.project_id}
    ]
    assert api("POST", f"{here}/action", grant).status == 409
    assert api("GET", here, caller="demo").status == 200 and api("GET", here, caller="other").status == 404
    assert len(api("GET", "/flavors", caller="demo").json["flavors"]) == 2
    assert len(api("GET", f"{here}/os-flavor-access").json["flavor_access"]) == 1
    revoke = {"removeTenantAccess": {"tenant": DEMO.project_id}}
    assert api("POST", f"{here}/action", revoke).json == {"flavor_access": []}
    assert api("POST", f"{here}/action", revoke).status == 404
    assert api("GET", "/flavors/p/os-flavor-access").status == 404
    assert api("POST", "/flavors/p/action", grant, at="2.7").status == 409
    assert api("POST", f"{here}/action", {"addTenantAccess": {"tenant": "nobody"}}).status == 400
    assert api("POST", f"{here}/action", {"fly": {}}).status == 400
    assert api("POST", f"{here}/action", {"addTenantAccess": {"tenant": OTHER.project_id}}, caller="demo").status in (
        403, 404
    )  # fmt: skip


def test_extra_specs_live_and_end(api: Compute) -> None:
    make(api, id="1")
    here = "/flavors/1/os-extra_specs"
    assert api("POST", here, {"extra_specs": {"hw:numa_nodes": 1, "a": "b"}}).json == {
        "extra_specs": {"hw:numa_nodes": "1", "a": "b"}
    }
    assert api("GET", here, caller="reader").json == {"extra_specs": {"hw:numa_nodes": "1", "a": "b"}}
    assert api("PUT", f"{here}/a", {"a": "c"}).json == {"a": "c"}
    assert api("PUT", f"{here}/a", {"x": "c"}).status == 400
    assert api("PUT", f"{here}/a", {"a": "c", "b": "d"}).status == 400
    assert api("GET", f"{here}/a", caller="demo").json == {"a": "c"}
    assert api("GET", f"{here}/nope").status == 404 and api("DELETE", f"{here}/nope").status == 404
    answer = api("DELETE", f"{here}/a")
    assert answer.status == 200 and not answer.raw
    for bad in ({"x" * 256: "1"}, {"k": "x" * 256}, {"k$": "1"}, {"k": True}, {"k": None}, {"": "1"}):
        assert api("POST", here, {"extra_specs": bad}).status == 400, bad
    for method, path in (("POST", here), ("PUT", f"{here}/a"), ("DELETE", f"{here}/hw:numa_nodes")):
        assert api(method, path, {"extra_specs": {}} if method == "POST" else {"a": "b"}, caller="demo").status == 403


def test_extra_specs_must_make_sense_from_2_86_on(api: Compute) -> None:
    make(api, id="1")
    here = "/flavors/1/os-extra_specs"
    wrong = {"extra_specs": {"hw:cpu_policy": "sometimes"}}
    assert api("POST", here, wrong, at="2.85").status == 200
    refused = api("POST", here, wrong, at="2.86")
    assert refused.status == 400 and "dedicated" in refused.json["badRequest"]["message"]
    assert api("POST", here, {"extra_specs": {"hw:cpu_policy": "shared", "foo:bar": "baz"}}, at="2.86").status == 200


def test_only_administrators_write(api: Compute) -> None:
    make(api, id="1")
    body = {"flavor": {"name": "n", "ram": 1, "vcpus": 1, "disk": 0}}
    for caller in ("demo", "reader", "other", "service"):
        assert api("POST", "/flavors", body, caller=caller).status == 403
        assert api("DELETE", "/flavors/1", caller=caller).status == 403
    assert api("GET", "/flavors", caller="").status == 401
