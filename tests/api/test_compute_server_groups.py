"""Server groups: shapes by version, members, whom they belong to."""

from pathlib import Path
from typing import Any

import pytest
from compute_client import Compute

from direct import DEMO, OTHER, Answer
from pileus.compute.quota import COMPUTE_QUOTA
from pileus.compute.server.rows import SERVERS
from pileus.compute.server_group import MEMBERS, Member, leave_group

HERE = "/os-server-groups"


@pytest.fixture
def api(tmp_path: Path) -> Compute:
    return Compute(tmp_path)


def make(api: Compute, policy: str = "affinity", *, at: str = "2.64", caller: str = "demo", **more: Any) -> Answer:
    inner = {"policy": policy} if at >= "2.64" else {"policies": [policy]}
    return api("POST", HERE, {"server_group": {"name": "g", **inner, **more}}, at=at, caller=caller)


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        ("2.10", {"id", "name", "policies", "metadata", "members"}),
        ("2.13", {"id", "name", "policies", "metadata", "members", "project_id", "user_id"}),
        ("2.63", {"id", "name", "policies", "metadata", "members", "project_id", "user_id"}),
        ("2.64", {"id", "name", "policy", "rules", "members", "project_id", "user_id"}),
    ],
)
def test_a_group_has_the_fields_of_its_version(api: Compute, version: str, keys: set[str]) -> None:
    made = make(api, at=version)
    assert made.status == 200 and set(made.json["server_group"]) == keys
    path = f"{HERE}/{made.json['server_group']['id']}"
    assert set(api("GET", path, at=version, caller="demo").json["server_group"]) == keys
    assert set(api("GET", HERE, at=version, caller="demo").json["server_groups"][0]) == keys


def test_soft_policies_come_with_2_15_and_rules_with_2_64(api: Compute) -> None:
    assert make(api, "soft-affinity", at="2.14").status == 400
    assert make(api, "soft-affinity", at="2.15").json["server_group"]["policies"] == ["soft-affinity"]
    rules = {"max_server_per_host": "3"}
    assert make(api, "anti-affinity", rules=rules).json["server_group"]["rules"] == {"max_server_per_host": 3}
    assert make(api, "affinity", rules=rules).status == 400
    for bad in ({"max_server_per_host": 0}, {"max_server_per_host": "0"}, {"other": 1}, {"max_server_per_host": "x"}):
        assert make(api, "anti-affinity", rules=bad).status == 400, bad


@pytest.mark.parametrize(
    "body",
    [{}, {"server_group": {}}, {"server_group": {"name": "g"}},
     {"server_group": {"name": "", "policies": ["affinity"]}},
     {"server_group": {"name": "g", "policies": []}}, {"server_group": {"name": "g", "policies": ["x"]}},
     {"server_group": {"name": "g", "policies": ["affinity", "anti-affinity"]}},
     {"server_group": {"name": "g", "policies": ["affinity"], "x": 1}},
     {"server_group": {"name": "g\n", "policies": ["affinity"]}}],
)  # fmt: skip
def test_bad_groups_are_refused(api: Compute, body: Any) -> None:
    assert api("POST", HERE, body, caller="demo").status == 400
    assert api("GET", HERE, caller="demo").json == {"server_groups": []}


def test_members_are_the_servers_that_live(api: Compute) -> None:
    group = make(api).json["server_group"]["id"]
    one, two = api.server(node_id=None), api.server(node_id=None)
    db = api.direct.db
    for server in (one, two):
        db.transact(lambda tx, s=server: MEMBERS.insert(tx, Member(server_id=s, group_id=group)))
    assert set(api("GET", f"{HERE}/{group}", caller="demo").json["server_group"]["members"]) == {one, two}
    db.transact(lambda tx: SERVERS.update(tx, {"deleted": True}, id=one))
    assert api("GET", HERE, caller="demo").json["server_groups"][0]["members"] == [two]
    db.transact(lambda tx: leave_group(tx, two))
    assert api("GET", f"{HERE}/{group}", caller="demo").json["server_group"]["members"] == []
    assert api("DELETE", f"{HERE}/{group}", caller="demo").status == 204
    assert api("DELETE", f"{HERE}/{group}", caller="demo").status == 404
    assert db.read(MEMBERS.count) == 0


def test_a_group_is_its_projects(api: Compute) -> None:
    group = make(api).json["server_group"]["id"]
    foreign = api("GET", f"{HERE}/{group}", caller="other")
    unknown = api("GET", f"{HERE}/{OTHER.project_id}", caller="other")
    assert foreign.status == unknown.status == 404
    assert api("DELETE", f"{HERE}/{group}", caller="other").status == 404
    assert api("DELETE", f"{HERE}/{group}", caller="reader").status == 403
    assert make(api, caller="reader").status == 403
    assert api("GET", f"{HERE}/{group}", caller="reader").status == 200
    assert api("GET", f"{HERE}/{group}").status == 200
    assert api("GET", HERE, caller="other").json["server_groups"] == []
    assert api("GET", f"{HERE}?all_projects=1", caller="other").json["server_groups"] == []
    assert api("GET", HERE).json["server_groups"] == []
    assert len(api("GET", f"{HERE}?all_projects=1").json["server_groups"]) == 1


def test_lists_take_a_limit_and_an_offset(api: Compute) -> None:
    ids = [make(api).json["server_group"]["id"] for _ in range(3)]
    assert [g["id"] for g in api("GET", f"{HERE}?limit=1&offset=1", caller="demo").json["server_groups"]] == [ids[1]]
    assert api("GET", f"{HERE}?limit=x", caller="demo").status == 400
    assert api("GET", f"{HERE}?foo=1", at="2.74", caller="demo").status == 200
    assert api("GET", f"{HERE}?foo=1", at="2.75", caller="demo").status == 400


def test_the_quota_holds(api: Compute) -> None:
    api.direct.db.transact(lambda tx: COMPUTE_QUOTA.set_limits(tx, DEMO.project_id or "", {"server_groups": 1}))
    assert make(api).status == 200
    assert make(api).status == 403
