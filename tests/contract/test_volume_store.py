"""Block storage on both engines: what lists, limits and lives ask of the store means the same."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import direct
from pileus.db.connect import Database
from volume_cloud import FakeServer, VolumeCloud

DEMO = "d" * 32


@pytest.fixture
def cloud(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VolumeCloud]:
    monkeypatch.setattr(direct, "connect", lambda url: db)
    made = VolumeCloud(tmp_path)
    yield made
    made.api.loop.close()


def test_lists_filter_and_sort_alike(cloud: VolumeCloud) -> None:
    ids = [cloud.volume(name=f"v{n}", metadata={"k": f"Ü{n}"}, description=None if n else "d") for n in range(3)]
    cloud.act(ids[1], {"os-reset_status": {"status": "error"}}, caller="admin")

    def names(query: str) -> list[str]:
        answer = cloud.call("GET", f"/volumes/detail?{query}&sort=name:asc")
        assert answer.status == 200, answer
        return [v["name"] for v in answer.json["volumes"]]

    assert names("status=available") == ["v0", "v2"] and names("status=error") == ["v1"]
    assert names("metadata=" + quote("{'k': 'Ü2'}")) == ["v2"] and names("name~=V") in ([], ["v0", "v1", "v2"])
    assert names("bootable=false&multiattach=false&size=1&limit=2") == ["v0", "v1"]
    assert names(f"marker={ids[0]}&limit=1&offset=1") == ["v2"]
    assert names("created_at=gte:2020-01-01T00:00:00") == ["v0", "v1", "v2"]
    described = cloud.call("GET", "/volumes?sort=description:desc&with_count=true").json
    assert described["count"] == 3 and described["volumes"][0]["name"] == "v0"
    assert cloud.made("GET", "/volumes/summary")["total_size"] == 3


def test_a_life_with_a_server_and_all_that_counts_it(cloud: VolumeCloud) -> None:
    machine = next(iter(cloud.machines.values()))
    volume_id, server = cloud.volume(size=2), FakeServer(cloud, machine)
    server.attach(volume_id)
    snapshot_id = cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": volume_id}})["id"]
    clone = cloud.volume(source_volid=volume_id, size=2)
    assert cloud.status(snapshot_id, "snapshots") == "available" and cloud.status(clone) == "available"
    assert cloud.call("GET", "/snapshots?status=available").json["snapshots"][0]["id"] == snapshot_id
    assert cloud.call("GET", "/attachments?status=attached").json["attachments"][0]["instance"] == server.id
    used = cloud.made("GET", f"/os-quota-sets/{DEMO}?usage=true")
    assert (used["volumes"]["in_use"], used["gigabytes"]["in_use"]) == (2, 6)
    assert used["gigabytes___DEFAULT__"]["in_use"] == 6
    assert cloud.made("GET", "/limits")["absolute"]["totalGigabytesUsed"] == 6
    host = cloud.call("GET", "/os-hosts/node1@file", caller="admin").json["host"][0]["resource"]
    assert (host["total_volume_gb"], host["total_snapshot_gb"]) == ("4", "2")
    pools = cloud.call("GET", "/scheduler-stats/get_pools?detail=1", caller="admin").json["pools"]
    assert pools[0]["capabilities"]["provisioned_capacity_gb"] == 4
    body = {"binary": "cinder-volume", "host": "node1@second"}
    assert cloud.call("PUT", "/os-services/disable", body, caller="admin").status == 200
    transfer = cloud.made("POST", "/volume-transfers", {"transfer": {"volume_id": clone}})
    assert cloud.call("DELETE", f"/volume-transfers/{transfer['id']}").status == 202
    assert cloud.call("POST", "/types", {"volume_type": {"name": "__DEFAULT__"}}, caller="admin").status == 409
    server.release(volume_id)
    cloud.run()
    for gone in (volume_id, clone):
        assert cloud.call("DELETE", f"/volumes/{gone}?cascade=true").status == 202
    cloud.run()
    assert cloud.leftovers() == [] and cloud.inconsistencies() == []
