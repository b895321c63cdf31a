"""The unmodified openstacksdk uses block storage over a real socket, a worker beside it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from keystoneauth1 import token_endpoint
from keystoneauth1.session import Session
from openstack.connection import Connection

from pileus.http.app import App
from volume_cloud import VolumeCloud

SECONDS = 20


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[VolumeCloud]:
    made = VolumeCloud(tmp_path)
    working = threading.Thread(target=made.worker.run)
    working.start()
    yield made
    made.worker.stopping.set()
    working.join(10)
    made.close()


@pytest.fixture
def connect(cloud: VolumeCloud, serve: Callable[[App], str]) -> Callable[[str], Connection]:
    url = serve(cloud.api.app)

    def of(caller: str) -> Connection:
        session = Session(auth=token_endpoint.Token(f"{url}/volume/v3", caller))
        return Connection(session=session, block_storage_endpoint_override=f"{url}/volume/v3",
                          block_storage_api_version="3")  # fmt: skip

    return of


def test_a_day_with_volumes(cloud: VolumeCloud, connect: Callable[[str], Connection]) -> None:
    admin, demo = connect("admin").block_storage, connect("demo").block_storage
    type_ = admin.create_type(name="fast", extra_specs={"volume_backend_name": "second"})
    volume = demo.create_volume(size=1, name="v", volume_type="fast", metadata={"a": "b"})
    volume = demo.wait_for_status(volume, "available", ["error"], 0.05, SECONDS)
    assert (volume.volume_type, volume.metadata, volume.is_bootable) == ("fast", {"a": "b"}, False)
    assert admin.get_volume(volume.id).host == "node1@second#second"
    demo.extend_volume(volume, 2)
    demo.wait_for_status(demo.get_volume(volume.id), "available", ["error"], 0.05, SECONDS)
    snapshot = demo.create_snapshot(volume_id=volume.id, name="s")
    demo.wait_for_status(snapshot, "available", ["error"], 0.05, SECONDS)
    clone = demo.create_volume(size=2, snapshot_id=snapshot.id, name="clone")
    demo.wait_for_status(clone, "available", ["error"], 0.05, SECONDS)
    assert {v.name for v in demo.volumes(status="available")} == {"v", "clone"}
    assert demo.find_volume("clone", ignore_missing=False).id == clone.id
    demo.set_volume_metadata(volume, c="d")
    assert demo.get_volume_metadata(volume).metadata == {"a": "b", "c": "d"}
    demo.set_volume_bootable_status(volume, True)
    demo.reserve_volume(volume)
    demo.unreserve_volume(volume)
    transfer = demo.create_transfer(volume_id=clone.id, name="gift")
    connect("other").block_storage.accept_transfer(transfer.id, transfer.auth_key)
    assert demo.find_volume("clone", ignore_missing=True) is None
    assert admin.get_quota_set("d" * 32, usage=True).usage["volumes"] == 1
    assert [p.name for p in admin.backend_pools()] == ["node1@file#file", "node1@second#second"]
    assert demo.get_limits().absolute.total_volumes_used == 1
    demo.delete_snapshot(snapshot)
    demo.wait_for_delete(snapshot, 0.05, SECONDS)
    demo.delete_volume(volume)
    demo.wait_for_delete(volume, 0.05, SECONDS)
    gift = admin.get_volume(clone.id)
    admin.delete_volume(gift, force=True)
    admin.wait_for_delete(gift, 0.05, SECONDS)
    admin.delete_type(type_)
    assert cloud.leftovers() == []
