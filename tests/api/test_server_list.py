"""Lists of servers: whose, which, in what order, page by page; and what each version and caller is shown."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from pileus.core.clock import iso
from server_cloud import COMPUTE, LATEST, ServerCloud


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerCloud]:
    """Three servers of demo's: web (stopped, tagged), db (locked), mail (micro); one of the administrator's."""
    made = ServerCloud(tmp_path_factory.mktemp("list"))
    web = made.boot({"name": "web", "tags": ["front", "blue"], "metadata": {"a": "b"}})
    db = made.boot({"name": "db", "description": "data"})
    made.boot({"name": "mail", "flavorRef": "micro", "networks": [{"uuid": made.network, "fixed_ip": "10.9.0.99"}]})
    made.do(web, "os-stop")
    made.act(db, "lock", {"locked_reason": "precious"})
    made.boot({"name": "ops", "networks": "none"}, caller="admin")
    yield made
    made.close()


def names(cloud: ServerCloud, query: str = "", *, caller: str = "demo", version: str = LATEST) -> list[str]:
    answer = cloud.call("GET", f"{COMPUTE}/servers/detail{query}", caller=caller, version=version)
    assert answer.status == 200, answer
    return [one["name"] for one in answer.json["servers"]]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", {"web", "db", "mail"}),
        ("?name=we", {"web"}),
        ("?name=^m", {"mail"}),
        ("?name=x", set()),
        ("?name=%25", set()),
        ("?status=ACTIVE", {"db", "mail"}),
        ("?status=SHUTOFF&status=ACTIVE", {"web", "db", "mail"}),
        ("?status=shutoff", {"web"}),
        ("?flavor=micro", {"mail"}),
        ("?vm_state=stopped", {"web"}),
        ("?power_state=4", {"web"}),
        ("?tags=front", {"web"}),
        ("?tags=front,blue", {"web"}),
        ("?tags=front,red", set()),
        ("?tags-any=front,red", {"web"}),
        ("?not-tags=front", {"db", "mail"}),
        ("?not-tags-any=front,red", {"db", "mail"}),
        ("?locked=true", {"db"}),
        ("?locked=false", {"web", "mail"}),
        ("?ip=10.9.0.99", {"mail"}),
        ("?ip6=fd", set()),
        ("?changes-since=2000-01-01T00:00:00Z", {"web", "db", "mail"}),
        ("?changes-since=2100-01-01T00:00:00Z", set()),
        ("?changes-before=2000-01-01T00:00:00Z", set()),
        ("?description=dat", {"web", "db", "mail"}),  # only administrators may filter by it
        ("?host=node1", {"web", "db", "mail"}),
    ],
)
def test_filters(cloud: ServerCloud, query: str, wanted: set[str]) -> None:
    assert set(names(cloud, query)) == wanted


def test_administrators_filter_by_more_and_see_all_projects(cloud: ServerCloud) -> None:
    assert set(names(cloud, "?all_tenants=1", caller="admin")) == {"web", "db", "mail", "ops"}
    assert names(cloud, "", caller="admin") == ["ops"]
    assert names(cloud, "?all_tenants=1&description=dat", caller="admin") == ["db"]
    assert names(cloud, f"?all_tenants=1&project_id={'b' * 32}", caller="admin") == ["ops"]
    assert names(cloud, "?all_tenants=1&host=moon", caller="admin") == []
    refused = cloud.call("GET", f"{COMPUTE}/servers?all_tenants=1")
    assert refused.status == 403


def test_order_and_pages(cloud: ServerCloud) -> None:
    assert names(cloud) == ["mail", "db", "web"]
    assert names(cloud, "?sort_key=display_name&sort_dir=asc") == ["db", "mail", "web"]
    assert names(cloud, "?sort_key=display_name") == ["web", "mail", "db"]
    seen: list[str] = []
    path = f"{COMPUTE}/servers/detail?limit=2&sort_key=display_name&sort_dir=asc"
    while path:
        answer = cloud.call("GET", path).json
        seen += [one["name"] for one in answer["servers"]]
        following = answer.get("servers_links", [{"href": ""}])[0]["href"]
        path = urlsplit(following).path + "?" + urlsplit(following).query if following else ""
    assert seen == ["db", "mail", "web"]
    assert names(cloud, "?limit=1&status=ACTIVE") == ["mail"]
    assert names(cloud, "?limit=0") == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?limit=-1", 400),
        ("?limit=x", 400),
        ("?marker=11111111-2222-4333-8444-555555555555", 400),
        ("?sort_key=secret", 400),
        ("?sort_dir=up&sort_key=display_name", 400),
        ("?sort_key=host", 403),
        ("?status=WRONG", 400),
        ("?status=DELETED", 403),
        ("?changes-since=yesterday", 400),
        ("?changes-since=2100-01-01T00:00:00Z&changes-before=2000-01-01T00:00:00Z", 400),
        ("?_secret=1", 400),
        ("?system_metadata=1", 400),
        ("?anything=1", 400),
        ("?ip=(", 400),
        ("?all_tenants=perhaps", 400),
    ],
)
def test_queries_that_cannot_be_answered(cloud: ServerCloud, query: str, status: int) -> None:
    assert cloud.call("GET", f"{COMPUTE}/servers{query}", version=LATEST).status == status


def test_old_versions_forgive_what_they_do_not_know(cloud: ServerCloud) -> None:
    assert len(names(cloud, "?anything=1", version="compute 2.74")) == 3
    assert names(cloud, "?status=WRONG", version="compute 2.37") == []


def test_the_brief_list_shows_three_attributes(cloud: ServerCloud) -> None:
    for one in cloud.call("GET", f"{COMPUTE}/servers").json["servers"]:
        assert set(one) == {"id", "name", "links"}


ADDED: dict[str, set[str]] = {
    "2.1": set(), "2.9": {"locked"}, "2.19": {"description"}, "2.26": {"tags"}, "2.63": {"trusted_image_certificates"},
    "2.71": {"server_groups"}, "2.73": {"locked_reason"}, "2.90": {"OS-EXT-SRV-ATTR:hostname"},
    "2.96": {"pinned_availability_zone"}, "2.100": {"scheduler_hints"},
}  # fmt: skip


def test_attributes_appear_with_their_version(cloud: ServerCloud) -> None:
    server = cloud.call("GET", f"{COMPUTE}/servers?name=mail").json["servers"][0]["id"]
    before: set[str] = set()
    for version, added in ADDED.items():
        shown = set(cloud.show(server, caller="demo", version=f"compute {version}"))
        assert added <= shown and not (before and shown - before - added), version
        before = shown
    assert "id" in cloud.show(server, version="compute 2.46")["flavor"]
    assert cloud.show(server, version="compute 2.47")["flavor"]["original_name"] == "micro"


def test_only_administrators_see_where_a_server_is(cloud: ServerCloud) -> None:
    server = cloud.call("GET", f"{COMPUTE}/servers?name=mail").json["servers"][0]["id"]
    hidden = {"OS-EXT-SRV-ATTR:host", "OS-EXT-SRV-ATTR:hypervisor_hostname", "OS-EXT-SRV-ATTR:instance_name",
              "host_status", "OS-EXT-SRV-ATTR:user_data"}  # fmt: skip
    assert not hidden & set(cloud.show(server, caller="demo"))
    shown = cloud.show(server)
    assert hidden <= set(shown) and shown["host_status"] == "UP"
    assert shown["hostId"] and shown["hostId"] == cloud.show(server, caller="demo")["hostId"]


def test_another_project_sees_nothing(cloud: ServerCloud) -> None:
    server = cloud.call("GET", f"{COMPUTE}/servers?name=mail").json["servers"][0]["id"]
    answer = cloud.call("GET", f"{COMPUTE}/servers/{server}", caller="other")
    unknown = cloud.call("GET", f"{COMPUTE}/servers/11111111-2222-4333-8444-555555555555", caller="other")
    assert answer.status == unknown.status == 404
    assert names(cloud, caller="other") == []


def test_update_changes_what_may_change(cloud: ServerCloud) -> None:
    server = cloud.call("GET", f"{COMPUTE}/servers?name=mail").json["servers"][0]["id"]

    def put(version: str = LATEST, **body: Any) -> Any:
        return cloud.call("PUT", f"{COMPUTE}/servers/{server}", {"server": body}, version=version)

    shown = put(name=" post ", description=None, accessIPv6="2001:db8::1", hostname="post").json["server"]
    assert shown["name"] == "post" and shown["accessIPv6"] == "2001:db8::1"
    assert shown["OS-EXT-SRV-ATTR:hostname"] == "post" and shown["addresses"]["net"][0]["OS-EXT-IPS:type"] == "fixed"
    assert put(pinned_availability_zone="nova").json["server"]["pinned_availability_zone"] == "nova"
    assert put(pinned_availability_zone=None).json["server"]["pinned_availability_zone"] is None
    assert put(pinned_availability_zone="moon").status == 400
    old = put(version="compute 2.1", name="mail").json["server"]
    assert "OS-EXT-STS:vm_state" not in old and "OS-EXT-IPS:type" not in old["addresses"]["net"][0]
    for wrong in ({"name": ""}, {"accessIPv4": "x"}, {"status": "ACTIVE"}, {"hostname": "-"}):
        assert put(**wrong).status == 400, wrong
    assert put(version="compute 2.18", description="x").status == 400


def test_times_follow_changes(cloud: ServerCloud) -> None:
    server = cloud.call("GET", f"{COMPUTE}/servers?name=web").json["servers"][0]["id"]
    shown = cloud.show(server)
    assert shown["created"] <= shown["updated"] <= str(iso(cloud.clock()))
    assert shown["OS-SRV-USG:launched_at"] and shown["OS-SRV-USG:terminated_at"] is None
