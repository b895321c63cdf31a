"""What administrators see of hosts: aggregates, zones, services, hypervisors, hosts of old."""

import time
from pathlib import Path
from typing import Any

import pytest
from compute_client import HOST1, HOST2, Compute

from pileus.core.nodes import NODES
from pileus.placement.rows import PROVIDERS

NONE = "99999999-1111-4222-8333-444444444444"


@pytest.fixture
def api(tmp_path: Path) -> Compute:
    api = Compute(tmp_path)
    api.host(HOST1, "host-1")
    api.host(HOST2, "host-2")
    return api


def aggregate(api: Compute, name: str = "a", zone: str | None = None) -> str:
    inner = {"name": name} if zone is None else {"name": name, "availability_zone": zone}
    answer = api("POST", "/os-aggregates", {"aggregate": inner})
    assert answer.status == 200, answer
    return f"/os-aggregates/{answer.json['aggregate']['id']}"


def act(api: Compute, path: str, **action: Any) -> Any:
    return api("POST", f"{path}/action", action)


def test_an_aggregate_lives_and_ends(api: Compute) -> None:
    made = api("POST", "/os-aggregates", {"aggregate": {"name": "fast", "availability_zone": "z1"}}).json["aggregate"]
    brief = {"id", "name", "availability_zone", "created_at", "updated_at", "deleted", "deleted_at"}
    assert set(made) == brief and made["availability_zone"] == "z1"
    here = f"/os-aggregates/{made['id']}"
    assert set(api("GET", here).json["aggregate"]) == brief | {"hosts", "metadata"}
    assert set(api("GET", "/os-aggregates", at="2.41").json["aggregates"][0]) == brief | {"hosts", "metadata", "uuid"}
    changed = api("PUT", here, {"aggregate": {"name": "faster"}}).json["aggregate"]
    assert changed["name"] == "faster" and changed["updated_at"]
    metadata = act(api, here, set_metadata={"metadata": {"ssd": "true", "x": "y"}}).json["aggregate"]["metadata"]
    assert metadata == {"availability_zone": "z1", "ssd": "true", "x": "y"}
    metadata = act(api, here, set_metadata={"metadata": {"x": None}}).json["aggregate"]["metadata"]
    assert metadata == {"availability_zone": "z1", "ssd": "true"}
    assert act(api, here, set_metadata={"metadata": {"availability_zone": None}}).status == 400
    assert api("DELETE", here).status == 200
    assert [api("GET", f"/os-aggregates/{bad}").status for bad in (made["id"], "-1", "x")] == [404, 404, 400]


@pytest.mark.parametrize(
    "body",
    [{}, {"aggregate": {}}, {"aggregate": {"name": ""}}, {"aggregate": {"name": "x" * 256}}, {"aggregate": {"name": 1}},
     {"aggregate": {"name": "a", "availability_zone": "a:b"}}, {"aggregate": {"name": "a", "availability_zone": ""}},
     {"aggregate": {"name": "a", "x": 1}}],
)  # fmt: skip
def test_bad_aggregates_are_refused(api: Compute, body: Any) -> None:
    assert api("POST", "/os-aggregates", body).status == 400
    assert api("PUT", aggregate(api), {"aggregate": {}}).status == 400


def test_hosts_come_and_go_and_bring_their_zone(api: Compute) -> None:
    here, other = aggregate(api, "a", "z1"), aggregate(api, "b", "z2")
    assert api("POST", "/os-aggregates", {"aggregate": {"name": "a"}}).status == 409
    assert act(api, here, add_host={"host": "host-1"}).json["aggregate"]["hosts"] == ["host-1"]
    uuid = api("GET", here, at="2.41").json["aggregate"]["uuid"]
    provider = api.direct.db.read(lambda tx: PROVIDERS.get(tx, id=HOST1))
    assert provider is not None and provider.aggregates == [uuid]
    assert act(api, here, add_host={"host": "host-1"}).status == 409
    assert act(api, other, add_host={"host": "host-1"}).status == 409
    assert act(api, here, add_host={"host": "nobody"}).status == 404
    assert act(api, here, add_host={"host": "no body"}).status == 400
    zones = api("GET", "/os-availability-zone", caller="demo").json["availabilityZoneInfo"]
    assert zones == [
        {"zoneName": "nova", "zoneState": {"available": True}, "hosts": None},
        {"zoneName": "z1", "zoneState": {"available": True}, "hosts": None},
    ]
    assert api("DELETE", here).status == 400
    assert act(api, here, remove_host={"host": "host-2"}).status == 404
    assert act(api, here, remove_host={"host": "host-1"}).json["aggregate"]["hosts"] == []
    provider = api.direct.db.read(lambda tx: PROVIDERS.get(tx, id=HOST1))
    assert provider is not None and provider.aggregates == []
    assert api("DELETE", here).status == 200


