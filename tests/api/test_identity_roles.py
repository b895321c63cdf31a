"""Roles: given, inherited, implied, listed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from identity_cloud import IdentityCloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("inherited", [False, True])
@pytest.mark.parametrize("actor", ["users", "groups"])
@pytest.mark.parametrize("target", ["projects", "domains", "system"])
def test_a_grant_is_given_checked_listed_and_taken(
    cloud: IdentityCloud, target: str, actor: str, inherited: bool
) -> None:
    if target == "system" and inherited:
        pytest.skip("nothing lies below the system")
    who = cloud.make(f"/{actor}", actor[:-1], name="x")["id"]
    where = "" if target == "system" else "/" + cloud.make(f"/{target}", target[:-1], name="y")["id"]
    role = cloud.role_id("member")
    before, after = ("/OS-INHERIT", "/inherited_to_projects") if inherited else ("", "")
    several = f"{before}/{target}{where}/{actor}/{who}/roles"
    one = f"{several}/{role}{after}"
    assert cloud("HEAD", one).status == 404 and cloud("DELETE", one).status == 404
    assert cloud("PUT", one).status == 204 and cloud("PUT", one).status == 204
    assert cloud("HEAD", one).status == 204 and cloud("GET", one).status == 204
    assert [r["name"] for r in cloud("GET", several + after).json["roles"]] == ["member"]
    for wrong in (one.replace(who, "0" * 32), one.replace(role, "0" * 32)):
        assert cloud("PUT", wrong).status == 404
    assert cloud("DELETE", one).status == 204 and cloud("GET", several + after).json["roles"] == []


def tree(cloud: IdentityCloud) -> dict[str, str]:
    """Eve by her group: member on all below domain d; herself: reader on the project top."""
    domain = cloud.make("/domains", "domain", name="d")["id"]
    top = cloud.make("/projects", "project", name="top", domain_id=domain)["id"]
    leaf = cloud.make("/projects", "project", name="leaf", domain_id=domain, parent_id=top)["id"]
    eve = cloud.make("/users", "user", name="eve", password="secret")["id"]
    group = cloud.make("/groups", "group", name="g")["id"]
    cloud("PUT", f"/groups/{group}/users/{eve}")
    role = cloud.role_id("member")
    assert cloud("PUT", f"/OS-INHERIT/domains/{domain}/groups/{group}/roles/{role}/inherited_to_projects").status == 204
    cloud.grant(f"/projects/{top}", f"/users/{eve}", "reader")
    return {"domain": domain, "top": top, "leaf": leaf, "eve": eve, "group": group}


def test_inherited_roles_hold_below_and_not_at_the_place_itself(cloud: IdentityCloud) -> None:
    ids = tree(cloud)
    for project in (ids["top"], ids["leaf"]):
        token = cloud.by_password("eve", "secret", {"project": {"id": project}}).json["token"]
        assert {r["name"] for r in token["roles"]} == {"member", "reader"}
    assert cloud.by_password("eve", "secret", {"domain": {"id": ids["domain"]}}).status == 401


def listed(cloud: IdentityCloud, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud("GET", f"/role_assignments?{query}").json["role_assignments"]
    return found


def test_effective_assignments_name_what_they_came_from(cloud: IdentityCloud) -> None:
    ids = tree(cloud)
    found = listed(cloud, f"effective&include_names&user.id={ids['eve']}&scope.project.id={ids['leaf']}")
    assert {a["role"]["name"] for a in found} == {"member", "reader"}
    member = next(a for a in found if a["role"]["name"] == "member")
    base = "http://cloud:5000/identity/v3"
    role = cloud.role_id("member")
    assert member["links"] == {
        "assignment": f"{base}/OS-INHERIT/domains/{ids['domain']}/groups/{ids['group']}/roles/{role}"
        "/inherited_to_projects",
        "membership": f"{base}/groups/{ids['group']}/users/{ids['eve']}",
    }
    assert member["user"] == {"id": ids["eve"], "name": "eve", "domain": {"id": "default", "name": "Default"}}
    assert member["scope"]["project"]["name"] == "leaf" and member["scope"]["OS-INHERIT:inherited_to"] == "projects"
    reader = next(a for a in found if a["role"]["name"] == "reader")
    assert reader["links"]["prior_role"] == f"{base}/prior_role/{role}/implies/{cloud.role_id('reader')}"


def test_assignments_are_filtered(cloud: IdentityCloud) -> None:
    ids = tree(cloud)
    assert len(listed(cloud, f"user.id={ids['eve']}")) == 1
    [by_group] = listed(cloud, f"group.id={ids['group']}")
    assert by_group["group"] == {"id": ids["group"]} and by_group["scope"]["domain"] == {"id": ids["domain"]}
    assert listed(cloud, f"scope.domain.id={ids['domain']}&scope.OS-INHERIT:inherited_to=projects") == [by_group]
    assert {a["scope"]["system"]["all"] for a in listed(cloud, "scope.system=all")} == {True}
    assert [a["role"]["id"] for a in listed(cloud, f"scope.project.id={ids['top']}")] == [cloud.role_id("reader")]
    member = listed(cloud, f"role.id={cloud.role_id('member')}&effective")
    assert {a["scope"]["project"]["id"] for a in member if a["user"]["id"] == ids["eve"]} == {ids["top"], ids["leaf"]}
    below = listed(cloud, f"include_subtree=true&scope.project.id={ids['top']}&effective&user.id={ids['eve']}")
    assert {a["scope"]["project"]["id"] for a in below} == {ids["top"], ids["leaf"]}
    for wrong in ("user.id=a&group.id=b", "scope.domain.id=a&scope.project.id=b", "scope.system=all&scope.domain.id=b",
                  "effective&group.id=a", "include_subtree=true"):  # fmt: skip
        assert cloud("GET", f"/role_assignments?{wrong}").status == 400, wrong


def test_what_is_listed_as_effective_is_what_tokens_hold(cloud: IdentityCloud) -> None:
    ids = tree(cloud)
    for project in (ids["top"], ids["leaf"]):
        token = cloud.by_password("eve", "secret", {"project": {"id": project}}).json["token"]
        found = listed(cloud, f"effective&user.id={ids['eve']}&scope.project.id={project}")
        assert {r["id"] for r in token["roles"]} == {a["role"]["id"] for a in found}


def test_implied_roles(cloud: IdentityCloud) -> None:
    cook = cloud.make("/roles", "role", name="cook")
    cloud.person("eve", "cook")
    here = f"/roles/{cook['id']}/implies/{cloud.role_id('reader')}"
    assert cloud("HEAD", here).status == 404
    assert cloud("PUT", here).json["role_inference"]["implies"]["name"] == "reader"
    assert cloud("HEAD", here).status == 204 and cloud("GET", here).status == 200
    token = cloud.by_password("eve", "secret", {"project": {"name": "eve", "domain": {"id": "default"}}}).json["token"]
    assert {r["name"] for r in token["roles"]} == {"cook", "reader"}
    assert [r["name"] for r in cloud("GET", f"/roles/{cook['id']}/implies").json["role_inference"]["implies"]] == [
        "reader"
    ]
    rules = cloud("GET", "/role_inferences").json["role_inferences"]
    assert {r["prior_role"]["name"] for r in rules} == {"admin", "manager", "member", "cook"}
    assert cloud("PUT", f"/roles/{cook['id']}/implies/{cloud.role_id('admin')}").status == 403
    assert cloud("DELETE", here).status == 204 and cloud("DELETE", here).status == 404


def test_a_role_of_a_domain_stands_for_what_it_implies(cloud: IdentityCloud) -> None:
    domain = cloud.make("/domains", "domain", name="d")
    project = cloud.make("/projects", "project", name="p", domain_id=domain["id"])
    local = cloud.make("/roles", "role", name="local", domain_id=domain["id"])
    eve = cloud.make("/users", "user", name="eve", password="secret")
    assert local["id"] not in {r["id"] for r in cloud("GET", "/roles").json["roles"]}
    assert [r["id"] for r in cloud("GET", f"/roles?domain_id={domain['id']}").json["roles"]] == [local["id"]]
    cloud("PUT", f"/roles/{local['id']}/implies/{cloud.role_id('member')}")
    assert cloud("PUT", f"/projects/{project['id']}/users/{eve['id']}/roles/{local['id']}").status == 204
    token = cloud.by_password("eve", "secret", {"project": {"id": project["id"]}}).json["token"]
    assert {r["name"] for r in token["roles"]} == {"member", "reader"}
    other = cloud.make("/projects", "project", name="q")
    assert cloud("PUT", f"/projects/{other['id']}/users/{eve['id']}/roles/{local['id']}").status == 403
    assert cloud("PUT", f"/roles/{cloud.role_id('reader')}/implies/{local['id']}").status == 403


def test_roles_that_imply_each_other_end(cloud: IdentityCloud) -> None:
    one, two = (cloud.make("/roles", "role", name=name)["id"] for name in ("one", "two"))
    for prior, implied in ((one, two), (two, one)):
        assert cloud("PUT", f"/roles/{prior}/implies/{implied}").status == 201
    eve = cloud.person("eve", "one")
    assert {a["role"]["id"] for a in listed(cloud, f"effective&user.id={eve['id']}")} == {one, two}
