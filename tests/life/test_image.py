"""The life of an image: fed from a node, uploaded, imported, killed at any moment, deleted in any order."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from direct import DEMO
from image_cloud import ImageCloud
from pileus.core.context import Context
from pileus.db.connect import Unavailable
from pileus.image import facade, rows
from pileus.image.drivers import Broken

DATA = b"a guest's disk" + bytes(300_000) + b"end"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[ImageCloud]:
    made = ImageCloud(tmp_path)
    yield made
    assert made.leaked() == set()
    made.close()


def create_from(cloud: ImageCloud, **given: Any) -> facade.ImageView:
    """An image that a server fills, as compute makes it."""

    def work(tx: Any) -> facade.ImageView:
        ctx = Context(tx, DEMO, now=time.time(), enforcer=cloud.direct.app.enforcer, settings=cloud.settings)
        wanted = {"name": "snapshot", "properties": {"image_type": "snapshot"}, "min_disk": 1, "min_ram": 0,
                  "disk_format": "raw", "owner_kind": "server", "owner_id": "s1", **given}  # fmt: skip
        return facade.create_from(ctx, **wanted)

    return cloud.db.transact(work)


def feed(cloud: ImageCloud, image_id: str, **given: str) -> None:
    where = {"node_id": "n1", "copy_id": "c1", **given}
    cloud.db.transact(lambda tx: facade.feed(tx, image_id, now=cloud.clock(), **where))  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it


def test_a_fed_image_becomes_active_and_its_owner_hears_of_it(cloud: ImageCloud) -> None:
    cloud.hub.copies["c1"] = DATA
    image = create_from(cloud)
    assert image.status == "queued" and image.owner == DEMO.project_id
    feed(cloud, image.id)
    feed(cloud, image.id)
    cloud.settle()
    found = cloud.db.read(lambda tx: facade.find_image(tx, image.id))
    assert found is not None and found.status == "active" and found.size == found.virtual_size == len(DATA)
    assert found.properties == {"image_type": "snapshot"} and cloud.told == ["s1"]
    source = cloud.db.read(lambda tx: facade.source(tx, image.id))
    assert (
        source.format == "raw"
        and source.size == len(DATA)
        and Path(source.url.removeprefix("file://")).read_bytes() == DATA
    )
    assert cloud.db.read(lambda tx: facade.blob_name(tx, image.id)) == Path(source.url).name


def test_a_volume_feeds_an_image_too(cloud: ImageCloud) -> None:
    cloud.hub.copies["file/v1"] = DATA
    image = create_from(cloud, owner_kind="volume", owner_id="v1")
    feed(cloud, image.id, copy_id="", pool="file", volume_id="v1")
    cloud.settle()
    assert cloud.show(image.id)["status"] == "active"


def test_what_a_guest_wrote_into_its_raw_disk_does_not_matter(cloud: ImageCloud) -> None:
    cloud.hub.copies["c1"] = b"QFI\xfb" + bytes(100_000)
    image = create_from(cloud)
    feed(cloud, image.id)
    cloud.settle()
    assert cloud.show(image.id)["status"] == "active"
    assert cloud.db.read(lambda tx: facade.source(tx, image.id)).format == "raw"


def test_a_feed_that_is_gone_kills_the_image_with_the_reason(cloud: ImageCloud) -> None:
    for error in (LookupError("no copy c1"), Broken("the disk is broken")):
        cloud.hub.copies["c1"] = error
        image = create_from(cloud)
        feed(cloud, image.id)
        cloud.settle()
        found = cloud.db.read(lambda tx, i=image.id: facade.find_image(tx, i))
        assert found is not None and found.status == "killed" and found.fault == str(error)


def test_a_node_that_is_away_only_delays(cloud: ImageCloud) -> None:
    cloud.hub.copies["c1"] = ConnectionError("the node is away")
    image = create_from(cloud)
    feed(cloud, image.id)
    for _ in range(5):
        cloud.worker().run_one()
        cloud.ahead += 2
        time.sleep(0.01)
    assert cloud.show(image.id)["status"] == "saving"
    cloud.hub.copies["c1"] = DATA
    for _ in range(4):
        cloud.ahead += 31
        cloud.settle()
    assert cloud.show(image.id)["status"] == "active"


def test_a_node_that_stays_away_ends_in_killed(cloud: ImageCloud) -> None:
    cloud.hub.copies["c1"] = ConnectionError("the node is away")
    image = create_from(cloud)
    feed(cloud, image.id)
    for _ in range(200):
        cloud.worker().run_one()
        cloud.ahead += 40
        cloud.hub.wait()
        if cloud.show(image.id)["status"] == "killed":
            break
    assert cloud.show(image.id)["os_glance_fault"] == "the node is away"
    cloud.settle()


def test_a_worker_killed_between_the_last_byte_and_the_row_begins_anew(cloud: ImageCloud) -> None:
    cloud.hub.copies["c1"] = DATA
    image = create_from(cloud)
    feed(cloud, image.id)
    worker = cloud.worker()
    worker.step_once(worker.lease(1)[0])
    row = cloud.row(image.id)
    assert row is not None and row.status == "saving" and row.transfer
    writer = cloud.blob.create(row.transfer)
    writer.write(b"all of it")
    writer.commit()
    cloud.ahead += 61
    cloud.settle()
    assert cloud.show(image.id)["size"] == len(DATA) and len(cloud.blob.list()) == 1


def test_an_upload_whose_process_was_killed_ends_queued_and_takes_another(cloud: ImageCloud) -> None:
    image = cloud.create()
    row = cloud.row(image["id"])
    assert row is not None
    transfer = cloud.db.transact(lambda tx: rows.begin(tx, row, "saving", cloud.clock()))
    writer = cloud.blob.create(transfer)
    writer.write(b"half")
    cloud.worker().run_one()
    assert cloud.show(image["id"])["status"] == "saving"
    cloud.ahead += rows.DEAD / 2 + 1
    cloud.db.transact(lambda tx: rows.beat(tx, image["id"], transfer, cloud.clock()))
    cloud.worker().run_one()
    assert cloud.show(image["id"])["status"] == "saving", "a sign of life counts"
    cloud.ahead += rows.DEAD + 1
    cloud.settle()
    shown = cloud.show(image["id"])
    assert shown["status"] == "queued" and "cut off" in shown["os_glance_fault"]
    with pytest.raises(FileNotFoundError):
        writer.commit()  # the process wakes up again: too late
    assert cloud.upload(image["id"], b"whole").status == 204 and not cloud.leaked()


def test_deleting_waits_for_a_living_upload_and_not_for_a_dead_one(cloud: ImageCloud) -> None:
    image = cloud.create()
    row = cloud.row(image["id"])
    assert row is not None
    transfer = cloud.db.transact(lambda tx: rows.begin(tx, row, "saving", cloud.clock()))
    writer = cloud.blob.create(transfer)
    writer.commit()
    assert cloud("DELETE", f"/images/{image['id']}").status == 204
    cloud.worker().run_one()
    assert cloud.row(image["id"]) is not None
    assert not cloud.db.transact(lambda tx: rows.beat(tx, image["id"], transfer, cloud.clock())), "told to stop"
    cloud.ahead += rows.DEAD + 1
    cloud.settle()
    assert cloud.row(image["id"]) is None and list(cloud.blob.list()) == []


def test_a_worker_killed_between_the_bytes_and_the_row_of_a_deleted_image_is_no_contradiction(
    cloud: ImageCloud,
) -> None:
    image = cloud.active()
    assert cloud("DELETE", f"/images/{image['id']}").status == 204
    cloud.worker().lease(1)
    row = cloud.row(image["id"])
    assert row is not None and cloud.blob.remove(row.location)
    assert not cloud.leaked(), "verify has nothing to say until another worker goes on"
    cloud.ahead += 61
    cloud.settle()
    assert cloud.row(image["id"]) is None


def test_the_bytes_stay_when_the_store_fell_silent_after_it_had_committed(
    cloud: ImageCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.hub.copies["c1"] = DATA
    image = create_from(cloud)
    feed(cloud, image.id)
    real = cloud.db.transact

    def lost(work: Any) -> Any:
        result = real(work)
        if cloud.show_status(image.id) == "active":
            monkeypatch.undo()
            raise Unavailable("the answer was lost")
        return result

    monkeypatch.setattr(cloud.db, "transact", lost)
    cloud.settle()
    row = cloud.row(image.id)
    assert row is not None and row.status == "active" and cloud.blob.size(row.location) == len(DATA)


def test_deleting_during_a_fetch_leaves_nothing(cloud: ImageCloud) -> None:
    cloud.hub.copies["c1"] = DATA
    image = create_from(cloud)
    feed(cloud, image.id)
    worker = cloud.worker()
    worker.step_once(worker.lease(1)[0])
    assert cloud("DELETE", f"/images/{image.id}").status == 204
    cloud.ahead += rows.DEAD + 61
    cloud.settle()
    assert cloud.row(image.id) is None and list(cloud.blob.list()) == []


def test_fail_kills_what_waits_and_spares_what_is_there(cloud: ImageCloud) -> None:
    waiting, there = create_from(cloud), cloud.active()
    for image_id in (waiting.id, there["id"], "never"):
        cloud.db.transact(lambda tx, i=image_id: facade.fail(tx, i, "the guest is gone", cloud.clock()))
    cloud.settle()
    assert cloud.show(waiting.id)["status"] == "killed" and cloud.show(there["id"])["status"] == "active"
    assert cloud("DELETE", f"/images/{waiting.id}").status == 204
    cloud.settle()


def test_only_bootable_images_are_a_source(cloud: ImageCloud) -> None:
    queued, ova = cloud.create()["id"], cloud.active(container_format="ova")["id"]
    deleted = cloud.active()["id"]
    cloud("DELETE", f"/images/{deleted}")
    for image_id, why in (
        (queued, "not active"),
        (ova, "convert"),
        (deleted, "could not be found"),
        ("x", "not be found"),
    ):
        with pytest.raises(LookupError, match=why):
            cloud.db.read(lambda tx, i=image_id: facade.source(tx, i))
    cloud.settle()
