"""Quotas of projects, users and classes; limits; usage over time."""

import time
from pathlib import Path
from typing import Any

import pytest
from compute_client import Compute

from direct import DEMO
from pileus.compute.quota import COMPUTE_QUOTA
from pileus.compute.usage import EndedServer, end
from pileus.core.clock import iso_micro
from pileus.core.errors import OverQuota

MINE = f"/os-quota-sets/{DEMO.project_id}"
ALWAYS = {"instances", "cores", "ram", "metadata_items", "key_pairs", "server_groups", "server_group_members"}
FILES = {"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"}
NETWORK = {"fixed_ips", "floating_ips", "security_groups", "security_group_rules"}


@pytest.fixture
def api(tmp_path: Path) -> Compute:
    return Compute(tmp_path)


@pytest.mark.parametrize(
    ("version", "keys"),
    [("2.1", ALWAYS | FILES | NETWORK), ("2.35", ALWAYS | FILES | NETWORK), ("2.36", ALWAYS | FILES),
     ("2.56", ALWAYS | FILES), ("2.57", ALWAYS), ("2.104", ALWAYS)],
)  # fmt: skip
def test_a_quota_has_the_resources_of_its_version(api: Compute, version: str, keys: set[str]) -> None:
    assert set(api("GET", MINE, at=version, caller="demo").json["quota_set"]) == keys | {"id"}
    assert set(api("GET", f"{MINE}/defaults", at=version, caller="demo").json["quota_set"]) == keys | {"id"}
    detail = api("GET", f"{MINE}/detail", at=version, caller="demo").json["quota_set"]
    assert set(detail) == keys | {"id"} and set(detail["cores"]) == {"limit", "in_use", "reserved"}
    changed = api("PUT", MINE, {"quota_set": {"cores": 7}}, at=version).json["quota_set"]
    assert set(changed) == keys and changed["cores"] == 7
    for name in (FILES | NETWORK) - keys:
        assert api("PUT", MINE, {"quota_set": {name: 7}}, at=version).status == 400


def test_usage_is_counted_and_limits_stay_above_it_unless_forced(api: Compute) -> None:
    api.server(node_id=None)
    api.server(node_id=None, deleted=True)
    detail = api("GET", f"{MINE}/detail", caller="demo").json["quota_set"]
    assert detail["cores"] == {"limit": 20, "in_use": 2, "reserved": 0}
    assert detail["instances"]["in_use"] == 1 and detail["ram"]["in_use"] == 1024
    assert api("PUT", MINE, {"quota_set": {"cores": 1}}).status == 400
    assert api("PUT", MINE, {"quota_set": {"cores": "1", "force": "True"}}).json["quota_set"]["cores"] == 1
    assert api("PUT", MINE, {"quota_set": {"cores": -1}}).json["quota_set"]["cores"] == -1
    assert api("DELETE", MINE).status == 202
    assert api("GET", MINE).json["quota_set"]["cores"] == 20


@pytest.mark.parametrize("value", [-2, "x", 2**31, "99999999999", 1.5, None, True, "", "-"])
def test_bad_limits_are_refused(api: Compute, value: Any) -> None:
    assert api("PUT", MINE, {"quota_set": {"cores": value}}).status == 400
    assert api("PUT", "/os-quota-class-sets/default", {"quota_class_set": {"cores": value}}).status == 400
    assert api("PUT", MINE, {"quota_set": {"wings": 2}}).status == 400
    assert api("PUT", MINE, {}).status == 400


def test_quotas_are_of_projects_that_exist_and_seen_by_their_members(api: Compute) -> None:
    assert api("GET", "/os-quota-sets/nobody").status == 400
    assert api("PUT", "/os-quota-sets/nobody", {"quota_set": {"cores": 1}}).status == 400
    assert api("GET", MINE, caller="other").status == 403 and api("GET", f"{MINE}/detail", caller="other").status == 403
    assert api("GET", MINE, caller="reader").status == 200
    assert api("PUT", MINE, {"quota_set": {"cores": 1}}, caller="demo").status == 403
    assert api("DELETE", MINE, caller="demo").status == 403
    assert api("GET", f"{MINE}?foo=1", at="2.75").status == 400


