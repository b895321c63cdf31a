"""`pileus verify` finds what nobody owns on a node, and servers that are not as they are shown."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from pileus.core.ids import new_id
from pileus.roles import nodes_compared, verification
from server_cloud import ServerCloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[ServerCloud]:
    made = ServerCloud(tmp_path)
    yield made
    made.close()


def contradictions(cloud: ServerCloud) -> list[str]:
    return list(verification.contradictions(cloud.db, cloud.hub, cloud.now))


def powers(cloud: ServerCloud) -> list[str]:
    return list(nodes_compared.powers(cloud.db, cloud.hub))


@pytest.mark.parametrize(("kind", "where"), [("copy of a disk", "copies"), ("draft of image", "rounds")])
def test_files_of_nobody_on_a_node_are_named(cloud: ServerCloud, kind: str, where: str) -> None:
    cloud.boot()
    assert contradictions(cloud) == []
    stranger, machine = new_id(), cloud.machine()
    if where == "copies":
        machine.copies[stranger] = b"left behind"
    else:
        machine.rounds["image", stranger] = 1
    assert contradictions(cloud) == [f"node node1: {kind} {stranger} is nobody's"]


def test_a_copy_that_an_image_is_being_made_of_is_not_strange(cloud: ServerCloud) -> None:
    server_id = cloud.boot()
    assert cloud.act(server_id, "createImage", {"name": "frozen"}).status in (200, 202)
    seen = 0
    while cloud.worker.run_one():
        seen += bool(cloud.machine().copies)
        assert not [line for line in contradictions(cloud) if "copy of a disk" in line]
    assert seen
    cloud.run()
    assert contradictions(cloud) == []


def test_a_server_that_is_not_as_it_is_shown_is_named(cloud: ServerCloud) -> None:
    server_id = cloud.boot()
    assert powers(cloud) == []
    cloud.machine().crash(server_id)
    assert powers(cloud) == [f"server {server_id} is shown as on, but its guest on node node1 is crashed"]
    del cloud.machine().guests[server_id]
    assert powers(cloud) == [f"server {server_id} is shown as on, but its guest on node node1 is gone"]


def test_a_guest_that_runs_though_its_server_is_shown_as_off_is_named(cloud: ServerCloud) -> None:
    server_id = cloud.boot()
    assert cloud.do(server_id, "os-stop") == "SHUTOFF" and powers(cloud) == []
    guest = cloud.machine().guests[server_id]
    guest.seen = structs.replace(guest.seen, power="on", pid=77)
    assert powers(cloud) == [f"server {server_id} is shown as off, but its guest on node node1 is on"]


def test_only_what_every_look_finds_within_the_grace_time_counts() -> None:
    looks = iter([["stays", "passes"], ["stays"], ["stays", "comes"]])
    assert verification.lasting(lambda: next(looks, ["stays"]), 0.05, pause=0.01) == {"stays"}
    assert verification.lasting(list, 1e9) == set()
