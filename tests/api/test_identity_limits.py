"""Unified limits: registered defaults and those of single projects."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from identity_cloud import IdentityCloud


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
