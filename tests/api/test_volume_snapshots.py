"""Snapshots, attachments and transfers through the API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.core.ids import new_id
from volume_cloud import FakeServer, VolumeCloud

BASE = {"id", "name", "description", "volume_id", "status", "size", "metadata", "created_at", "updated_at"}
EXTENDED = {"os-extended-snapshot-attributes:progress", "os-extended-snapshot-attributes:project_id"}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[VolumeCloud]:
    made = VolumeCloud(tmp_path)
    yield made
    made.close()


def snapshot(cloud: VolumeCloud, volume_id: str, **more: object) -> str:
    found = cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": volume_id, **more}})
    cloud.run()
    return str(found["id"])


def test_a_snapshot_is_created_shown_changed_and_deleted(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume(size=2)
    body = {"snapshot": {"volume_id": volume_id, "name": "s", "metadata": {"a": "b"}}}
    answer = cloud.call("POST", "/snapshots", body, version="3.0")
    found = answer.json["snapshot"]
    assert answer.status == 202 and set(found) == BASE, set(found) ^ BASE
    assert (found["status"], found["size"]) == ("creating", 2)
    cloud.run()
    seen = cloud.see(found["id"], "snapshots", version="3.0")
    assert set(seen) == BASE | EXTENDED and seen["status"] == "available"
    assert seen["os-extended-snapshot-attributes:progress"] == "100%"
    newest = set(cloud.see(found["id"], "snapshots"))
    assert newest == BASE | EXTENDED | {"group_snapshot_id", "user_id", "consumes_quota"}
    changed = cloud.made("PUT", f"/snapshots/{found['id']}", {"snapshot": {"description": "d"}})
    assert (changed["name"], changed["description"]) == ("s", "d")
    assert cloud.call("PUT", f"/snapshots/{found['id']}", {"snapshot": {}}).status == 400
    path = f"/snapshots/{found['id']}/metadata"
    assert cloud.made("POST", path, {"metadata": {"c": "d"}}) == {"a": "b", "c": "d"}
    assert cloud.made("PUT", path + "/c", {"meta": {"c": "e"}}) == {"c": "e"}
    assert cloud.call("DELETE", path + "/c").status == 200
    assert cloud.call("DELETE", f"/snapshots/{found['id']}", caller="other").status == 404
    assert cloud.call("DELETE", f"/snapshots/{found['id']}").status == 202
    cloud.run()
    assert cloud.call("GET", f"/snapshots/{found['id']}").status == 404


def test_snapshots_are_listed_filtered_and_paged(cloud: VolumeCloud) -> None:
    volume_id, other = cloud.volume(), cloud.volume()
    ids = [snapshot(cloud, volume_id, name=f"s{n}", metadata={"n": str(n)}) for n in range(3)]
    snapshot(cloud, other, name="else")

    def names(query: str) -> list[str]:
        return [s["name"] for s in cloud.call("GET", f"/snapshots/detail?{query}").json["snapshots"]]

    assert names(f"volume_id={volume_id}&sort=name:asc") == ["s0", "s1", "s2"]
    assert names("status=available&name=s1") == ["s1"] and names("status=error") == []
    assert names("metadata={'n':'2'}") == ["s2"] and names(f"sort=created_at:asc&marker={ids[1]}&limit=1") == ["s2"]
    assert cloud.call("GET", "/snapshots?limit=x").status == 400
    assert cloud.call("GET", f"/snapshots?marker={new_id()}").status == 404
    assert cloud.call("GET", "/snapshots?sort=invalid").status == 400
    assert cloud.call("GET", "/snapshots", caller="other").json["snapshots"] == []


@pytest.mark.parametrize("wrong", [
    {}, {"volume_id": "x"}, {"volume_id": 5}, {"volume_id": new_id(), "name": 5},
    {"volume_id": new_id(), "metadata": {"k": None}}, {"volume_id": new_id(), "more": 1},
])  # fmt: skip
def test_a_body_that_makes_no_sense_is_400(cloud: VolumeCloud, wrong: object) -> None:
    assert cloud.call("POST", "/snapshots", {"snapshot": wrong}).status == 400
    for nowhere in (new_id(), None):
        assert cloud.call("POST", "/snapshots", {"snapshot": {"volume_id": nowhere}}).status == 404


def test_a_volume_from_a_snapshot_outlives_it(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume(size=2)
    disk = next(iter(cloud.machines.values())).block.machine
    disk.write(volume_id, "then")
    snapshot_id = snapshot(cloud, volume_id)
    disk.write(volume_id, "now")
    assert cloud.call("POST", "/volumes", {"volume": {"snapshot_id": snapshot_id, "size": 1}}).status == 400
    made = cloud.volume(snapshot_id=snapshot_id, size=None)
    assert cloud.see(made)["size"] == 2 and disk.read(made) == "then"
    assert cloud.call("DELETE", f"/snapshots/{snapshot_id}").status == 202
    cloud.run()
    assert cloud.status(made) == "available" and disk.read(made) == "then"


def test_a_volume_in_use_needs_force_before_3_66(cloud: VolumeCloud) -> None:
    volume_id, server = cloud.volume(), FakeServer(cloud, next(iter(cloud.machines.values())))
    server.attach(volume_id)
    body = {"snapshot": {"volume_id": volume_id}}
    assert cloud.call("POST", "/snapshots", body, version="3.65").status == 400
    body["snapshot"]["force"] = "true"
    assert cloud.call("POST", "/snapshots", body, version="3.65").status == 202
    assert cloud.call("POST", "/snapshots", {"snapshot": {"volume_id": volume_id, "force": False}}).status == 400
    made = snapshot(cloud, volume_id)
    assert cloud.status(made, "snapshots") == "available"
    machine = next(iter(cloud.machines.values()))
    assert machine.hypervisor.machine.copies == {}, "the point-in-time copy is gone when the snapshot is made"


def test_the_administrator_sets_statuses_and_deletes_by_force(cloud: VolumeCloud) -> None:
    snapshot_id = snapshot(cloud, cloud.volume())
    act = {"os-reset_status": {"status": "error"}}
    assert cloud.act(snapshot_id, act, "snapshots").status == 403
    assert cloud.act(snapshot_id, {"os-reset_status": {"status": "x"}}, "snapshots", caller="admin").status == 400
    assert cloud.act(snapshot_id, act, "snapshots", caller="admin").status == 202
    assert cloud.status(snapshot_id, "snapshots") == "error"
    assert [s["id"] for s in cloud.call("GET", "/snapshots?status=error").json["snapshots"]] == [snapshot_id]
    told = {"os-update_snapshot_status": {"status": "available", "progress": "50%"}}
    assert cloud.act(snapshot_id, told, "snapshots").status == 400
    cloud.act(snapshot_id, {"os-reset_status": {"status": "creating"}}, "snapshots", caller="admin")
    assert cloud.act(snapshot_id, told, "snapshots").status == 202
    told = {"os-update_snapshot_status": {"status": "error", "progress": "80%"}}
    cloud.act(snapshot_id, {"os-reset_status": {"status": "creating"}}, "snapshots", caller="admin")
    assert cloud.act(snapshot_id, told, "snapshots").status == 202
    shown = cloud.see(snapshot_id, "snapshots")
    assert (shown["status"], shown["os-extended-snapshot-attributes:progress"]) == ("error", "80%")
    assert cloud.act(snapshot_id, {"os-force_delete": {}}, "snapshots", caller="admin").status == 202
    cloud.run()
    assert cloud.call("GET", f"/snapshots/{snapshot_id}").status == 404


def test_the_older_way_to_attach(cloud: VolumeCloud) -> None:
    volume_id, server_id = cloud.volume(), new_id()
    assert cloud.act(volume_id, {"os-reserve": {}}).status == 202 and cloud.status(volume_id) == "attaching"
    assert cloud.act(volume_id, {"os-reserve": {}}).status == 400
    assert cloud.act(volume_id, {"os-unreserve": {}}).status == 202 and cloud.status(volume_id) == "available"
    assert cloud.act(volume_id, {"os-attach": {"mountpoint": "/dev/vdc"}}).status == 400
    attach = {"os-attach": {"instance_uuid": server_id, "mountpoint": "/dev/vdc"}}
    assert cloud.act(volume_id, attach).status == 202 and cloud.status(volume_id) == "in-use"
    tie = cloud.see(volume_id)["attachments"][0]
    assert set(tie) == {"id", "attachment_id", "volume_id", "server_id", "host_name", "device", "attached_at"}
    assert (tie["server_id"], tie["device"], tie["id"]) == (server_id, "/dev/vdc", volume_id)
    assert cloud.act(volume_id, attach).status == 400
    assert cloud.call("DELETE", f"/volumes/{volume_id}").status == 400
    assert cloud.act(volume_id, {"os-begin_detaching": {}}).status == 202 and cloud.status(volume_id) == "detaching"
    assert cloud.act(volume_id, {"os-roll_detaching": {}}).status == 202 and cloud.status(volume_id) == "in-use"
    assert cloud.act(volume_id, {"os-detach": {"attachment_id": new_id()}}).status == 404
    assert cloud.act(volume_id, {"os-detach": {}}).status == 202
    cloud.run()
    assert cloud.status(volume_id) == "available" and cloud.see(volume_id)["attachments"] == []
    assert cloud.act(volume_id, {"os-detach": {}}).status == 400
    cloud.act(volume_id, attach)
    forced = {"os-force_detach": {"attachment_id": None, "connector": None}}
    assert cloud.act(volume_id, forced).status == 403
    assert cloud.act(volume_id, forced, caller="admin").status == 202
    cloud.run()
    assert cloud.status(volume_id) == "available"
    assert cloud.act(volume_id, {"os-initialize_connection": {"connector": {}}}).status == 400
    assert cloud.act(volume_id, {"os-terminate_connection": {"connector": {}}}).status == 202


def test_the_attachments_api(cloud: VolumeCloud) -> None:
    volume_id, server_id = cloud.volume(), new_id()
    body = {"attachment": {"volume_uuid": volume_id, "instance_uuid": server_id}}
    assert cloud.call("POST", "/attachments", body, version="3.26").status == 404
    assert cloud.call("POST", "/attachments", {"attachment": {"volume_uuid": new_id()}}).status == 404
    made = cloud.made("POST", "/attachments", body)
    assert set(made) == {"id", "status", "instance", "volume_id", "attached_at", "detached_at", "attach_mode",
                         "connection_info"}  # fmt: skip
    assert made["status"] == "reserved" and cloud.status(volume_id) == "reserved"
    assert cloud.call("POST", "/attachments", body).status == 400
    path = f"/attachments/{made['id']}"
    assert cloud.call("PUT", path, {"attachment": {"connector": {}}}).status == 400
    assert cloud.made("PUT", path, {"attachment": {"connector": {"host": "h"}}})["status"] == "attaching"
    assert cloud.status(volume_id) == "attaching"
    assert cloud.call("POST", path + "/action", {"os-complete": {}}).status == 204
    assert cloud.status(volume_id) == "in-use"
    listed = cloud.call("GET", f"/attachments?volume_id={volume_id}&instance_id={server_id}").json["attachments"]
    assert [(a["id"], a["status"], set(a)) for a in listed] == [
        (made["id"], "attached", {"id", "status", "instance", "volume_id"})
    ]
    assert cloud.call("GET", "/attachments/detail?attach_status=attached").json["attachments"][0]["attached_at"]
    assert cloud.call("GET", path, caller="other").status == 404
    assert cloud.call("GET", "/attachments", caller="other").json["attachments"] == []
    assert cloud.call("DELETE", path).json == {"attachments": []}
    cloud.run()
    assert cloud.status(volume_id) == "available" and cloud.call("GET", path).status == 404


def test_what_compute_attached_ends_only_through_compute(cloud: VolumeCloud) -> None:
    volume_id, server = cloud.volume(), FakeServer(cloud, next(iter(cloud.machines.values())))
    server.attach(volume_id)
    attachment_id = server.attachments[volume_id]
    for caller in ("demo", "admin"):
        for answer in (
            cloud.call("DELETE", f"/attachments/{attachment_id}", caller=caller),
            cloud.act(volume_id, {"os-detach": {}}, caller=caller),
            cloud.act(volume_id, {"os-terminate_connection": {"connector": {}}}, caller=caller),
            cloud.call("PUT", f"/attachments/{attachment_id}", {"attachment": {"connector": {"a": 1}}}, caller=caller),
        ):
            assert answer.status == 409 and "Compute API" in answer.json["conflictingRequest"]["message"], answer
    assert cloud.act(volume_id, {"os-force_detach": {}}, caller="admin").status == 409
    assert cloud.see(volume_id)["attachments"][0]["device"] == "/dev/vdb"


def test_a_volume_of_a_multiattach_type_serves_several(cloud: VolumeCloud) -> None:
    wanted = {"name": "many", "extra_specs": {"multiattach": "<is> True"}}
    cloud.made("POST", "/types", {"volume_type": wanted}, caller="admin")
    volume_id = cloud.volume(volume_type="many")
    assert cloud.see(volume_id)["multiattach"] is True
    machine = next(iter(cloud.machines.values()))
    first, second = FakeServer(cloud, machine), FakeServer(cloud, machine)
    first.attach(volume_id)
    second.attach(volume_id)
    assert len(cloud.see(volume_id)["attachments"]) == 2
    first.release(volume_id)
    cloud.run()
    assert cloud.status(volume_id) == "in-use" and second.view(volume_id).connection is not None  # type: ignore[union-attr]  # None would fail the test here, as it should
    assert (volume_id, machine.id) in machine.block.machine.exports
    second.release(volume_id)
    cloud.run()
    assert cloud.status(volume_id) == "available" and machine.block.machine.exports == set()


def test_a_volume_changes_hands(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume(name="gift")
    snapshot_id = snapshot(cloud, volume_id)
    answer = cloud.call("POST", "/volume-transfers", {"transfer": {"volume_id": volume_id, "name": "t"}})
    made = answer.json["transfer"]
    assert answer.status == 202 and set(made) == {
        "id", "volume_id", "name", "links", "created_at", "auth_key", "no_snapshots", "source_project_id",
        "destination_project_id", "accepted",
    }  # fmt: skip
    assert cloud.status(volume_id) == "awaiting-transfer" and cloud.inconsistencies() == []
    path = f"/volume-transfers/{made['id']}"
    assert set(cloud.see(made["id"], "volume-transfers")) == set(made) - {"auth_key"}
    assert cloud.call("GET", path, caller="other").status == 404
    assert [t["id"] for t in cloud.call("GET", "/volume-transfers").json["transfers"]] == [made["id"]]
    assert cloud.call("GET", "/volume-transfers/detail", caller="other").json["transfers"] == []
    assert cloud.call("DELETE", f"/volumes/{volume_id}").status == 400
    wrong = cloud.call("POST", path + "/accept", {"accept": {"auth_key": "guess"}}, caller="other")
    assert wrong.status == 400
    assert (
        cloud.call("POST", path + "/accept", {"accept": {"auth_key": made["auth_key"]}}, caller="other").status == 202
    )
    assert cloud.call("GET", f"/volumes/{volume_id}").status == 404
    assert cloud.see(volume_id, caller="other")["status"] == "available"
    assert cloud.see(snapshot_id, "snapshots", caller="other")["name"] is None
    assert cloud.call("GET", path).status == 404 and cloud.inconsistencies() == []


def test_a_transfer_is_withdrawn_and_the_old_paths_have_the_old_shape(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()
    body = {"transfer": {"volume_id": volume_id}}
    made = cloud.made("POST", "/os-volume-transfer", body, version="3.0")
    assert set(made) == {"id", "volume_id", "name", "links", "created_at", "auth_key"}
    assert cloud.call("POST", "/os-volume-transfer", body, version="3.0").status == 400
    assert cloud.call("GET", "/volume-transfers", version="3.54").status == 404
    assert cloud.call("DELETE", f"/os-volume-transfer/{made['id']}", caller="other").status == 404
    assert cloud.call("DELETE", f"/os-volume-transfer/{made['id']}").status == 202
    assert cloud.status(volume_id) == "available"
    gone = {"accept": {"auth_key": made["auth_key"]}}
    assert cloud.call("POST", f"/os-volume-transfer/{made['id']}/accept", gone, caller="other").status == 404


def test_the_quota_of_who_takes_over_counts(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()
    made = cloud.made("POST", "/volume-transfers", {"transfer": {"volume_id": volume_id}})
    cloud.made("PUT", f"/os-quota-sets/{'0' * 32}", {"quota_set": {"volumes": 0}}, caller="admin")
    key = {"accept": {"auth_key": made["auth_key"]}}
    answer = cloud.call("POST", f"/volume-transfers/{made['id']}/accept", key, caller="other")
    assert answer.status == 413 and cloud.status(volume_id) == "awaiting-transfer"