def test_a_user_may_have_less_than_the_project(api: Compute) -> None:
    mine = f"{MINE}?user_id={DEMO.user_id}"
    assert api("PUT", mine, {"quota_set": {"ram": "2048", "cores": 2}}).json["quota_set"]["ram"] == 2048
    assert api("GET", mine).json["quota_set"]["ram"] == 2048
    assert api("GET", MINE).json["quota_set"]["ram"] == 51200
    assert api("PUT", mine, {"quota_set": {"cores": 21}}).status == 400
    api.server(node_id=None)
    assert api("GET", f"{MINE}/detail?user_id={DEMO.user_id}").json["quota_set"]["cores"]["in_use"] == 2
    assert api("GET", f"{MINE}/detail?user_id=x").json["quota_set"]["cores"]["in_use"] == 0
    db, project = api.direct.db, DEMO.project_id or ""
    with pytest.raises(OverQuota, match="of this user"):
        db.transact(lambda tx: COMPUTE_QUOTA.take_as(tx, project, DEMO.user_id, instances=1, cores=1, ram=1))
    db.transact(lambda tx: COMPUTE_QUOTA.take_as(tx, project, "another", instances=1, cores=1, ram=1))
    with pytest.raises(OverQuota, match="Requested 19, but already used 2 of 20 cores"):
        db.transact(lambda tx: COMPUTE_QUOTA.take_as(tx, project, "another", cores=19))
    assert api("DELETE", mine).status == 202
    assert api("GET", mine).json["quota_set"]["ram"] == 51200
    api("PUT", mine, {"quota_set": {"ram": 2048}})
    api("DELETE", MINE)
    assert api("GET", mine).json["quota_set"]["ram"] == 51200


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        ("2.1", ALWAYS - {"server_groups", "server_group_members"} | FILES | NETWORK),
        ("2.50", ALWAYS | FILES),
        ("2.57", ALWAYS),
    ],
)
def test_classes_have_the_resources_of_their_version(api: Compute, version: str, keys: set[str]) -> None:
    here = "/os-quota-class-sets/default"
    assert set(api("GET", here, at=version).json["quota_class_set"]) == keys | {"id"}
    changed = api("PUT", here, {"quota_class_set": {"cores": 99}}, at=version).json["quota_class_set"]
    assert set(changed) == keys and changed["cores"] == 99
    assert api("GET", f"{MINE}/defaults").json["quota_set"]["cores"] == 99
    other = "/os-quota-class-sets/gold"
    api("PUT", other, {"quota_class_set": {"cores": 5}}, at=version)
    assert api("GET", other, at=version).json["quota_class_set"]["cores"] == 5
    assert api("GET", MINE).json["quota_set"]["cores"] == 99
    assert api("GET", here, caller="demo").status == 403
    assert api("PUT", f"/os-quota-class-sets/{'x' * 256}", {"quota_class_set": {}}).status == 400


@pytest.mark.parametrize(
    ("version", "gone"),
    [
        ("2.1", set()),
        ("2.36", {"maxSecurityGroups", "maxSecurityGroupRules", "maxTotalFloatingIps", "totalFloatingIpsUsed",
                  "totalSecurityGroupsUsed"}),
        ("2.39", {"maxImageMeta"}),
        ("2.57", {"maxPersonality", "maxPersonalitySize"}),
    ],
)  # fmt: skip
def test_limits_lose_what_their_version_took_away(api: Compute, version: str, gone: set[str]) -> None:
    assert set(api("GET", "/limits", caller="demo").json["limits"]) == {"rate", "absolute"}
    before = f"2.{max(int(version[2:]) - 1, 1)}"
    old = set(api("GET", "/limits", at=before, caller="demo").json["limits"]["absolute"])
    new = set(api("GET", "/limits", at=version, caller="demo").json["limits"]["absolute"])
    assert old - new == gone and not new - old


