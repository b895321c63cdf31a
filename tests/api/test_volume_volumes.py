"""Volumes through the API: what is made, listed, shown, changed, refused."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from pileus.core.ids import new_id
from volume_cloud import FakeServer, VolumeCloud

BASE = {
    "id", "status", "size", "availability_zone", "created_at", "updated_at", "name", "description", "volume_type",
    "snapshot_id", "source_volid", "metadata", "links", "user_id", "bootable", "encrypted", "replication_status",
    "consistencygroup_id", "multiattach", "attachments",
}  # fmt: skip
LATER = {"group_id", "service_uuid", "shared_targets", "volume_type_id", "consumes_quota"}
ADMINS = {
    "migration_status",
    "os-vol-host-attr:host",
    "os-vol-mig-status-attr:migstat",
    "os-vol-mig-status-attr:name_id",
}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[VolumeCloud]:
    made = VolumeCloud(tmp_path)
    yield made
    made.close()


def test_a_new_volume_is_created_and_becomes_available(cloud: VolumeCloud) -> None:
    answer = cloud.call("POST", "/volumes", {"volume": {"size": 2, "name": "v", "metadata": {"a": "b"}}}, version="3.0")
    assert answer.status == 202
    found = answer.json["volume"]
    assert set(found) == BASE, set(found) ^ BASE
    assert (found["status"], found["size"], found["name"], found["metadata"]) == ("creating", 2, "v", {"a": "b"})
    assert (
        found["volume_type"] == "__DEFAULT__" and found["bootable"] == "false" and found["availability_zone"] == "nova"
    )
    cloud.run()
    seen = cloud.see(found["id"])
    assert seen["status"] == "available" and seen["updated_at"] is not None
    assert answer.headers["openstack-api-version"] == "volume 3.0"


@pytest.mark.parametrize(("version", "caller", "more"), [
    ("3.0", "demo", {"os-vol-tenant-attr:tenant_id"}),
    ("3.71", "demo", LATER | {"os-vol-tenant-attr:tenant_id"}),
    ("3.0", "admin", ADMINS | {"os-vol-tenant-attr:tenant_id"}),
    ("3.71", "admin", LATER | ADMINS | {"os-vol-tenant-attr:tenant_id", "provider_id", "cluster_name"}),
])  # fmt: skip
def test_each_version_and_role_sees_exactly_its_attributes(
    cloud: VolumeCloud, version: str, caller: str, more: set[str]
) -> None:
    volume_id = cloud.volume()
    seen = cloud.see(volume_id, version=version, caller=caller)
    assert set(seen) == BASE | more, set(seen) ^ (BASE | more)
    if caller == "admin":
        assert seen["os-vol-host-attr:host"] == "node1@file#file"


def test_the_path_with_the_callers_project_answers_alike_and_another_project_is_404(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()
    own, other = "d" * 32, "0" * 32
    assert cloud.call("GET", f"/{own}/volumes/{volume_id}").json == cloud.call("GET", f"/volumes/{volume_id}").json
    assert cloud.call("GET", f"/{other}/volumes/{volume_id}").status == 404
    assert cloud.call("GET", f"/{own}/volumes/{volume_id}", caller="other").status == 404


def test_what_others_have_does_not_exist(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()
    for method, path, body in (
        ("GET", "", None), ("PUT", "", {"volume": {"name": "x"}}), ("DELETE", "", None),
        ("POST", "/action", {"os-extend": {"new_size": 3}}), ("GET", "/metadata", None),
    ):  # fmt: skip
        answer = cloud.call(method, f"/volumes/{volume_id}{path}", body, caller="other")
        assert answer.status == 404 and "itemNotFound" in answer.json, (method, path, answer)
    assert cloud.call("GET", "/volumes", caller="other").json == {"volumes": []}
    assert cloud.call("GET", "/volumes?all_tenants=1", caller="other").json == {"volumes": []}
    assert len(cloud.call("GET", "/volumes?all_tenants=1", caller="admin").json["volumes"]) == 1
    assert cloud.call("POST", "/volumes", {"volume": {"size": 1}}, caller="reader").status == 403


@pytest.mark.parametrize("wrong", [
    {}, {"size": 0}, {"size": -1}, {"size": "#"}, {"size": None}, {"size": 1.5}, {"size": 10**30}, {"size": []},
    {"size": 1, "name": "x" * 256}, {"size": 1, "metadata": []}, {"size": 1, "metadata": {"k": 1}},
    {"size": 1, "metadata": {"": "v"}}, {"size": 1, "snapshot_id": "nope"}, {"size": 1, "source_volid": 5},
    {"size": 1, "availability_zone": "mars"}, {"size": 1, "unknown": 1}, {"size": 1, "multiattach": True},
    {"size": 1, "group_id": new_id()}, {"size": 1, "backup_id": new_id()}, {"size": 1, "imageRef": new_id()},
    {"size": 1, "snapshot_id": new_id(), "source_volid": new_id()},
])  # fmt: skip
def test_a_body_that_makes_no_sense_is_400(cloud: VolumeCloud, wrong: object) -> None:
    answer = cloud.call("POST", "/volumes", {"volume": wrong})
    assert answer.status == 400 and answer.json["badRequest"]["code"] == 400, answer
    assert cloud.call("GET", "/volumes").json["volumes"] == []


def test_unknown_attributes_were_ignored_before_3_53(cloud: VolumeCloud) -> None:
    assert cloud.call("POST", "/volumes", {"volume": {"size": 1, "unknown": 1}}, version="3.52").status == 202


@pytest.mark.parametrize("field", ["snapshot_id", "source_volid", "volume_type"])
def test_a_source_or_type_that_is_not_there_is_404(cloud: VolumeCloud, field: str) -> None:
    assert cloud.call("POST", "/volumes", {"volume": {"size": 1, field: new_id()}}).status == 404


def test_lists_page_sort_filter_and_count(cloud: VolumeCloud) -> None:
    ids = [cloud.volume(name=f"v{n}", metadata={"n": str(n), "all": "yes"}) for n in range(5)]
    cloud.made("PUT", f"/volumes/{ids[4]}", {"volume": {"description": "Gänge"}})

    def names(query: str) -> list[str]:
        return [v["name"] for v in cloud.call("GET", f"/volumes/detail?{query}").json["volumes"]]

    assert names("") == ["v4", "v3", "v2", "v1", "v0"]
    assert names("sort=name:asc&limit=2") == ["v0", "v1"]
    assert names(f"sort=name:asc&limit=2&marker={ids[1]}") == ["v2", "v3"]
    assert names("sort_key=name&sort_dir=asc&offset=3") == ["v3", "v4"]
    assert names("sort_key=display_name&sort_dir=asc&offset=3") == ["v3", "v4"]
    links = cloud.call("GET", "/volumes/detail?limit=1").json["volumes_links"]
    assert "/v3/volumes/detail?limit=1&marker=" in links[0]["href"]
    assert names("limit=0") == [] and names("name=v3") == ["v3"] and names("name~=v") == ["v4", "v3", "v2", "v1", "v0"]
    assert names("metadata=" + quote("{'n': '2', 'all': 'yes'}")) == ["v2"]
    assert names("metadata=" + quote('{"all": "no"}')) == []
    assert names("status=available&bootable=false&availability_zone=nova") == ["v4", "v3", "v2", "v1", "v0"]
    assert names("status=error") == [] and names("bootable=true") == []
    assert names("created_at=gt:2020-01-01T00:00:00") and not names("created_at=lt:2020-01-01T00:00:00")
    answer = cloud.call("GET", "/volumes?limit=2&with_count=true").json
    assert answer["count"] == 5 and len(answer["volumes"]) == 2
    assert set(answer["volumes"][0]) == {"id", "name", "links"}
    following = answer["volumes_links"][0]["href"].partition("/volume/v3")[2]
    assert [v["id"] for v in cloud.call("GET", following).json["volumes"]] == [ids[2], ids[1]]


@pytest.mark.parametrize("query", [
    "limit=-1", "limit=x", "offset=-1", "sort=nothing:asc", "sort=name:up", "metadata=[", "metadata=5", "with_count=x",
    "created_at=soon", "nonsense=1", "metadata=" + "(" * 300,
])  # fmt: skip
def test_a_query_that_makes_no_sense_is_400(cloud: VolumeCloud, query: str) -> None:
    assert cloud.call("GET", f"/volumes/detail?{query}").status == 400
    assert cloud.call("GET", f"/volumes/detail?marker={new_id()}").status == 404


def test_the_summary_counts_and_gathers_metadata(cloud: VolumeCloud) -> None:
    cloud.volume(size=2, metadata={"k": "a"})
    cloud.volume(size=3, metadata={"k": "b"})
    assert cloud.call("GET", "/volumes/summary", version="3.12").json == {
        "volume-summary": {"total_count": 2, "total_size": 5}
    }
    assert cloud.made("GET", "/volumes/summary")["metadata"] == {"k": ["a", "b"]}
    assert cloud.call("GET", "/volumes/summary", version="3.11").status == 404


def test_names_and_metadata_change(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume(metadata={"a": "1"})
    found = cloud.made("PUT", f"/volumes/{volume_id}", {"volume": {"name": " n ", "description": "d"}})
    assert (found["name"], found["description"]) == ("n", "d")
    assert cloud.call("PUT", f"/volumes/{volume_id}", {"volume": {}}).status == 400
    path = f"/volumes/{volume_id}/metadata"
    first = cloud.call("GET", path)
    assert cloud.made("POST", path, {"metadata": {"b": "2"}}) == {"a": "1", "b": "2"}
    stale = {"if-match": first.headers["etag"]}
    assert cloud.call("PUT", path, {"metadata": {}}, headers=stale).status == 412
    assert cloud.made("PUT", path, {"metadata": {"c": "3"}}) == {"c": "3"}
    assert cloud.made("PUT", path + "/c", {"meta": {"c": "4"}}) == {"c": "4"}
    assert cloud.call("PUT", path + "/c", {"meta": {"d": "4"}}).status == 400
    assert cloud.made("GET", path + "/c") == {"c": "4"}
    assert cloud.call("DELETE", path + "/c").status == 200
    assert cloud.call("DELETE", path + "/c").status == 404 and cloud.call("GET", path + "/c").status == 404


def test_a_volume_from_an_image_remembers_it_and_is_bootable(cloud: VolumeCloud) -> None:
    image_id = cloud.image()
    volume_id = cloud.volume(imageRef=image_id)
    seen = cloud.see(volume_id)
    assert seen["status"] == "available" and seen["bootable"] == "true"
    kept = seen["volume_image_metadata"]
    assert kept["image_id"] == image_id and kept["os_type"] == "linux" and kept["min_disk"] == "1"
    shown = cloud.act(volume_id, {"os-show_image_metadata": None})
    assert shown.json["metadata"] == kept
    changed = cloud.act(volume_id, {"os-set_image_metadata": {"metadata": {"hw": "x"}}})
    assert changed.json["metadata"]["hw"] == "x"
    assert cloud.act(volume_id, {"os-unset_image_metadata": {"key": "hw"}}).status == 200
    assert cloud.act(volume_id, {"os-unset_image_metadata": {"key": "hw"}}).status == 404
    machine = next(iter(cloud.machines.values()))
    assert machine.block.machine.read(volume_id) == f"image {image_id}"


def test_an_image_larger_than_the_volume_is_refused(cloud: VolumeCloud) -> None:
    body = {"name": "i", "disk_format": "raw", "container_format": "bare", "min_disk": 5}
    image_id = cloud.api("POST", "/image/v2/images", body).json["id"]
    queued = cloud.call("POST", "/volumes", {"volume": {"size": 5, "imageRef": image_id}})
    assert queued.status == 400 and "not active" in queued.json["badRequest"]["message"]
    head = {"content-type": "application/octet-stream"}
    cloud.api("PUT", f"/image/v2/images/{image_id}/file", raw=b"\0" * 512, headers=head)
    answer = cloud.call("POST", "/volumes", {"volume": {"size": 4, "imageRef": image_id}})
    assert answer.status == 400 and "5GB" in answer.json["badRequest"]["message"]


def test_a_clone_holds_the_same_bytes_and_may_be_larger(cloud: VolumeCloud) -> None:
    source = cloud.volume(size=2)
    machine = next(iter(cloud.machines.values()))
    machine.block.machine.write(source, "letters")
    clone, larger = cloud.volume(source_volid=source, size=None), cloud.volume(source_volid=source, size=3)
    assert cloud.see(clone)["size"] == 2 and cloud.see(larger)["size"] == 3
    assert machine.block.machine.read(clone) == machine.block.machine.read(larger) == "letters"
    assert cloud.call("POST", "/volumes", {"volume": {"source_volid": source, "size": 1}}).status == 400


def test_extending(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()
    assert cloud.act(volume_id, {"os-extend": {"new_size": 3}}).status == 202
    assert (cloud.status(volume_id), cloud.see(volume_id)["size"]) == ("extending", 1)
    cloud.run()
    assert (cloud.status(volume_id), cloud.see(volume_id)["size"]) == ("available", 3)
    for wrong in (3, 2, 0, None, "x", 10**12):
        assert cloud.act(volume_id, {"os-extend": {"new_size": wrong}}).status == 400
    assert cloud.act(volume_id, {"os-extend": {"new_size": 2000}}).status == 413


def test_a_volume_in_use_grows_from_3_42_on_and_its_server_hears_of_it(cloud: VolumeCloud) -> None:
    volume_id, server = cloud.volume(), FakeServer(cloud, next(iter(cloud.machines.values())))
    server.attach(volume_id)
    assert cloud.act(volume_id, {"os-extend": {"new_size": 2}}, version="3.41").status == 400
    assert cloud.act(volume_id, {"os-extend": {"new_size": 2}}, version="3.42").status == 202
    cloud.pokes.clear()
    cloud.run()
    view = server.view(volume_id)
    assert view is not None and view.size_gib == 2 and server.id in cloud.pokes
    assert cloud.status(volume_id) == "in-use"


def test_deleting(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()
    assert cloud.call("DELETE", f"/volumes/{volume_id}").status == 202
    assert cloud.status(volume_id) == "deleting"
    again = cloud.call("DELETE", f"/volumes/{volume_id}")
    assert again.status == 400 and "deleting" in again.json["badRequest"]["message"]
    cloud.run()
    assert cloud.call("GET", f"/volumes/{volume_id}").status == 404 and cloud.leftovers() == []
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"volume": {"name": "x"}})):
        assert cloud.call(method, "/volumes/", body).status == 404, "no id is not the list"
        assert cloud.call(method, "/volumes/no-such-thing", body).status == 404


def test_cascade_takes_the_snapshots_along(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()
    for _ in range(2):
        cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": volume_id}})
    cloud.run()
    refused = cloud.call("DELETE", f"/volumes/{volume_id}")
    assert refused.status == 400 and "2 dependent snapshots" in refused.json["badRequest"]["message"]
    assert cloud.call("DELETE", f"/volumes/{volume_id}?cascade=true").status == 202
    cloud.run()
    assert cloud.leftovers() == []


def test_force_is_the_administrators(cloud: VolumeCloud) -> None:
    volume_id = cloud.made("POST", "/volumes", {"volume": {"size": 1}})["id"]
    assert cloud.call("DELETE", f"/volumes/{volume_id}").status == 400
    assert cloud.call("DELETE", f"/volumes/{volume_id}?force=true").status == 403
    assert cloud.act(volume_id, {"os-force_delete": {}}).status == 403
    assert cloud.act(volume_id, {"os-force_delete": {}}, caller="admin").status == 202
    cloud.run()
    assert cloud.leftovers() == []


def test_a_forced_status_is_shown_and_ends_with_the_next_wish(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()
    assert cloud.act(volume_id, {"os-reset_status": {"status": "error"}}).status == 403
    assert cloud.act(volume_id, {"os-reset_status": {"status": "nonsense"}}, caller="admin").status == 400
    assert cloud.act(volume_id, {"os-reset_status": {}}, caller="admin").status == 400
    assert cloud.act(volume_id, {"os-reset_status": {"status": "error"}}, caller="admin").status == 202
    assert cloud.status(volume_id) == "error"
    found = cloud.call("GET", "/volumes?status=error").json["volumes"]
    assert [v["id"] for v in found] == [volume_id]
    assert cloud.act(volume_id, {"os-extend": {"new_size": 2}}).status == 400
    assert cloud.act(volume_id, {"os-reset_status": {"status": "available"}}, caller="admin").status == 202
    assert cloud.act(volume_id, {"os-extend": {"new_size": 2}}).status == 202
    cloud.run()
    assert cloud.status(volume_id) == "available"


def test_flags(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()
    assert cloud.act(volume_id, {"os-set_bootable": {"bootable": "true"}}).status == 200
    assert cloud.see(volume_id)["bootable"] == "true"
    assert cloud.act(volume_id, {"os-set_bootable": {"bootable": "maybe"}}).status == 400
    assert "readonly" not in cloud.see(volume_id)["metadata"]
    assert cloud.act(volume_id, {"os-update_readonly_flag": {"readonly": True}}).status == 202
    assert cloud.see(volume_id)["metadata"]["readonly"] == "True"
    assert cloud.act(volume_id, {"os-no_such": {}}).status == 400


def test_a_read_only_volume_is_opened_read_only(cloud: VolumeCloud) -> None:
    volume_id, server = cloud.volume(), FakeServer(cloud, next(iter(cloud.machines.values())))
    cloud.act(volume_id, {"os-update_readonly_flag": {"readonly": True}})
    attachment = {"attachment": {"volume_uuid": volume_id, "instance_uuid": server.id, "mode": "rw"}}
    assert cloud.call("POST", "/attachments", attachment).status == 400
    assert cloud.act(volume_id, {"os-update_readonly_flag": {"readonly": False}}).status == 202
    server.attach(volume_id)
    assert cloud.act(volume_id, {"os-update_readonly_flag": {"readonly": True}}).status == 400


def test_reverting_gives_the_bytes_of_the_newest_snapshot_back(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()
    disk = next(iter(cloud.machines.values())).block.machine
    disk.write(volume_id, "old")
    first = cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": volume_id}})["id"]
    cloud.run()
    second = cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": volume_id}})["id"]
    cloud.run()
    cloud.act(volume_id, {"os-extend": {"new_size": 2}})
    cloud.run()
    disk.write(volume_id, "new")
    assert cloud.act(volume_id, {"revert": {"snapshot_id": first}}).status == 400
    assert cloud.act(volume_id, {"revert": {"snapshot_id": new_id()}}).status == 400
    assert cloud.act(volume_id, {"revert": {"snapshot_id": second}}, version="3.39").status in (400, 404)
    assert cloud.act(volume_id, {"revert": {"snapshot_id": second}}).status == 202
    assert cloud.status(volume_id) == "reverting"
    cloud.run()
    assert cloud.status(volume_id) == "available" and cloud.see(volume_id)["size"] == 2
    assert disk.read(volume_id) == "old"


def test_upload_makes_an_image_of_the_bytes(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume(imageRef=cloud.image())
    wanted = {"image_name": "up", "disk_format": "raw", "visibility": "private", "force": False}
    answer = cloud.act(volume_id, {"os-volume_upload_image": wanted})
    assert answer.status == 202
    found = answer.json["os-volume_upload_image"]
    assert (found["status"], found["image_name"], found["size"]) == ("uploading", "up", 1)
    assert cloud.status(volume_id) == "uploading"
    cloud.run()
    assert cloud.status(volume_id) == "available"
    seen = cloud.api("GET", f"/image/v2/images/{found['image_id']}").json
    assert seen["status"] == "active" and seen["os_type"] == "linux" and seen["min_disk"] == 1
    folded = cloud.act(volume_id, {"os-volume_upload_image": {"image_name": "q", "disk_format": "qcow2"}}).json
    cloud.run()
    image_id = folded["os-volume_upload_image"]["image_id"]
    assert cloud.api("GET", f"/image/v2/images/{image_id}/file").raw.startswith(b"QFI\xfb")
    refused = cloud.act(volume_id, {"os-volume_upload_image": {"image_name": "q", "disk_format": "vmdk"}})
    assert refused.status == 400 and "raw" in refused.json["badRequest"]["message"]
    public = {"image_name": "p", "visibility": "public"}
    assert cloud.act(volume_id, {"os-volume_upload_image": public}).status == 403


def test_a_volume_in_use_is_uploaded_with_force_as_it_is_at_one_instant(cloud: VolumeCloud) -> None:
    machine = next(iter(cloud.machines.values()))
    volume_id, server = cloud.volume(), FakeServer(cloud, machine)
    server.attach(volume_id)
    assert cloud.act(volume_id, {"os-volume_upload_image": {"image_name": "x"}}).status == 400
    answer = cloud.act(volume_id, {"os-volume_upload_image": {"image_name": "x", "force": True}})
    cloud.run()
    image_id = answer.json["os-volume_upload_image"]["image_id"]
    data = cloud.api("GET", f"/image/v2/images/{image_id}/file").raw
    assert data.startswith(f"{server.id}/{volume_id}".encode())
    assert cloud.status(volume_id) == "in-use" and machine.hypervisor.machine.copies == {}


def test_a_volume_is_filled_anew_from_an_image(cloud: VolumeCloud) -> None:
    image_id, volume_id = cloud.image(), cloud.volume()
    assert cloud.act(volume_id, {"os-reimage": {"image_id": new_id()}}).status == 400
    assert cloud.act(volume_id, {"os-reimage": {"image_id": image_id}}).status == 202
    cloud.run()
    assert cloud.status(volume_id) == "available"
    assert next(iter(cloud.machines.values())).block.machine.read(volume_id) == f"image {image_id}"


def test_one_hundred_volumes_are_listed_with_as_many_queries_as_one(cloud: VolumeCloud) -> None:
    cloud.made("PUT", f"/os-quota-sets/{'d' * 32}", {"quota_set": {"volumes": -1}}, caller="admin")
    counts = []
    for wanted in (1, 30):
        for _ in range(wanted):
            cloud.call("POST", "/volumes", {"volume": {"size": 1}})
        statements: list[str] = []
        reader = cloud.db._reader()  # type: ignore[attr-defined]  # of the object that is really there
        reader.set_trace_callback(statements.append)
        assert cloud.call("GET", "/volumes/detail").status == 200
        reader.set_trace_callback(None)
        counts.append(len(statements))
    assert counts[0] == counts[1]