def test_a_server_does_not_change_its_zone_under_its_owner(api: Compute) -> None:
    here = aggregate(api, "a", "z1")
    api.server(node_id=HOST1)
    assert act(api, here, add_host={"host": "host-1"}).status == 409
    assert act(api, here, add_host={"host": "host-2"}).status == 200
    api.server(node_id=HOST2)
    assert act(api, here, remove_host={"host": "host-2"}).status == 409
    assert act(api, here, set_metadata={"metadata": {"availability_zone": "z9"}}).status == 400
    assert api("PUT", here, {"aggregate": {"availability_zone": "z9"}}).status == 400
    assert act(api, here, set_metadata={"metadata": {"ssd": "true"}}).status == 200
    zoneless = aggregate(api, "b")
    assert act(api, zoneless, add_host={"host": "host-2"}).status == 200
    assert act(api, zoneless, remove_host={"host": "host-2"}).status == 200


def test_zones_with_hosts_are_for_administrators(api: Compute) -> None:
    assert api("GET", "/os-availability-zone/detail", caller="demo").status == 403
    [zone] = api("GET", "/os-availability-zone/detail").json["availabilityZoneInfo"]
    assert zone["zoneName"] == "nova" and set(zone["hosts"]) == {"host-1", "host-2"}
    assert set(zone["hosts"]["host-1"]["nova-compute"]) == {"available", "active", "updated_at"}
    api.direct.db.transact(lambda tx: NODES.update(tx, {"seen_at": time.time() - 600}))
    assert api("GET", "/os-availability-zone").json["availabilityZoneInfo"][0]["zoneState"] == {"available": False}


def service(api: Compute, at: str, host: str = "host-1") -> dict[str, Any]:
    [found] = api("GET", f"/os-services?host={host}&binary=nova-compute", at=at).json["services"]
    return dict(found)


def test_a_service_has_the_fields_of_its_version(api: Compute) -> None:
    first = {"id", "binary", "host", "zone", "status", "state", "updated_at", "disabled_reason"}
    assert set(service(api, "2.1")) == first and isinstance(service(api, "2.1")["id"], int)
    assert set(service(api, "2.11")) == first | {"forced_down"}
    assert service(api, "2.53")["id"] == HOST1
    assert {s["binary"] for s in api("GET", "/os-services").json["services"]} == {
        "nova-compute", "nova-scheduler", "nova-conductor"
    }  # fmt: skip
    assert api("GET", "/os-services?host=xxx").json == {"services": []}
    assert api("GET", "/os-services", caller="demo").status == 403


def test_services_are_disabled_by_name_until_2_52(api: Compute) -> None:
    me = {"host": "host-1", "binary": "nova-compute"}
    assert api("PUT", "/os-services/disable", me).json == {"service": {**me, "status": "disabled"}}
    assert service(api, "2.1")["status"] == "disabled"
    logged = api("PUT", "/os-services/disable-log-reason", {**me, "disabled_reason": "broken"}).json["service"]
    assert logged == {**me, "status": "disabled", "disabled_reason": "broken"}
    assert service(api, "2.1")["disabled_reason"] == "broken"
    assert api("PUT", "/os-services/enable", me).json == {"service": {**me, "status": "enabled"}}
    assert service(api, "2.1")["disabled_reason"] is None
    assert api("PUT", "/os-services/force-down", {**me, "forced_down": True}, at="2.10").status == 404
    assert api("PUT", "/os-services/force-down", {**me, "forced_down": True}, at="2.11").json["service"]["forced_down"]
    assert service(api, "2.11")["forced_down"] and service(api, "2.11")["state"] == "down"
    api("PUT", "/os-services/force-down", {**me, "forced_down": "false"}, at="2.11")
    assert service(api, "2.11")["state"] == "up"
    for action, body, status in [
        ("enable", {**me, "host": "xxx"}, 404), ("enable", {**me, "binary": "nova-scheduler"}, 400),
        ("disable", {"host": "host-1"}, 400), ("disable-log-reason", me, 400), ("fly", me, 404), ("enable", {}, 400),
        ("disable-log-reason", {**me, "disabled_reason": "x" * 256}, 400),
    ]:  # fmt: skip
        assert api("PUT", f"/os-services/{action}", body).status == status, action


def test_services_are_updated_by_id_from_2_53_on(api: Compute) -> None:
    here = f"/os-services/{HOST1}"
    down = {"status": "disabled", "disabled_reason": "moving", "forced_down": True}
    shown = api("PUT", here, down, at="2.53").json["service"]
    assert (shown["status"], shown["disabled_reason"], shown["state"]) == ("disabled", "moving", "down")
    assert api("PUT", here, {"status": "enabled", "forced_down": False}, at="2.53").json["service"]["state"] == "up"
    for path, body, status in [
        (here, {}, 400), (here, {"disabled_reason": "x"}, 400), (here, {"status": "x"}, 400), (here, {"x": 1}, 400),
        (here, {"status": "enabled", "disabled_reason": "x"}, 400),
        (f"/os-services/{NONE}", {"status": "enabled"}, 404),
        ("/os-services/7", {"status": "enabled"}, 400),
    ]:  # fmt: skip
        assert api("PUT", path, body, at="2.53").status == status, body
    assert api("PUT", here, down, at="2.53", caller="demo").status == 403


