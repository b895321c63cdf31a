"""Actions: who may, in which states, and what is answered to the rest."""

from collections.abc import Iterator
from typing import Any

import pytest

from server_cloud import COMPUTE, LATEST, ServerCloud

UNKNOWN = "11111111-2222-4333-8444-555555555555"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerCloud]:
    made = ServerCloud(tmp_path_factory.mktemp("actions"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def active(cloud: ServerCloud) -> str:
    return cloud.boot({"name": "active"})


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("os-start", None),
        ("unpause", None),
        ("resume", None),
        ("unrescue", None),
        ("unshelve", None),
        ("confirmResize", None),
        ("revertResize", None),
        ("restore", None),
        ("changePassword", {"adminPass": "x"}),
    ],
)
def test_an_active_server_refuses(cloud: ServerCloud, active: str, action: str, body: Any) -> None:
    answer = cloud.act(active, action, body)
    assert answer.status == 409 and active in answer.json["conflictingRequest"]["message"], answer


@pytest.mark.parametrize(
    ("action", "body", "status"),
    [
        ("reboot", {"type": "MEDIUM"}, 400),
        ("reboot", {}, 400),
        ("resize", {"flavorRef": "none"}, 400),
        ("resize", {"flavorRef": "nano"}, 400),
        ("resize", {}, 400),
        ("rebuild", {"imageRef": UNKNOWN}, 400),
        ("rebuild", {"imageRef": "x"}, 400),
        ("rescue", {"rescue_image_ref": UNKNOWN}, 400),
        ("createImage", {"name": ""}, 400),
        ("createImage", {}, 400),
        ("createBackup", {"name": "b", "backup_type": "d", "rotation": -1}, 400),
        ("lock", {"locked_reason": ""}, 400),
        ("os-start", {"a": 1}, 409),
        ("nothing", None, 400),
        ("addSecurityGroup", {"name": "none"}, 404),
        ("removeSecurityGroup", {"name": "none"}, 404),
        ("os-resetState", {"state": "active"}, 403),
        ("migrate", None, 403),
        ("os-migrateLive", {"host": None}, 403),
        ("evacuate", {}, 403),
        ("shelveOffload", None, 403),
    ],
)
def test_wrong_requests_and_other_peoples_actions(
    cloud: ServerCloud, active: str, action: str, body: Any, status: int
) -> None:
    answer = cloud.act(active, action, body)
    assert answer.status == status, answer


def test_two_actions_at_once_are_none(cloud: ServerCloud, active: str) -> None:
    path = f"{COMPUTE}/servers/{active}/action"
    assert cloud.call("POST", path, {"os-start": None, "os-stop": None}).status == 400
    assert cloud.call("POST", path, {}).status == 400
    assert cloud.call("POST", path, ["os-stop"]).status == 400
    assert cloud.call("POST", f"{COMPUTE}/servers/{UNKNOWN}/action", {"os-stop": None}).status == 404


def test_administrators_hear_why_a_server_is_not_moved(cloud: ServerCloud, active: str) -> None:
    for action, body in (("migrate", None), ("os-migrateLive", {"host": None, "block_migration": "auto"}),
                         ("evacuate", {})):  # fmt: skip
        answer = cloud.act(active, action, body, caller="admin")
        assert answer.status == 400 and answer.json["badRequest"]["message"], action


def test_a_disk_does_not_shrink(cloud: ServerCloud) -> None:
    server = cloud.boot({"flavorRef": "micro"})
    answer = cloud.act(server, "resize", {"flavorRef": "nano"})
    assert answer.status == 400 and answer.json["badRequest"]["message"] == "Unable to resize disk down."
    cloud.delete(server)


def test_a_lock_holds_everybody_but_administrators(cloud: ServerCloud) -> None:
    server = cloud.boot()
    assert cloud.act(server, "lock", {"locked_reason": "mine"}).status == 202
    shown = cloud.show(server)
    assert shown["locked"] is True and shown["locked_reason"] == "mine"
    for answer in (
        cloud.act(server, "os-stop"),
        cloud.act(server, "rebuild", {"imageRef": cloud.image}),
        cloud.call("DELETE", f"{COMPUTE}/servers/{server}"),
        cloud.call("POST", f"{COMPUTE}/servers/{server}/os-interface", {}),
    ):
        assert answer.status == 409 and answer.json["conflictingRequest"]["message"] == f"Instance {server} is locked"
    assert cloud.act(server, "os-stop", caller="admin").status == 202
    cloud.run()
    assert cloud.act(server, "unlock").status == 202
    assert cloud.act(server, "lock", caller="admin").status == 202
    assert cloud.act(server, "unlock").status == 403
    assert cloud.act(server, "unlock", caller="admin").status == 202
    cloud.delete(server)


def test_before_their_version_actions_have_other_shapes(cloud: ServerCloud, active: str) -> None:
    assert cloud.act(active, "lock", {"locked_reason": "x"}, version="compute 2.72").status == 202
    assert cloud.act(active, "unlock").status == 202
    made = cloud.act(active, "createImage", {"name": "old"}, version="compute 2.1")
    assert made.status == 202 and not made.raw and "/image/v2/images/" in made.headers["location"]
    cloud.run()
    assert cloud.act(active, "os-getVNCConsole", {"type": "novnc"}, version="compute 2.6").status == 400


def test_volume_backed_servers_are_rescued_from_images_that_say_how(cloud: ServerCloud) -> None:
    root = [{"boot_index": 0, "source_type": "image", "destination_type": "volume", "uuid": cloud.image,
             "volume_size": 1, "delete_on_termination": True}]  # fmt: skip
    server, volume = cloud.boot({"imageRef": None, "block_device_mapping_v2": root}), ""
    (volume,) = cloud.guest(server).disks
    assert cloud.act(server, "rescue", {"rescue_image_ref": cloud.image}, version="compute 2.86").status == 400
    assert cloud.act(server, "rescue", {"rescue_image_ref": cloud.image}).status == 400
    usb = cloud.make_image("usb", hw_rescue_bus="usb", hw_rescue_device="disk")
    assert cloud.do(server, "rescue", {"rescue_image_ref": usb}) == "RESCUE"
    assert cloud.guest(server).disks == ("rescue.1", volume)
    detach = cloud.call("DELETE", f"{COMPUTE}/servers/{server}/os-volume_attachments/{volume}", version=LATEST)
    assert detach.status == 409
    assert cloud.do(server, "unrescue") == "ACTIVE"
    cloud.delete(server)


def test_a_reader_sees_and_changes_nothing(cloud: ServerCloud, active: str) -> None:
    assert cloud.call("GET", f"{COMPUTE}/servers/{active}", caller="reader").status == 200
    assert cloud.act(active, "os-stop", caller="reader").status == 403
    assert cloud.act(active, "os-stop", caller="other").status == 404
    assert cloud.call("DELETE", f"{COMPUTE}/servers/{active}", caller="reader").status == 403


def test_unshelve_goes_where_it_is_told(cloud: ServerCloud) -> None:
    server = cloud.boot()
    cloud.do(server, "shelve")
    assert cloud.act(server, "unshelve", {"availability_zone": "moon"}).status == 400
    assert cloud.act(server, "unshelve", {"host": "node1"}).status == 403
    assert cloud.act(server, "unshelve", {}, version=LATEST).status == 400
    assert cloud.do(server, "unshelve", {"availability_zone": "nova", "host": "node1"}, caller="admin") == "ACTIVE"
    assert cloud.show(server)["pinned_availability_zone"] == "nova"
    cloud.delete(server)