def test_limits_count_what_the_project_has(api: Compute) -> None:
    api.server(node_id=None)
    mine = api("GET", "/limits", caller="reader").json["limits"]["absolute"]
    assert (mine["totalCoresUsed"], mine["maxTotalCores"], mine["totalInstancesUsed"]) == (2, 20, 1)
    assert api("GET", "/limits", caller="other").json["limits"]["absolute"]["totalCoresUsed"] == 0
    other = f"/limits?tenant_id={DEMO.project_id}"
    assert api("GET", other).json["limits"]["absolute"]["totalCoresUsed"] == 2
    assert api("GET", other, caller="other").status == 403
    assert api("GET", "/limits?foo=1", at="2.75", caller="demo").status == 400


def period(**more: str) -> str:
    now = time.time()
    times = {"start": str(iso_micro(now - 7200)), "end": str(iso_micro(now + 7200)), **more}
    return "&".join(f"{name}={value}" for name, value in times.items())


def test_usage_counts_hours_of_servers_that_live_and_of_those_that_are_gone(api: Compute) -> None:
    alive = api.server(node_id=None, name="web")
    now = time.time()
    gone = EndedServer(
        id="ended", project_id=DEMO.project_id or "", name="old", flavor="m1.big", vcpus=4, ram_mib=100, disk_gib=7,
        started_at=now - 9000, ended_at=now - 5400,
    )  # fmt: skip
    for _ in range(2):
        api.direct.db.transact(lambda tx: end(tx, gone))
    usage = api("GET", f"/os-simple-tenant-usage/{DEMO.project_id}?{period()}", caller="reader").json["tenant_usage"]
    assert set(usage) == {
        "tenant_id", "start", "stop", "total_hours", "total_local_gb_usage", "total_memory_mb_usage",
        "total_vcpus_usage", "server_usages",
    }  # fmt: skip
    assert usage["total_hours"] == pytest.approx(1.5, abs=0.01)
    assert usage["total_vcpus_usage"] == pytest.approx(2 * 1 + 4 * 0.5, abs=0.05)
    first, second = usage["server_usages"]
    assert (first["instance_id"], first["state"], first["flavor"]) == ("ended", "terminated", "m1.big")
    assert (second["instance_id"], second["ended_at"], second["name"]) == (alive, None, "web")
    assert set(second) == {
        "instance_id", "name", "tenant_id", "flavor", "memory_mb", "local_gb", "vcpus", "hours", "started_at",
        "ended_at", "uptime", "state",
    }  # fmt: skip
    [brief] = api("GET", f"/os-simple-tenant-usage?{period()}").json["tenant_usages"]
    assert "server_usages" not in brief
    [detailed] = api("GET", f"/os-simple-tenant-usage?{period(detailed='1')}").json["tenant_usages"]
    assert len(detailed["server_usages"]) == 2


def test_usage_is_paged_from_2_40_on_and_refuses_bad_times(api: Compute) -> None:
    for _ in range(3):
        api.server(node_id=None)
    here = f"/os-simple-tenant-usage/{DEMO.project_id}"
    page = api("GET", f"{here}?{period(limit='2')}", at="2.40", caller="demo").json
    assert len(page["tenant_usage"]["server_usages"]) == 2
    following = page["tenant_usage_links"][0]["href"].partition("/v2.1")[2]
    assert len(api("GET", following, at="2.40", caller="demo").json["tenant_usage"]["server_usages"]) == 1
    assert len(api("GET", f"{here}?{period(limit='2')}", caller="demo").json["tenant_usage"]["server_usages"]) == 3
    assert "tenant_usages_links" in api("GET", f"/os-simple-tenant-usage?{period(limit='1')}", at="2.40").json
    for bad in ("start=x", f"start={iso_micro(time.time() + 9)}", "start=2020-13-01T00:00:00", "start=9999-99-99"):
        assert api("GET", f"{here}?{bad}", caller="demo").status == 400, bad
    assert len(api("GET", here, caller="demo").json["tenant_usage"]["server_usages"]) == 3
    assert api("GET", f"{here}?{period(marker='nope')}", at="2.40", caller="demo").status == 400
    assert api("GET", f"{here}?{period(foo='1')}", at="2.75", caller="demo").status == 400
    assert api("GET", f"{here}?{period()}", caller="other").status == 403
    assert api("GET", f"/os-simple-tenant-usage?{period()}", caller="demo").status == 403
    assert api("GET", f"/os-simple-tenant-usage/{'0' * 32}?{period()}").json == {"tenant_usage": {}}