def test_a_service_goes_when_its_host_is_empty(api: Compute) -> None:
    here = aggregate(api)
    act(api, here, add_host={"host": "host-1"})
    server = api.server(node_id=HOST1)
    assert api("DELETE", f"/os-services/{HOST1}", at="2.53").status == 409
    api.direct.db.transact(lambda tx: tx.run("delete from servers where id = ?", server))
    api.direct.db.transact(lambda tx: tx.run("delete from allocations"))
    assert api("DELETE", f"/os-services/{HOST1}", at="2.53", caller="demo").status == 403
    assert api("DELETE", f"/os-services/{HOST1}", at="2.53").status == 204
    assert api("GET", here).json["aggregate"]["hosts"] == []
    assert api("DELETE", f"/os-services/{HOST1}", at="2.53").status == 404
    number = service(api, "2.1", "host-2")["id"]
    assert api("DELETE", f"/os-services/{number}").status == 204
    assert api("DELETE", "/os-services/xyz").status == 400


DETAIL = {"id", "hypervisor_hostname", "state", "status", "hypervisor_type", "hypervisor_version", "host_ip", "service"}
AMOUNTS = {"vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "free_ram_mb", "local_gb", "local_gb_used",
           "free_disk_gb", "disk_available_least", "running_vms", "current_workload"}  # fmt: skip


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        ("2.1", DETAIL | AMOUNTS | {"cpu_info"}),
        ("2.87", DETAIL | AMOUNTS | {"cpu_info"}),
        ("2.88", DETAIL | {"uptime"}),
    ],
)
def test_a_hypervisor_has_the_fields_of_its_version(api: Compute, version: str, keys: set[str]) -> None:
    listed = api("GET", "/os-hypervisors/detail", at=version).json["hypervisors"]
    assert [set(one) for one in listed] == [keys, keys]
    shown = api("GET", f"/os-hypervisors/{listed[0]['id']}", at=version).json["hypervisor"]
    assert set(shown) == keys
    brief = api("GET", "/os-hypervisors", at=version).json["hypervisors"][0]
    assert set(brief) == {"id", "hypervisor_hostname", "state", "status"}


def test_amounts_are_placements(api: Compute) -> None:
    api.server(node_id=HOST1)
    one, two = api("GET", "/os-hypervisors/detail", at="2.53").json["hypervisors"]
    assert (one["vcpus"], one["vcpus_used"], two["vcpus_used"]) == (8, 2, 0)
    assert (one["memory_mb"], one["memory_mb_used"], one["free_ram_mb"]) == (8192, 1024 + 512, 8192 - 512 - 1024)
    assert (one["local_gb"], one["local_gb_used"], one["free_disk_gb"]) == (100, 10, 90)
    assert one["running_vms"] == 1 and one["hypervisor_version"] == 7002009
    assert one["cpu_info"]["features"] == ["avx"]
    assert isinstance(api("GET", "/os-hypervisors/detail", at="2.27").json["hypervisors"][0]["cpu_info"], str)
    sums = api("GET", "/os-hypervisors/statistics").json["hypervisor_statistics"]
    assert set(sums) == AMOUNTS | {"count"} and sums["count"] == 2 and sums["vcpus"] == 16
    assert api("GET", "/os-hypervisors/statistics", at="2.88").status == 404


def test_hypervisors_tell_their_servers(api: Compute) -> None:
    server = api.server(node_id=HOST1, name="db")
    [found] = api("GET", "/os-hypervisors/host-1/servers").json["hypervisors"]
    assert found["servers"] == [{"uuid": server, "name": "db"}]
    assert "servers" not in api("GET", "/os-hypervisors/host-2/servers").json["hypervisors"][0]
    assert len(api("GET", "/os-hypervisors/host/search").json["hypervisors"]) == 2
    assert api("GET", "/os-hypervisors/nope/search").status == 404
    assert api("GET", "/os-hypervisors/nope/servers").status == 404
    assert api("GET", "/os-hypervisors/host/search", at="2.53").status == 404
    query = "?hypervisor_hostname_pattern=host-1&with_servers=true"
    [one] = api("GET", f"/os-hypervisors{query}", at="2.53").json["hypervisors"]
    assert one["servers"] == [{"uuid": server, "name": "db"}]
    assert api("GET", "/os-hypervisors?hypervisor_hostname_pattern=x", at="2.53").status == 404
    assert api("GET", "/os-hypervisors?hypervisor_hostname_pattern=h&limit=1", at="2.53").status == 400
    two = f"/os-hypervisors/{HOST2}?with_servers=1"
    assert "servers" not in api("GET", two, at="2.74").json["hypervisor"]
    assert api("GET", two, at="2.75").json["hypervisor"]["servers"] == []


