"""Unified limits: registered defaults and those of single projects."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from identity_cloud import QUICK, IdentityCloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


def test_limits_replace_registered_defaults(cloud: IdentityCloud) -> None:
    service = cloud("GET", "/services?type=compute").json["services"][0]["id"]
    eve = cloud.person("eve")
    of_service = {"service_id": service, "region_id": "RegionOne", "resource_name": "cores"}
    [default] = cloud("POST", "/registered_limits", {"registered_limits": [{**of_service, "default_limit": 10}]}).json[
        "registered_limits"
    ]
    assert default["default_limit"] == 10 and default["links"]["self"].endswith(default["id"])
    again = {"registered_limits": [{**of_service, "default_limit": 5}]}
    assert cloud("POST", "/registered_limits", again).status == 409
    body = {"limits": [{**of_service, "project_id": eve["project_id"], "resource_limit": 3}]}
    [limit] = cloud("POST", "/limits", body).json["limits"]
    assert limit["resource_limit"] == 3 and limit["resource_name"] == "cores" and limit["domain_id"] is None
    assert cloud("POST", "/limits", body).status == 409
    token = cloud.token("eve", "secret", project="eve")
    assert [x["id"] for x in cloud("GET", "/limits", token=token).json["limits"]] == [limit["id"]]
    assert cloud("GET", f"/limits/{limit['id']}", token=token).status == 200
    assert cloud("PATCH", f"/limits/{limit['id']}", {"limit": {"resource_limit": 4}}, token=token).status == 403
    assert (
        cloud("PATCH", f"/limits/{limit['id']}", {"limit": {"resource_limit": 4}}).json["limit"]["resource_limit"] == 4
    )
    assert [x["id"] for x in cloud("GET", f"/limits?service_id={service}&resource_name=cores").json["limits"]]
    assert cloud("GET", "/limits?resource_name=ram").json["limits"] == []
    here = f"/registered_limits/{default['id']}"
    assert cloud("DELETE", here).status == 403 and cloud("GET", here, token=token).status == 200
    assert cloud("PATCH", here, {"registered_limit": {"resource_name": "ram"}}).status == 403
    assert cloud("PATCH", here, {"registered_limit": {"default_limit": 20}}).status == 200
    assert cloud("DELETE", f"/limits/{limit['id']}").status == 204 and cloud("DELETE", here).status == 204
    assert cloud("GET", "/limits/model", token=token).json["model"]["name"] == "flat"


def test_limits_of_nothing_are_refused(cloud: IdentityCloud) -> None:
    service = cloud("GET", "/services?type=compute").json["services"][0]["id"]
    project = cloud.make("/projects", "project", name="p")["id"]
    good = {"service_id": service, "resource_name": "cores", "resource_limit": 1, "project_id": project}
    assert cloud("POST", "/limits", {"limits": [good]}).status == 403, "nothing is registered"
    cloud("POST", "/registered_limits", {"registered_limits": [{k: good[k] for k in ("service_id", "resource_name")}
                                                              | {"default_limit": 1}]})  # fmt: skip
    for wrong in ({"service_id": "x"}, {"region_id": "x"}, {"project_id": None}, {"domain_id": "default"},
                  {"project_id": "default"}, {"resource_limit": "1"}, {"resource_limit": 2**40},
                  {"unknown": 1}):  # fmt: skip
        assert cloud("POST", "/limits", {"limits": [{**good, **wrong}]}).status == 400, wrong
    assert cloud("POST", "/limits", {"limits": [good, {**good, "service_id": "x"}]}).status == 400
    assert cloud("GET", "/limits").json["limits"] == [], "all or none"


def test_limits_of_others_are_not_shown(cloud: IdentityCloud) -> None:
    service = cloud("GET", "/services?type=compute").json["services"][0]["id"]
    of_service = {"service_id": service, "resource_name": "cores"}
    cloud("POST", "/registered_limits", {"registered_limits": [{**of_service, "default_limit": 1}]})
    project = cloud.make("/projects", "project", name="p")["id"]
    body = {"limits": [{**of_service, "project_id": project, "resource_limit": 1}]}
    [limit] = cloud("POST", "/limits", body).json["limits"]
    cloud.person("eve")
    for token in (cloud.token("eve", "secret", project="eve"), cloud.token("eve", "secret")):
        assert cloud("GET", "/limits", token=token).json["limits"] == []
        foreign = cloud("GET", f"/limits/{limit['id']}", token=token)
        assert foreign.status == 403 and foreign.raw == cloud("GET", f"/limits/{'0' * 32}", token=token).raw


class Strict:
    """A cloud with strict-two-level limits: domain d with two projects, "cores" registered with 10."""

    def __init__(self, folder: Path):
        rules = structs.replace(QUICK, enforcement_model="strict_two_level")
        self.cloud = IdentityCloud(folder, rules)
        service = self.cloud("GET", "/services?type=compute").json["services"][0]["id"]
        self.of_service = {"service_id": service, "resource_name": "cores"}
        body = {"registered_limits": [{**self.of_service, "default_limit": 10}]}
        self.cloud("POST", "/registered_limits", body)
        self.domain = self.cloud.make("/domains", "domain", name="d")["id"]
        self.one, self.two = (
            self.cloud.make("/projects", "project", name=n, domain_id=self.domain)["id"] for n in "pq"
        )

    def limit(self, number: int, project: str = "") -> dict[str, object]:
        place = {"project_id": project} if project else {"domain_id": self.domain}
        return {**self.of_service, **place, "resource_limit": number}

    def create(self, *limits: dict[str, object]) -> int:
        return self.cloud("POST", "/limits", {"limits": list(limits)}).status

    def update(self, number: int, project: str = "") -> int:
        place = f"project_id={project}" if project else f"domain_id={self.domain}"
        [limit] = self.cloud("GET", f"/limits?{place}").json["limits"]
        return self.cloud("PATCH", f"/limits/{limit['id']}", {"limit": {"resource_limit": number}}).status


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Strict]:
    made = Strict(tmp_path)
    yield made
    made.cloud.close()


def test_the_model_is_told(strict: Strict, cloud: IdentityCloud) -> None:
    assert strict.cloud("GET", "/limits/model").json["model"]["name"] == "strict_two_level"
    answer = cloud("GET", "/limits/model").json
    assert answer["model"]["name"] == "flat" and answer["model"]["description"]
    assert answer["links"]["self"].endswith("/v3/limits/model")


def test_a_projects_limit_is_never_above_its_domains(strict: Strict) -> None:
    refused = strict.cloud("POST", "/limits", {"limits": [strict.limit(11, strict.one)]})
    assert refused.status == 403 and "resource_limit" in refused.json["error"]["message"], (
        "the registered default is 10"
    )
    assert strict.create(strict.limit(10, strict.one)) == 201
    assert strict.create(strict.limit(-1, strict.two)) == 403, "no limit is more than 10"
    assert strict.create(strict.limit(20)) == 201
    assert strict.update(20, strict.one) == 200 and strict.update(21, strict.one) == 403
    assert strict.create(strict.limit(15, strict.two)) == 201, "both together may be more than the domain's"
    assert strict.update(19) == 403, "a domain's limit is not below that of one of its projects"
    assert strict.update(-1) == 200 and strict.update(-1, strict.one) == 200
    assert strict.update(100) == 403 and strict.update(5, strict.one) == 200 and strict.update(15) == 200
    assert strict.create(strict.limit(15, strict.two)) == 409


def test_limits_that_are_made_together_are_judged_together(strict: Strict) -> None:
    assert strict.create(strict.limit(30, strict.one), strict.limit(20)) == 403
    assert strict.cloud("GET", "/limits").json["limits"] == [], "all or none"
    assert strict.create(strict.limit(15, strict.one), strict.limit(20), strict.limit(20, strict.two)) == 201


def test_no_project_stands_below_a_project(strict: Strict, cloud: IdentityCloud) -> None:
    deeper = {"name": "x", "domain_id": strict.domain, "parent_id": strict.one}
    refused = strict.cloud("POST", "/projects", {"project": deeper})
    assert refused.status == 403 and "strict_two_level" in refused.json["error"]["message"]
    fine = {"name": "x", "domain_id": strict.domain, "parent_id": strict.domain}
    assert strict.cloud("POST", "/projects", {"project": fine}).status == 201
    above = cloud.make("/projects", "project", name="p")["id"]
    cloud.make("/projects", "project", name="q", parent_id=above)  # as the flat model allows


def test_other_domains_and_resources_do_not_count(strict: Strict) -> None:
    other = strict.cloud.make("/domains", "domain", name="e")["id"]
    place = {**strict.of_service, "domain_id": other, "resource_limit": 1}
    assert strict.create(strict.limit(10, strict.one)) == 201 and strict.create(place) == 201
    body = {"registered_limits": [{**strict.of_service, "resource_name": "ram", "default_limit": 1}]}
    assert strict.cloud("POST", "/registered_limits", body).status == 201
    assert strict.create({**strict.limit(2, strict.one), "resource_name": "ram"}) == 403
    assert strict.create({**strict.limit(1, strict.one), "resource_name": "ram"}) == 201


def test_a_resource_is_registered_once_for_each_service_and_region(cloud: IdentityCloud) -> None:
    compute, image = (cloud("GET", f"/services?type={t}").json["services"][0]["id"] for t in ("compute", "image"))
    cloud.make("/regions", "region", id="north")
    places = [{"service_id": s, "region_id": r} for s in (compute, image) for r in ("RegionOne", "north", None)]
    bodies = [{**place, "resource_name": "cores", "default_limit": 1} for place in places]
    made = cloud("POST", "/registered_limits", {"registered_limits": bodies})
    assert made.status == 201 and len(made.json["registered_limits"]) == 6
    for body in bodies:
        assert cloud("POST", "/registered_limits", {"registered_limits": [body]}).status == 409
    fresh = {**bodies[0], "resource_name": "ram"}
    assert cloud("POST", "/registered_limits", {"registered_limits": [fresh, fresh]}).status == 409
    assert len(cloud("GET", "/registered_limits?resource_name=ram").json["registered_limits"]) == 0, "all or none"
    first = made.json["registered_limits"][0]["id"]
    taken = {"registered_limit": {"region_id": "north"}}
    assert cloud("PATCH", f"/registered_limits/{first}", taken).status == 409
    assert cloud("DELETE", "/regions/north").status == 409, "limits hold it"
    found = cloud("GET", f"/registered_limits?service_id={image}&region_id=north").json["registered_limits"]
    assert [(x["service_id"], x["region_id"]) for x in found] == [(image, "north")]
