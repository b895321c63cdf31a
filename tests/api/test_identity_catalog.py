"""Policies and their associations, groups and filters of endpoints, configuration of domains."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from identity_cloud import QUICK, IdentityCloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


class Paint:
    """A service with a public endpoint in a region below another."""

    def __init__(self, cloud: IdentityCloud):
        self.cloud = cloud
        cloud.make("/regions", "region", id="world")
        cloud.make("/regions", "region", id="town", parent_region_id="world")
        self.service = cloud.make("/services", "service", type="painting", name="paint")["id"]
        self.endpoint = self.made("public")

    def made(self, interface: str) -> str:
        place = {"service_id": self.service, "region_id": "town", "interface": interface, "url": "http://paint"}
        return str(self.cloud.make("/endpoints", "endpoint", **place)["id"])


@pytest.fixture
def paint(cloud: IdentityCloud) -> Paint:
    return Paint(cloud)


def test_policies_are_kept(cloud: IdentityCloud) -> None:
    made = cloud.make("/policies", "policy", type="application/json", blob="{}", note="x")
    here = f"/policies/{made['id']}"
    assert cloud("GET", here).json["policy"] == made and made["note"] == "x" and made["links"]["self"].endswith(here)
    assert [p["id"] for p in cloud("GET", "/policies?type=application/json").json["policies"]] == [made["id"]]
    assert cloud("PATCH", here, {"policy": {"blob": "b"}}).json["policy"]["blob"] == "b"
    assert cloud("POST", "/policies", {"policy": {"type": "x"}}).status == 400
    cloud.person("eve")
    token = cloud.token("eve", "secret", project="eve")
    for method in ("GET", "DELETE"):
        foreign = cloud(method, here, token=token)
        assert foreign.status == 403 and foreign.raw == cloud(method, f"/policies/{'0' * 32}", token=token).raw
    assert cloud("POST", "/policies", {"policy": {"type": "x", "blob": "y"}}, token=token).status == 403
    assert cloud("DELETE", here).status == 204 and cloud("GET", here).status == 404


def test_the_nearest_policy_of_an_endpoint_counts(cloud: IdentityCloud, paint: Paint) -> None:
    def policy(path: str) -> str:
        made = cloud.make("/policies", "policy", type="x", blob=path)["id"]
        where = f"/policies/{made}/OS-ENDPOINT-POLICY{path}"
        assert cloud("GET", where).status == 404 and cloud("DELETE", where).status == 404
        assert cloud("PUT", where).status == 204 and cloud("GET", where).status == 204
        return str(made)

    def current() -> Any:
        answer = cloud("GET", f"/endpoints/{paint.endpoint}/OS-ENDPOINT-POLICY/policy")
        return answer.json["policy"]["id"] if answer.status == 200 else answer.status

    assert current() == 404
    made = []
    for path in (f"/services/{paint.service}", f"/services/{paint.service}/regions/world",
                 f"/services/{paint.service}/regions/town", f"/endpoints/{paint.endpoint}"):  # fmt: skip
        made.append((policy(path), path))
        assert current() == made[-1][0]
    found = cloud("GET", f"/policies/{made[-1][0]}/OS-ENDPOINT-POLICY/endpoints").json["endpoints"]
    assert [e["id"] for e in found] == [paint.endpoint]
    another = policy(f"/endpoints/{paint.endpoint}")
    assert current() == another
    cloud("DELETE", f"/policies/{another}")
    assert current() == made[2][0]
    assert cloud("DELETE", f"/policies/{made[2][0]}/OS-ENDPOINT-POLICY{made[2][1]}").status == 204
    assert current() == made[1][0]
    for missing in ("/endpoints/x", "/services/x", f"/services/{paint.service}/regions/x"):
        assert cloud("PUT", f"/policies/{made[0][0]}/OS-ENDPOINT-POLICY{missing}").status == 404
    assert cloud("PUT", f"/policies/x/OS-ENDPOINT-POLICY/endpoints/{paint.endpoint}").status == 404


def catalog(cloud: IdentityCloud, token: str) -> set[str]:
    services = cloud("GET", "/auth/catalog", token=token).json["catalog"]
    return {endpoint["id"] for service in services for endpoint in service["endpoints"]}


def test_a_project_sees_the_endpoints_given_to_it_or_all_when_none_was(cloud: IdentityCloud, paint: Paint) -> None:
    eve = cloud.person("eve")
    token, other = cloud.token("eve", "secret", project="eve"), cloud.admin
    everything = catalog(cloud, token)
    here = f"/OS-EP-FILTER/projects/{eve['project_id']}/endpoints"
    assert cloud("GET", f"{here}/{paint.endpoint}").status == 404
    for _ in range(2):
        assert cloud("PUT", f"{here}/{paint.endpoint}").status == 204
    assert cloud("GET", f"{here}/{paint.endpoint}").status == 204 and catalog(cloud, token) == {paint.endpoint}
    assert catalog(cloud, other) == everything
    listed = cloud("GET", f"/OS-EP-FILTER/endpoints/{paint.endpoint}/projects").json["projects"]
    assert [p["id"] for p in listed] == [eve["project_id"]]
    internal = paint.made("internal")
    filters = {"service_id": paint.service, "interface": "internal"}
    group = cloud.make("/OS-EP-FILTER/endpoint_groups", "endpoint_group", name="inside", filters=filters)
    there = f"/OS-EP-FILTER/endpoint_groups/{group['id']}"
    assert cloud("PUT", f"{there}/projects/{eve['project_id']}").status == 204
    assert cloud("PUT", f"{there}/projects/{eve['project_id']}").status == 204
    assert cloud("GET", f"{there}/projects/{eve['project_id']}").json["endpoint_group"]["id"] == group["id"]
    assert catalog(cloud, token) == {paint.endpoint, internal}
    assert {e["id"] for e in cloud("GET", here).json["endpoints"]} == {paint.endpoint, internal}
    assert [e["id"] for e in cloud("GET", f"{there}/endpoints").json["endpoints"]] == [internal]
    assert [p["id"] for p in cloud("GET", f"{there}/projects").json["projects"]] == [eve["project_id"]]
    groups = cloud("GET", f"/OS-EP-FILTER/projects/{eve['project_id']}/endpoint_groups").json["endpoint_groups"]
    assert [g["id"] for g in groups] == [group["id"]]
    assert cloud("DELETE", f"{here}/{paint.endpoint}").status == 204 and catalog(cloud, token) == {internal}
    assert cloud("DELETE", f"{there}/projects/{eve['project_id']}").status == 204
    assert catalog(cloud, token) == everything | {internal}
    for method in ("GET", "DELETE"):
        assert cloud(method, f"{here}/{paint.endpoint}").status == 404
        assert cloud(method, f"{there}/projects/{eve['project_id']}").status == 404
    assert cloud("PUT", f"{here}/{paint.endpoint}", token=token).status == 403
    assert cloud("PUT", f"{here}/nowhere").status == 404


def test_endpoint_groups_are_kept(cloud: IdentityCloud) -> None:
    here = "/OS-EP-FILTER/endpoint_groups"
    made = cloud.make(here, "endpoint_group", name="a", filters={"interface": "admin"}, description="d")
    there = f"{here}/{made['id']}"
    assert cloud("GET", there).json["endpoint_group"] == made and cloud("HEAD", there).status == 200
    assert cloud("GET", here).json["endpoint_groups"] == [made]
    changed = cloud("PATCH", there, {"endpoint_group": {"name": "b", "filters": {"region_id": "RegionOne"}}})
    assert changed.json["endpoint_group"]["filters"] == {"region_id": "RegionOne"}
    for wrong in ({}, {"interface": "x"}, {"url": "x"}):
        assert cloud("POST", here, {"endpoint_group": {"name": "x", "filters": wrong}}).status == 400
        assert cloud("PATCH", there, {"endpoint_group": {"filters": wrong}}).status == 400
    assert cloud("DELETE", there).status == 204 and cloud("GET", there).status == 404


CONFIG: Any = {"identity": {"driver": "ldap"}, "ldap": {"url": "ldap://there", "user_tree_dn": "ou=Users"}}


def test_the_configuration_of_a_domain_is_shown_in_whole_and_in_parts(cloud: IdentityCloud) -> None:
    domain = cloud.make("/domains", "domain", name="far")["id"]
    here = f"/domains/{domain}/config"
    assert cloud("GET", here).status == 404 and cloud("PATCH", here, {"config": CONFIG}).status == 404
    assert cloud("PUT", here, {"config": CONFIG}).status == 201
    assert cloud("PUT", here, {"config": CONFIG}).json["config"] == CONFIG
    assert cloud("GET", here).json["config"] == CONFIG
    assert cloud("GET", f"{here}/ldap").json["config"] == {"ldap": CONFIG["ldap"]}
    assert cloud("GET", f"{here}/ldap/url").json["config"] == {"url": "ldap://there"}
    changed = cloud("PATCH", f"{here}/ldap/url", {"config": {"url": "ldap://here"}})
    assert changed.json["config"]["ldap"] == {"url": "ldap://here", "user_tree_dn": "ou=Users"}
    cloud("PATCH", f"{here}/ldap", {"config": {"ldap": {"password": "hidden", "user": "cn=reader"}}})
    assert cloud("GET", f"{here}/ldap/user").status == 200 and cloud("GET", f"{here}/ldap/password").status == 404
    assert "hidden" not in repr(cloud.db.read(lambda tx: tx.all("select * from domain_options")))
    assert cloud("DELETE", f"{here}/ldap/url").status == 204 and cloud("GET", f"{here}/ldap/url").status == 404
    assert cloud("DELETE", f"{here}/ldap").status == 204 and cloud("GET", f"{here}/ldap").status == 404
    assert cloud("DELETE", here).status == 204 and cloud("DELETE", here).status == 404


def test_options_that_there_are_not_are_refused(cloud: IdentityCloud) -> None:
    domain = cloud.make("/domains", "domain", name="far")["id"]
    here = f"/domains/{domain}/config"
    cloud("PUT", here, {"config": CONFIG})
    for wrong in ({"x": {"a": 1}}, {"ldap": {"nonsense": 1}}, {"ldap": {}}, {"ldap": 5}, {}):
        assert cloud("PUT", here, {"config": wrong}).status == 403
    assert cloud("PUT", here, {"config": {"ldap": {"url": ["x"]}}}).status == 400
    assert cloud("PATCH", f"{here}/ldap", {"config": {"identity": {"driver": "sql"}}}).status == 403
    assert cloud("PATCH", f"{here}/ldap/url", {"config": {"user": "x"}}).status == 403
    assert cloud("GET", f"{here}/x").status == 403 and cloud("GET", f"{here}/ldap/x").status == 403
    assert cloud("GET", f"/domains/{'0' * 32}/config").status == 404
    cloud.person("eve")
    assert cloud("GET", here, token=cloud.token("eve", "secret", project="eve")).status == 403
    assert cloud("GET", here).json["config"] == CONFIG


def test_everybody_is_told_what_passwords_must_look_like(cloud: IdentityCloud, tmp_path: Path) -> None:
    strict = IdentityCloud(tmp_path / "strict", structs.replace(QUICK, pattern=".{4,}", pattern_meaning="four signs"))
    strict.person("eve")
    token = strict.token("eve", "secret")
    here = "/domains/default/config/security_compliance"
    told = {"password_regex": ".{4,}", "password_regex_description": "four signs"}
    assert strict("GET", here, token=token).json == {"config": {"security_compliance": told}}
    for option, value in told.items():
        assert strict("GET", f"{here}/{option}", token=token).json == {"config": {option: value}}
    assert strict("GET", f"{here}/lockout_duration", token=token).status == 403
    assert strict("GET", here.replace("default", "0" * 32), token=token).status == 403
    assert strict("GET", here, token="").status == 401
    assert cloud("GET", here).json["config"]["security_compliance"]["password_regex"] is None
    strict.close()


def test_the_defaults_are_shown(cloud: IdentityCloud) -> None:
    config = cloud("GET", "/domains/config/default").json["config"]
    assert config["identity"]["driver"] == "sql" and "password" not in config["ldap"]
    assert cloud("GET", "/domains/config/ldap/default").json["config"] == {"ldap": config["ldap"]}
    for option, value in config["ldap"].items():
        assert cloud("GET", f"/domains/config/ldap/{option}/default").json["config"] == {option: value}
    assert cloud("GET", "/domains/config/ldap/password/default").status == 404
    assert cloud("GET", "/domains/config/x/default").status == 403