def test_hypervisor_ids_uptime_and_pages(api: Compute) -> None:
    number = api("GET", "/os-hypervisors").json["hypervisors"][0]["id"]
    assert isinstance(number, int)
    assert api("GET", f"/os-hypervisors/{number}/uptime").json["hypervisor"]["uptime"] == "up 1 days, 2:03"
    assert api("GET", f"/os-hypervisors/{HOST1}", at="2.88").json["hypervisor"]["uptime"] == "up 1 days, 2:03"
    assert api("GET", f"/os-hypervisors/{number}", at="2.53").status == 400
    assert api("GET", "/os-hypervisors/abc").status == 404
    assert api("GET", f"/os-hypervisors/{NONE}", at="2.53").status == 404
    page = api("GET", "/os-hypervisors?limit=1", at="2.33").json
    following = page["hypervisors_links"][0]["href"].partition("/v2.1")[2]
    assert [h["hypervisor_hostname"] for h in api("GET", following, at="2.33").json["hypervisors"]] == ["host-2"]
    assert api("GET", "/os-hypervisors?marker=7", at="2.33").status == 400
    assert len(api("GET", "/os-hypervisors?limit=1").json["hypervisors"]) == 2
    for path in ("", "/detail", "/statistics", f"/{number}", f"/{number}/uptime"):
        assert api("GET", f"/os-hypervisors{path}", caller="demo").status == 403


def test_an_uptime_that_is_not_told_is_not_made_up(api: Compute) -> None:
    api.direct.db.transact(lambda tx: NODES.update(tx, {"capabilities": {}}))
    number = api("GET", "/os-hypervisors").json["hypervisors"][0]["id"]
    assert api("GET", f"/os-hypervisors/{number}/uptime").status == 501
    assert api("GET", f"/os-hypervisors/{HOST1}", at="2.88").json["hypervisor"]["uptime"] is None


def test_hosts_of_old(api: Compute) -> None:
    hosts = api("GET", "/os-hosts").json["hosts"]
    assert {"host_name": "host-1", "service": "compute", "zone": "nova"} in hosts and len(hosts) == 4
    assert (
        api("GET", "/os-hosts?zone=xxx").json == {"hosts": []} and len(api("GET", "/os-hosts?zone=").json["hosts"]) == 4
    )
    api.server(node_id=HOST1, project_id="p1")
    lines = [line["resource"] for line in api("GET", "/os-hosts/host-1").json["host"]]
    assert [line["project"] for line in lines] == ["(total)", "(used_now)", "(used_max)", "p1"]
    assert lines[3] == {"host": "host-1", "project": "p1", "cpu": 2, "memory_mb": 1024, "disk_gb": 10}
    assert api("GET", "/os-hosts/nope").status == 404
    assert api("PUT", "/os-hosts/host-1", {"status": "disable"}).json == {"host": "host-1", "status": "disabled"}
    assert api("PUT", "/os-hosts/host-1", {"status": "enable"}).json == {"host": "host-1", "status": "enabled"}
    assert api("PUT", "/os-hosts/host-1", {"maintenance_mode": "enable"}).status == 501
    for bad in ({}, {"status": "x"}, {"x": 1}):
        assert api("PUT", "/os-hosts/host-1", bad).status == 400
    for action in ("startup", "shutdown", "reboot"):
        assert api("GET", f"/os-hosts/host-1/{action}").status == 501
        assert api("GET", f"/os-hosts/nope/{action}").status == 404
    assert api("GET", "/os-hosts", at="2.43").status == 404 and api("GET", "/os-hosts", caller="demo").status == 403


def test_audit_logs_say_that_no_host_ran_one(api: Compute) -> None:
    log = api("GET", "/os-instance_usage_audit_log").json["instance_usage_audit_logs"]
    assert log["hosts_not_run"] == ["host-1", "host-2"] and log["overall_status"].startswith("0 of 2 hosts done")
    told = api("GET", "/os-instance_usage_audit_log/2026-03-15 10:00:00").json["instance_usage_audit_log"]
    assert (told["period_beginning"], told["period_ending"]) == ("2026-02-01 00:00:00", "2026-03-01 00:00:00")
    for bad in ("invalid", "0001-01-01 00:00:00", "2026-13-01 00:00:00"):
        assert api("GET", f"/os-instance_usage_audit_log/{bad}").status == 400
    assert api("GET", "/os-instance_usage_audit_log", caller="demo").status == 403
