"""A volume gets another type: at once where its pool serves it, by a move to another pool of its node where it may."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_volume_types import new_type

from direct import Answer
from pileus.volume.drivers import Broken
from volume_cloud import FakeServer, VolumeCloud

ADMIN = {"caller": "admin"}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[VolumeCloud]:
    made = VolumeCloud(tmp_path)
    yield made
    made.close()


def retyped(cloud: VolumeCloud, volume_id: str, name: str) -> Answer:
    return cloud.act(volume_id, {"os-retype": {"new_type": name, "migration_policy": "on-demand"}})


def test_retype_on_demand_moves_a_volume_to_a_pool_that_serves_the_type(cloud: VolumeCloud) -> None:
    volume_id, machine = cloud.volume(), next(iter(cloud.machines.values()))
    machine.block.machine.write(volume_id, "kept")
    new_type(cloud, "other", volume_backend_name="second")
    assert retyped(cloud, volume_id, "other").status == 202
    seen = cloud.see(volume_id)
    assert (seen["status"], seen["volume_type"]) == ("retyping", "__DEFAULT__")
    [other] = [t["id"] for t in cloud.call("GET", "/types").json["volume_types"] if t["name"] == "other"]
    assert cloud.call("DELETE", f"/types/{other}", **ADMIN).status == 400
    listed = cloud.call("GET", "/volumes?status=retyping").json["volumes"]
    assert [v["id"] for v in listed] == [volume_id]
    migrating = cloud.call("GET", "/volumes?all_tenants=1&migration_status=migrating", **ADMIN).json["volumes"]
    assert [v["id"] for v in migrating] == [volume_id]
    reserve = cloud.act(volume_id, {"os-reserve": None})
    assert reserve.status == 400 and "retyping" in reserve.json["badRequest"]["message"]
    assert cloud.call("POST", "/volumes", {"volume": {"source_volid": volume_id}}).status == 400
    cloud.run()
    seen = cloud.see(volume_id, **ADMIN)
    assert (seen["status"], seen["volume_type"], seen["migration_status"]) == ("available", "other", "success")
    assert seen["os-vol-host-attr:host"] == "node1@second#second"
    assert machine.block.machine.read(volume_id) == "kept" and machine.block.machine.left == set()
    FakeServer(cloud, machine).attach(volume_id)
    assert cloud.status(volume_id) == "in-use"


def test_what_cannot_be_moved_is_refused_with_the_reason(cloud: VolumeCloud) -> None:
    new_type(cloud, "other", volume_backend_name="second")
    new_type(cloud, "odd", storage_protocol="tape")
    new_type(cloud, "first", volume_backend_name="file")
    used, kept, plain = (cloud.volume(volume_type="first") for _ in range(3))
    server = FakeServer(cloud, next(iter(cloud.machines.values())))
    server.attach(used)
    cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": kept}})
    cloud.run()
    for volume_id, name, why in ((used, "other", "in use"), (kept, "other", "snapshots"), (plain, "odd", "tape")):
        refused = retyped(cloud, volume_id, name)
        assert refused.status == 400 and why in refused.json["badRequest"]["message"], refused
        assert cloud.see(volume_id)["volume_type"] == "first"


def test_a_move_that_fails_leaves_the_volume_well_and_says_why(cloud: VolumeCloud) -> None:
    volume_id, machine = cloud.volume(), next(iter(cloud.machines.values()))
    machine.block.machine.write(volume_id, "kept")
    new_type(cloud, "other", volume_backend_name="second")

    def break_it(verb: str) -> None:
        if verb == "ensure_volume":
            raise Broken("the disk is worn out")

    assert retyped(cloud, volume_id, "other").status == 202
    cloud.faults.fail = break_it
    cloud.run()
    cloud.faults.fail = lambda _verb: None
    assert cloud.status(volume_id) == "available"
    assert cloud.see(volume_id, **ADMIN)["os-vol-host-attr:host"] == "node1@file#file"
    assert machine.block.machine.read(volume_id) == "kept"
    assert cloud.see(volume_id, **ADMIN)["os-vol-mig-status-attr:migstat"] == "error"
    assert "worn out" in cloud.call("GET", "/messages").json["messages"][0]["user_message"]
    assert cloud.see(volume_id)["volume_type"] == "__DEFAULT__"
    assert retyped(cloud, volume_id, "other").status == 202
    cloud.run()
    assert cloud.see(volume_id)["volume_type"] == "other" and machine.block.machine.read(volume_id) == "kept"


@pytest.mark.parametrize("end", ["rest", "delete"])
def test_a_worker_killed_at_any_point_of_a_move_loses_and_leaves_nothing(tmp_path: Path, end: str) -> None:
    point, more = 0, True
    while more:
        point += 1
        folder = tmp_path / f"at{point}"
        folder.mkdir()
        cloud = VolumeCloud(folder, rounds=1)
        volume_id, machine = cloud.volume(), next(iter(cloud.machines.values()))
        machine.block.machine.write(volume_id, "kept")
        new_type(cloud, "other", volume_backend_name="second")
        assert retyped(cloud, volume_id, "other").status == 202
        if end == "delete":
            cloud.worker.run_one()
            assert cloud.act(volume_id, {"os-force_delete": None}, **ADMIN).status == 202
        before = cloud.faults.count
        cloud.faults.kill_at = {before + point}
        cloud.run_killed()
        more = cloud.faults.count > before + point
        if end == "rest":
            seen = cloud.see(volume_id, **ADMIN)
            assert (seen["status"], seen["os-vol-host-attr:host"]) == ("available", "node1@second#second"), point
            assert machine.block.machine.read(volume_id) == "kept" and machine.block.machine.left == set()
            assert cloud.unexpected() == [] and cloud.inconsistencies() == []
            assert cloud.call("DELETE", f"/volumes/{volume_id}").status == 202
            cloud.run_killed()
        assert cloud.leftovers() == [], point
        cloud.close()
    assert point > 8
