"""The lives of volumes, snapshots and attachments, whatever is killed, slow or away.

Each scenario runs once whole; then once for each driver effect and each commit of it, with the process
killed there.  It must end as the whole run did, and after deletion nothing may be left anywhere.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pileus.core.errors import BadRequest
from pileus.volume import facade
from pileus.volume.drivers import Broken
from volume_cloud import FakeServer, VolumeCloud


@dataclass
class Scene:
    """A cloud with a volume that holds "bytes", one that server uses, and a snapshot of the first."""

    cloud: VolumeCloud
    idle: str = ""
    used: str = ""
    snapshot: str = ""

    def prepare(self) -> "Scene":
        self.machine = next(iter(self.cloud.machines.values()))
        self.idle, self.used = self.cloud.volume(), self.cloud.volume()
        self.machine.block.machine.write(self.idle, "bytes")
        self.snapshot = self.cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": self.idle}})["id"]
        self.server = FakeServer(self.cloud, self.machine)
        self.server.attach(self.used)
        self.image_id = self.cloud.image()
        self.cloud.run()
        return self

    def ask(self, method: str, path: str, body: object = None) -> str:
        answer = self.cloud.call(method, path, body)
        assert answer.status in (200, 202), answer
        return str(next(iter(answer.json.values())).get("id")) if answer.json else ""


def create(**wanted: object) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        names = {"IDLE": scene.idle, "USED": scene.used, "SNAPSHOT": scene.snapshot, "IMAGE": scene.image_id}
        body = {k: names.get(str(v), v) for k, v in wanted.items()}
        scene.ask("POST", "/volumes", {"volume": {"name": "new", "size": 2, **body}})

    return act


def all_rest(scene: Scene, volumes: int, snapshots: int = 1) -> None:
    found = scene.cloud.call("GET", "/volumes/detail").json["volumes"]
    assert {v["status"] for v in found} <= {"available", "in-use"} and len(found) == volumes, found
    taken = scene.cloud.call("GET", "/snapshots").json["snapshots"]
    assert {s["status"] for s in taken} <= {"available"} and len(taken) == snapshots, taken


def made(content: str) -> Callable[[Scene], None]:
    def check(scene: Scene) -> None:
        all_rest(scene, 3)
        new = scene.cloud.call("GET", "/volumes/detail?name=new").json["volumes"][0]
        assert new["size"] == 2
        assert scene.machine.block.machine.read(new["id"]).replace(scene.image_id, "I") == content

    return check


def attach(scene: Scene) -> None:
    scene.server.reserve(scene.idle)
    scene.server.connect(scene.idle)


def attached(scene: Scene) -> None:
    assert scene.server.view(scene.idle).connection is not None  # type: ignore[union-attr]  # None would fail the test here, as it should
    assert scene.cloud.status(scene.idle) == "attaching" and scene.server.id in scene.cloud.pokes
    scene.server.open(scene.idle)
    all_rest(scene, 2)


def release(scene: Scene) -> None:
    scene.server.release(scene.used)


def released(scene: Scene) -> None:
    all_rest(scene, 2)
    assert scene.cloud.status(scene.used) == "available" and not scene.machine.block.machine.exports


def upload(what: str) -> Callable[[Scene], None]:
    return lambda scene: scene.cloud.act(
        getattr(scene, what), {"os-volume_upload_image": {"image_name": "up", "force": True}}
    ) and None  # fmt: skip


def uploaded(scene: Scene) -> None:
    all_rest(scene, 2)
    found = scene.cloud.api("GET", "/image/v2/images?name=up").json["images"]
    assert [i["status"] for i in found] == ["active"], found


def delete_all_but_used(scene: Scene) -> None:
    scene.ask("DELETE", f"/volumes/{scene.idle}?cascade=true")


def reimage(scene: Scene) -> None:
    volume_id = scene.cloud.made("POST", "/volumes", {"volume": {"size": 1, "name": "new"}})["id"]
    scene.cloud.run_killed()
    assert scene.cloud.act(volume_id, {"os-reimage": {"image_id": scene.image_id}}).status == 202
    scene.cloud.act(volume_id, {"os-extend": {"new_size": 2}})


def extend_while_filled(scene: Scene) -> None:
    all_rest(scene, 3)
    new = scene.cloud.call("GET", "/volumes/detail?name=new").json["volumes"][0]
    assert scene.machine.block.machine.read(new["id"]) == f"image {scene.image_id}"


SCENES: dict[str, tuple[Callable[[Scene], object], Callable[[Scene], None]]] = {
    "create": (create(), made("")),
    "create_from_image": (create(imageRef="IMAGE"), made("image I")),
    "create_from_snapshot": (create(snapshot_id="SNAPSHOT"), made("bytes")),
    "clone": (create(source_volid="IDLE"), made("bytes")),
    "clone_in_use": (create(source_volid="USED"), made("")),
    "snapshot": (lambda s: s.ask("POST", "/snapshots", {"snapshot": {"volume_id": s.idle}}),
                 lambda s: all_rest(s, 2, 2)),
    "snapshot_in_use": (lambda s: s.ask("POST", "/snapshots", {"snapshot": {"volume_id": s.used}}),
                        lambda s: all_rest(s, 2, 2)),
    "extend": (lambda s: s.cloud.act(s.idle, {"os-extend": {"new_size": 3}}), lambda s: all_rest(s, 2)),
    "extend_in_use": (lambda s: s.cloud.act(s.used, {"os-extend": {"new_size": 3}}), lambda s: all_rest(s, 2)),
    "attach": (attach, attached),
    "release": (release, released),
    "upload": (upload("idle"), uploaded),
    "upload_in_use": (upload("used"), uploaded),
    "revert": (lambda s: s.cloud.act(s.idle, {"revert": {"snapshot_id": s.snapshot}}), lambda s: all_rest(s, 2)),
    "reimage": (reimage, extend_while_filled),
    "delete_snapshot": (lambda s: s.ask("DELETE", f"/snapshots/{s.snapshot}"), lambda s: all_rest(s, 2, 0)),
    "cascade": (delete_all_but_used, lambda s: all_rest(s, 1, 0)),
}  # fmt: skip


def end(scene: Scene) -> None:
    """Delete everything; nothing may be left."""
    cloud = scene.cloud
    assert cloud.unexpected() == [] and cloud.inconsistencies() == []
    for volume_id in list(scene.server.attachments):
        scene.server.release(volume_id)
    cloud.run_killed()
    for volume in cloud.call("GET", "/volumes").json["volumes"]:
        answer = cloud.call("DELETE", f"/volumes/{volume['id']}?cascade=true")
        assert answer.status == 202, answer
    cloud.run_killed()
    assert cloud.leftovers() == [] and cloud.inconsistencies() == []


def play(folder: Path, name: str, kill_at: int | None, rounds: int = 1) -> int:
    """One run of a scenario, killed at the n-th effect after its request; how many effects there were."""
    act, check = SCENES[name]
    folder.mkdir()
    scene = Scene(VolumeCloud(folder, rounds=rounds)).prepare()
    try:
        faults, before = scene.cloud.faults, scene.cloud.faults.count
        if kill_at is not None:
            faults.kill_at = {before + kill_at}
        act(scene)
        scene.cloud.run_killed()
        effects = faults.count - before
        assert effects >= (kill_at or 0), "it was killed"
        check(scene)
        end(scene)
        return effects
    finally:
        scene.cloud.close()


@pytest.mark.parametrize("name", SCENES)
def test_it_ends_well_wherever_the_process_is_killed(tmp_path: Path, name: str) -> None:
    effects = play(tmp_path / "whole", name, None)
    chosen = range(1, effects + 1)
    if effects > 12:  # long lives: the ends, and a sample between
        chosen = sorted({1, 2, effects, *random.Random(name).sample(range(3, effects), 8)})  # type: ignore[assignment]  # a list of numbers, as the other choice is
    for at in chosen:
        try:
            play(tmp_path / f"killed-{at}", name, at)
        except AssertionError as error:
            raise AssertionError(f"{name}, killed at effect {at} of {effects}: {error}") from error


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[VolumeCloud]:
    made = VolumeCloud(tmp_path)
    yield made
    made.close()


def machine_of(cloud: VolumeCloud) -> Any:
    return next(iter(cloud.machines.values()))


def test_a_volume_that_a_server_asked_for_may_be_reserved_before_it_is_made(cloud: VolumeCloud) -> None:
    machine = machine_of(cloud)
    view = cloud.db.transact(
        lambda tx: facade.create_volume(cloud.context(tx), size=1, name="root", node_id=machine.id)
    )
    server = FakeServer(cloud, machine)
    server.reserve(view.id)
    server.connect(view.id)
    with pytest.raises(BadRequest):
        FakeServer(cloud, machine).reserve(view.id)
    cloud.run()
    assert server.view(view.id).connection is not None and cloud.status(view.id) == "attaching"  # type: ignore[union-attr]  # None would fail the test here, as it should
    server.open(view.id)
    server.release(view.id)
    cloud.db.transact(lambda tx: facade.delete_volume(tx, view.id, cloud.clock()))
    cloud.run()
    assert cloud.leftovers() == []


def test_a_server_hears_why_its_volume_could_not_be_made(cloud: VolumeCloud) -> None:
    machine = machine_of(cloud)

    def broken(verb: str) -> None:
        if verb == "ensure_volume":
            raise Broken("the disk is on fire")

    cloud.faults.fail = broken
    view = cloud.db.transact(lambda tx: facade.create_volume(cloud.context(tx), size=1))
    server = FakeServer(cloud, machine)
    server.reserve(view.id)
    server.connect(view.id)
    cloud.run()
    assert "on fire" in str(server.view(view.id).fault) and server.id in cloud.pokes  # type: ignore[union-attr]  # None would fail the test here, as it should
    assert cloud.status(view.id) == "error"
    assert "on fire" in cloud.call("GET", "/messages").json["messages"][0]["user_message"]
    cloud.faults.fail = lambda verb: None
    server.release(view.id)
    cloud.run()
    cloud.call("DELETE", f"/volumes/{view.id}")
    cloud.run()
    assert cloud.leftovers() == []


def test_a_node_that_is_away_is_waited_for_and_then_named(cloud: VolumeCloud) -> None:
    machine = machine_of(cloud)
    machine.alive = False
    volume_id = cloud.volume()
    assert cloud.status(volume_id) == "creating"
    machine.alive = True
    cloud.run()
    assert cloud.status(volume_id) == "available"
    machine.alive = False
    cloud.act(volume_id, {"os-extend": {"new_size": 2}})
    cloud.run(1200.0)
    assert cloud.status(volume_id) == "error_extending" and cloud.see(volume_id)["size"] == 1
    assert "does not answer" in cloud.call("GET", "/messages").json["messages"][0]["user_message"]
    cloud.call("DELETE", f"/volumes/{volume_id}")
    cloud.run(1200.0)
    assert cloud.status(volume_id) == "error_deleting"
    machine.alive = True
    assert cloud.call("DELETE", f"/volumes/{volume_id}").status == 202
    cloud.run()
    assert cloud.leftovers() == []


def test_a_volume_being_copied_is_opened_by_nobody_until_the_copy_is_whole(tmp_path: Path) -> None:
    cloud = VolumeCloud(tmp_path, rounds=5)
    machine, volume_id = machine_of(cloud), cloud.volume()
    machine.block.machine.write(volume_id, "then")
    server = FakeServer(cloud, machine)
    made = cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": volume_id}})["id"]
    cloud.run(0.3)
    assert cloud.status(made, "snapshots") == "creating"
    server.reserve(volume_id)
    server.connect(volume_id)
    cloud.run(0.1)
    assert not machine.block.machine.exports and cloud.status(made, "snapshots") == "creating"
    cloud.run()
    assert machine.block.machine.exports and cloud.status(made, "snapshots") == "available"
    cloud.close()


def test_a_volume_open_on_another_node_is_not_torn_into_a_snapshot(tmp_path: Path) -> None:
    cloud = VolumeCloud(tmp_path, machines=2)
    volume_id = cloud.volume()
    home = cloud.db.read(lambda tx: facade.find_volume(tx, volume_id)).node_id  # type: ignore[union-attr]  # None would fail the test here, as it should
    elsewhere = next(m for m in cloud.machines.values() if m.id != home)
    server = FakeServer(cloud, elsewhere)
    server.attach(volume_id)
    connection = server.view(volume_id).connection  # type: ignore[union-attr]  # None would fail the test here, as it should
    assert connection is not None and connection.kind == "nbd" and connection.tls
    made = cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": volume_id}})["id"]
    cloud.run()
    assert cloud.status(made, "snapshots") == "error"
    assert "another node" in cloud.call("GET", "/messages").json["messages"][0]["user_message"]
    assert not elsewhere.hypervisor.machine.copies
    upload = cloud.act(volume_id, {"os-volume_upload_image": {"image_name": "x", "force": True}})
    cloud.run()
    image_id = upload.json["os-volume_upload_image"]["image_id"]
    assert cloud.api("GET", f"/image/v2/images/{image_id}").json["status"] == "active"
    cloud.close()


def test_a_volume_lives_near_its_server_where_there_is_room(tmp_path: Path) -> None:
    cloud = VolumeCloud(tmp_path, machines=3)
    for machine in cloud.machines.values():
        view = cloud.db.transact(lambda tx, m=machine: facade.create_volume(cloud.context(tx), size=1, node_id=m.id))
        cloud.run()
        assert cloud.db.read(lambda tx, v=view: facade.find_volume(tx, v.id)).node_id == machine.id  # type: ignore[union-attr]  # None would fail the test here, as it should
    cloud.close()


def test_an_upload_that_cannot_be_ends_with_the_reason_and_leaves_the_volume_well(cloud: VolumeCloud) -> None:
    volume_id, server = cloud.volume(), FakeServer(cloud, machine_of(cloud))
    server.reserve(volume_id)
    server.connect(volume_id)
    cloud.run()
    attachment_id = server.attachments[volume_id]
    cloud.db.transact(lambda tx: facade.complete(tx, attachment_id, "/dev/vdb", cloud.clock()))  # it says so
    upload = cloud.act(volume_id, {"os-volume_upload_image": {"image_name": "x", "force": True}})
    image_id = upload.json["os-volume_upload_image"]["image_id"]
    cloud.run(1200.0)
    assert cloud.status(volume_id) == "in-use"
    assert cloud.api("GET", f"/image/v2/images/{image_id}").json["status"] == "killed"
    assert "does not have the volume open" in cloud.call("GET", "/messages").json["messages"][0]["user_message"]
    assert cloud.inconsistencies() == []


def test_a_wish_that_failed_is_given_up_when_the_status_is_reset(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()

    def broken(verb: str) -> None:
        if verb == "ensure_volume":
            raise Broken("no space left")

    cloud.faults.fail = broken
    cloud.act(volume_id, {"os-extend": {"new_size": 5}})
    cloud.run()
    assert cloud.status(volume_id) == "error_extending"
    cloud.faults.fail = lambda verb: None
    assert cloud.act(volume_id, {"os-reset_status": {"status": "available"}}, caller="admin").status == 202
    cloud.run()
    assert (cloud.status(volume_id), cloud.see(volume_id)["size"]) == ("available", 1)
    cloud.act(volume_id, {"os-extend": {"new_size": 2}})
    cloud.run()
    assert (cloud.status(volume_id), cloud.see(volume_id)["size"]) == ("available", 2)


def test_disconnect_keeps_the_reservation_and_connect_moves_it(tmp_path: Path) -> None:
    cloud = VolumeCloud(tmp_path, machines=2)
    volume_id = cloud.volume()
    first, second = cloud.machines.values()
    server = FakeServer(cloud, first)
    server.attach(volume_id)
    attachment_id = server.attachments[volume_id]
    cloud.db.transact(lambda tx: facade.disconnect(tx, attachment_id, cloud.clock()))
    assert cloud.status(volume_id) == "reserved" and server.view(volume_id).connection is None  # type: ignore[union-attr]  # None would fail the test here, as it should
    cloud.run()
    assert not any(m.block.machine.exports for m in cloud.machines.values())
    cloud.db.transact(lambda tx: facade.connect(tx, attachment_id, second.id, cloud.clock()))
    cloud.run()
    cloud.db.transact(lambda tx: facade.connect(tx, attachment_id, first.id, cloud.clock()))
    cloud.run()
    exports = {e for m in cloud.machines.values() for e in m.block.machine.exports}
    assert exports == {(volume_id, first.id)}
    cloud.close()


def test_exports_are_made_again_when_a_node_is_back(cloud: VolumeCloud) -> None:
    machine, volume_id = machine_of(cloud), cloud.volume()
    server = FakeServer(cloud, machine)
    server.attach(volume_id)
    machine.block.machine.exports.clear()
    cloud.db.transact(lambda tx: facade.node_seen(tx, machine.id, cloud.clock()))
    cloud.run()
    assert machine.block.machine.exports == {(volume_id, machine.id)}


def test_what_is_made_from_a_snapshot_is_made_before_the_snapshot_goes(tmp_path: Path) -> None:
    cloud = VolumeCloud(tmp_path, rounds=4)
    source = cloud.volume()
    machine_of(cloud).block.machine.write(source, "kept")
    snapshot = cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": source}})["id"]
    cloud.run()
    made = cloud.made("POST", "/volumes", {"volume": {"snapshot_id": snapshot}})["id"]
    clone = cloud.made("POST", "/volumes", {"volume": {"source_volid": source}})["id"]
    assert cloud.call("DELETE", f"/volumes/{source}?cascade=true").status == 202
    cloud.run(600.0)
    disk = machine_of(cloud).block.machine
    assert disk.read(made) == disk.read(clone) == "kept"
    assert cloud.call("GET", f"/volumes/{source}").status == 404
    cloud.close()


def test_a_server_deleted_with_a_volume_that_has_snapshots_leaves_the_volume(cloud: VolumeCloud) -> None:
    volume_id = cloud.volume()
    cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": volume_id}})
    cloud.run()
    cloud.db.transact(lambda tx: facade.delete_volume(tx, volume_id, cloud.clock()))
    cloud.run()
    assert cloud.status(volume_id) == "available"


def test_what_failed_while_a_node_was_away_lets_go_of_the_volume_when_it_is_back(tmp_path: Path) -> None:
    cloud = VolumeCloud(tmp_path, rounds=5)
    machine, volume_id = machine_of(cloud), cloud.volume()
    FakeServer(cloud, machine).attach(volume_id)
    made = cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": volume_id, "force": True}})["id"]
    cloud.run(0.3)
    machine.alive = False
    cloud.run(1800.0)
    assert cloud.status(made, "snapshots") == "error"
    machine.alive = True
    cloud.run()
    assert cloud.act(volume_id, {"os-extend": {"new_size": 2}}).status == 202
    cloud.run()
    assert (cloud.status(volume_id), cloud.see(volume_id)["size"]) == ("in-use", 2)
    cloud.close()


def test_a_volume_whose_snapshot_cannot_be_removed_says_so_soon(cloud: VolumeCloud) -> None:
    machine, volume_id = machine_of(cloud), cloud.volume()
    snapshot = cloud.made("POST", "/snapshots", {"snapshot": {"volume_id": volume_id}})["id"]
    cloud.run()
    machine.alive = False
    assert cloud.call("DELETE", f"/volumes/{volume_id}?cascade=true").status == 202
    cloud.run(1200.0)
    assert cloud.status(volume_id) == "error_deleting"
    told = [message["user_message"] for message in cloud.call("GET", "/messages").json["messages"]]
    assert any(f"snapshot {snapshot} could not be removed" in text for text in told), told
    machine.alive = True
    assert cloud.call("DELETE", f"/volumes/{volume_id}?cascade=true").status == 202
    cloud.run()
    assert cloud.leftovers() == []
