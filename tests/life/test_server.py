"""What a server's life promises, seen through the API over fake machines."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pileus.compute.drivers import Capabilities
from server_cloud import COMPUTE, VOLUME, ServerCloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[ServerCloud]:
    made = ServerCloud(tmp_path)
    yield made
    assert not made.untouched()
    made.close()


def test_a_server_is_built_and_leaves_nothing_when_it_is_deleted(cloud: ServerCloud) -> None:
    before = cloud.leftovers()
    server = cloud.boot()
    assert cloud.status(server) == "ACTIVE"
    guest = cloud.guest(server)
    assert guest.power == "on" and guest.disks == ("root.0",) and len(guest.nics) == 1
    assert (guest.vcpus, guest.ram_mib) == (1, 192)
    cloud.delete(server)
    assert cloud.leftovers() == before


def test_a_request_that_fits_nowhere_says_for_each_host_what_was_missing(tmp_path: Path) -> None:
    small = Capabilities(vcpus=1, ram_mib=128, disk_gib=1, accelerator="fake")
    cloud = ServerCloud(tmp_path, nodes=2, capabilities=small)
    server = cloud.boot({"flavorRef": "micro"})
    shown = cloud.show(server)
    assert shown["status"] == "ERROR"
    message = shown["fault"]["message"]
    assert message.startswith("No valid host was found. ")
    for node in ("node1", "node2"):
        assert f"{node}: " in message
    assert "VCPU: 2 wanted" in message and "DISK_GB: 2 wanted" in message and "MEMORY_MB: 256 wanted" in message
    cloud.delete(server)
    cloud.close()


def test_power_actions_reach_the_guest(cloud: ServerCloud) -> None:
    server = cloud.boot()
    for action, body, status, power in (
        ("os-stop", None, "SHUTOFF", "off"),
        ("os-start", None, "ACTIVE", "on"),
        ("pause", None, "PAUSED", "paused"),
        ("unpause", None, "ACTIVE", "on"),
        ("suspend", None, "SUSPENDED", "suspended"),
        ("resume", None, "ACTIVE", "on"),
    ):
        assert cloud.do(server, action, body) == status, action
        assert cloud.guest(server).power == power, action
    assert cloud.do(server, "reboot", {"type": "SOFT"}) == "ACTIVE"
    assert cloud.do(server, "reboot", {"type": "HARD"}) == "ACTIVE"
    guest = cloud.guest(server)
    assert (guest.reboots, guest.resets) == (1, 1)


def test_what_is_asked_shows_at_once_and_what_does_not_fit_is_refused(cloud: ServerCloud) -> None:
    server = cloud.boot()
    assert cloud.act(server, "os-stop").status == 202
    assert cloud.status(server) == "ACTIVE powering-off"
    refused = cloud.act(server, "os-stop")
    assert refused.status == 409
    assert refused.json["conflictingRequest"]["message"] == (
        f"Cannot 'stop' instance {server} while it is in task_state powering-off"
    )
    cloud.run()
    assert cloud.act(server, "pause").json["conflictingRequest"]["message"] == (
        f"Cannot 'pause' instance {server} while it is in vm_state stopped"
    )


def test_a_guest_that_shuts_itself_down_is_off_until_it_is_started(cloud: ServerCloud) -> None:
    server = cloud.boot()
    cloud.machine().shut_down(server)
    cloud.report()
    cloud.run()
    assert cloud.status(server) == "SHUTOFF"
    assert cloud.do(server, "os-start") == "ACTIVE"
    assert cloud.guest(server).power == "on"


def test_a_guest_that_crashes_runs_again(cloud: ServerCloud) -> None:
    server = cloud.boot()
    cloud.machine().crash(server)
    cloud.report()
    cloud.run()
    assert cloud.status(server) == "ACTIVE" and cloud.guest(server).power == "on"


def test_after_a_host_reboot_the_guests_that_ran_run_again(cloud: ServerCloud) -> None:
    runs, stopped = cloud.boot(), cloud.boot({"name": "two"})
    cloud.do(stopped, "os-stop")
    next(iter(cloud.nodes.values())).reboot()
    cloud.later(120)
    cloud.report()
    cloud.run()
    assert cloud.status(runs) == "ACTIVE" and cloud.guest(runs).power == "on"
    assert cloud.status(stopped) == "SHUTOFF" and cloud.guest(stopped).power == "off"


def test_a_node_that_refuses_is_left_and_another_is_taken(tmp_path: Path) -> None:
    cloud = ServerCloud(tmp_path, nodes=2)
    first = min(cloud.nodes)
    stubborn = cloud.nodes[first].hypervisor
    stubborn._capabilities = Capabilities(vcpus=0, ram_mib=1 << 20, disk_gib=1, accelerator="fake")
    others = []
    for number in range(2):
        server = cloud.boot({"name": f"s{number}"})
        assert cloud.status(server) == "ACTIVE"
        others.append(cloud.show(server)["OS-EXT-SRV-ATTR:host"])
    assert set(others) == {next(n.name for n in cloud.nodes.values() if n.id != first)}
    assert not stubborn.list_guests()
    assert not cloud.untouched()
    cloud.close()


def test_when_every_node_refuses_the_fault_tells_what_each_said(tmp_path: Path) -> None:
    cloud = ServerCloud(tmp_path, nodes=2)
    for node in cloud.nodes.values():
        node.hypervisor._capabilities = Capabilities(vcpus=0, ram_mib=1 << 20, disk_gib=1, accelerator="fake")
    shown = cloud.show(cloud.boot())
    assert shown["status"] == "ERROR"
    assert "node1: 1 vCPUs wanted" in shown["fault"]["message"] and "node2: 1 vCPUs" in shown["fault"]["message"]
    assert shown["OS-EXT-SRV-ATTR:host"] is None
    assert not cloud.untouched()
    cloud.close()


def test_an_image_that_cannot_be_used_is_a_fault_and_a_rebuild_with_another_cures_it(cloud: ServerCloud) -> None:
    bad = cloud.make_image("bad")
    cloud.machine().broken[bad] = "the image refers to other files"
    server = cloud.boot({"imageRef": bad})
    assert cloud.show(server)["fault"]["message"] == "the image refers to other files"
    assert cloud.do(server, "rebuild", {"imageRef": cloud.image}) == "ACTIVE"


def test_rebuild_gives_new_disks_and_keeps_addresses(cloud: ServerCloud) -> None:
    server, other = cloud.boot(), cloud.make_image("other")
    before = cloud.show(server)["addresses"]
    assert cloud.do(server, "rebuild", {"imageRef": other, "name": "renamed"}) == "ACTIVE"
    shown = cloud.show(server)
    assert shown["image"]["id"] == other and shown["name"] == "renamed" and shown["addresses"] == before
    guest = cloud.machine().guests[server]
    assert list(guest.local) == ["root.1"] and guest.local["root.1"].image is not None
    assert guest.local["root.1"].image.id == other


def test_resize_is_confirmed(cloud: ServerCloud) -> None:
    server = cloud.boot()
    assert cloud.do(server, "resize", {"flavorRef": "micro"}) == "VERIFY_RESIZE"
    guest = cloud.machine().guests[server]
    assert (guest.seen.vcpus, guest.seen.ram_mib) == (2, 256)
    assert set(guest.local) == {"root.0", "root.1"} and guest.local["root.1"].size_gib == 2
    used = cloud.call("GET", f"/placement/allocations/{server}", caller="admin")
    assert cloud.do(server, "confirmResize") == "ACTIVE", used
    assert list(cloud.machine().guests[server].local) == ["root.1"]
    assert cloud.show(server)["flavor"]["original_name"] == "micro"


def test_resize_is_reverted(cloud: ServerCloud) -> None:
    server = cloud.boot()
    cloud.do(server, "resize", {"flavorRef": "micro"})
    assert cloud.do(server, "revertResize") == "ACTIVE"
    guest = cloud.machine().guests[server]
    assert (guest.seen.vcpus, guest.seen.ram_mib) == (1, 192) and list(guest.local) == ["root.0"]
    assert cloud.do(server, "resize", {"flavorRef": "micro"}) == "VERIFY_RESIZE"
    assert set(cloud.machine().guests[server].local) == {"root.0", "root.2"}
    cloud.delete(server)


def test_a_resize_that_does_not_fit_leaves_the_server_as_it_was(tmp_path: Path) -> None:
    cloud = ServerCloud(tmp_path, capabilities=Capabilities(vcpus=1, ram_mib=4096, disk_gib=8, accelerator="fake"))
    server = cloud.boot()
    assert cloud.do(server, "resize", {"flavorRef": "micro"}) == "ACTIVE"
    assert cloud.guest(server).power == "on" and cloud.show(server)["flavor"]["original_name"] == "nano"
    actions = cloud.call("GET", f"{COMPUTE}/servers/{server}/os-instance-actions").json["instanceActions"]
    assert actions[0]["action"] == "resize" and "VCPU" in actions[0]["message"]
    assert not cloud.untouched()
    cloud.close()


def test_rescue_runs_from_another_disk_and_back(cloud: ServerCloud) -> None:
    server = cloud.boot()
    assert cloud.do(server, "rescue") == "RESCUE"
    assert cloud.guest(server).disks == ("rescue.1", "root.0")
    assert cloud.do(server, "unrescue") == "ACTIVE"
    assert cloud.guest(server).disks == ("root.0",)


def test_a_snapshot_becomes_an_image_and_leaves_no_copy(cloud: ServerCloud) -> None:
    server = cloud.boot()
    answer = cloud.act(server, "createImage", {"name": "snap", "metadata": {"a": "b"}})
    assert answer.status == 202
    assert cloud.status(server) == "ACTIVE image_snapshot"
    cloud.run()
    image = cloud.call("GET", f"/image/v2/images/{answer.json['image_id']}").json
    assert image["status"] == "active" and image["a"] == "b" and image["instance_uuid"] == server
    assert cloud.status(server) == "ACTIVE" and not cloud.machine().copies
    again = cloud.boot({"imageRef": image["id"]})
    assert cloud.status(again) == "ACTIVE"


def test_deleting_a_server_gives_up_the_image_being_made(cloud: ServerCloud) -> None:
    server = cloud.boot()
    next(iter(cloud.nodes.values())).hypervisor._rounds = 5  # so that the copy takes a while
    image = cloud.act(server, "createImage", {"name": "snap"}).json["image_id"]
    cloud.delete(server)
    assert cloud.call("GET", f"/image/v2/images/{image}").json["status"] in ("killed", "deleted")
    assert not cloud.machine().copies


def test_shelving_frees_the_node_and_unshelving_brings_the_server_back(cloud: ServerCloud) -> None:
    server = cloud.boot()
    assert cloud.do(server, "shelve") == "SHELVED_OFFLOADED"
    shown = cloud.show(server)
    assert shown["OS-EXT-SRV-ATTR:host"] is None and not cloud.machine().guests
    assert not cloud.call("GET", f"/placement/allocations/{server}", caller="admin").json["allocations"]
    images = cloud.call("GET", "/image/v2/images?name=one-shelved").json["images"]
    assert len(images) == 1
    assert cloud.do(server, "unshelve") == "ACTIVE"
    assert cloud.machine().guests[server].local["root.1"].image.id == images[0]["id"]  # type: ignore[union-attr]  # None would fail the test here, as it should
    assert not cloud.call("GET", "/image/v2/images?name=one-shelved").json["images"]


def test_a_shelving_whose_image_could_not_be_made_is_given_up_when_the_server_is_asked_to_run(
    cloud: ServerCloud,
) -> None:
    server = cloud.boot()
    next(iter(cloud.nodes.values())).hypervisor._rounds = 5  # so that the copy takes a while
    assert cloud.act(server, "shelve").status == 202
    (image,) = cloud.call("GET", "/image/v2/images?name=one-shelved").json["images"]
    assert cloud.call("DELETE", f"/image/v2/images/{image['id']}").status == 204
    cloud.run()
    assert cloud.show(server)["fault"]["message"] == "the image of the shelved server could not be made"
    assert cloud.do(server, "reboot", {"type": "HARD"}) == "ACTIVE" and cloud.guest(server).power == "on"
    assert cloud.do(server, "shelve") == "SHELVED_OFFLOADED"
    assert cloud.do(server, "unshelve") == "ACTIVE"


def test_a_shelved_server_is_deleted_with_its_image(cloud: ServerCloud) -> None:
    before = cloud.leftovers()
    server = cloud.boot()
    cloud.do(server, "shelve")
    cloud.delete(server)
    assert cloud.leftovers() == before


def test_backups_rotate(cloud: ServerCloud) -> None:
    server = cloud.boot()
    made = []
    for number in range(3):
        body = {"name": f"b{number}", "backup_type": "daily", "rotation": 2}
        made.append(cloud.act(server, "createBackup", body).json["image_id"])
        cloud.run()
        cloud.later(10)
    left = {image["id"] for image in cloud.call("GET", "/image/v2/images?backup_type=daily").json["images"]}
    assert left == set(made[1:])


def test_a_volume_is_attached_while_running_and_comes_back_available(cloud: ServerCloud) -> None:
    server, volume = cloud.boot(), cloud.make_volume()
    answer = cloud.call("POST", f"{COMPUTE}/servers/{server}/os-volume_attachments",
                        {"volumeAttachment": {"volumeId": volume}})  # fmt: skip
    assert answer.status == 200 and answer.json["volumeAttachment"]["device"] == "/dev/vdb"
    cloud.run()
    assert cloud.volume(volume)["status"] == "in-use" and volume in cloud.guest(server).disks
    cloud.call("POST", f"{VOLUME}/volumes/{volume}/action", {"os-extend": {"new_size": 2}}, version="volume 3.42")
    cloud.run()
    assert cloud.volume(volume)["size"] == 2
    assert cloud.call("DELETE", f"{COMPUTE}/servers/{server}/os-volume_attachments/{volume}").status == 202
    cloud.run()
    assert cloud.volume(volume)["status"] == "available" and volume not in cloud.guest(server).disks


def test_a_guest_that_keeps_a_device_is_none_the_worse_for_it_and_may_be_asked_again(cloud: ServerCloud) -> None:
    server, volume = cloud.boot(), cloud.make_volume()
    path = f"{COMPUTE}/servers/{server}/os-volume_attachments"
    cloud.call("POST", path, {"volumeAttachment": {"volumeId": volume}})
    cloud.run()
    hypervisor: Any = next(iter(cloud.nodes.values())).hypervisor
    hypervisor.ensure_guest = lambda guest: None
    assert cloud.call("DELETE", f"{path}/{volume}").status == 202
    cloud.run(600.0)
    assert cloud.status(server) == "ACTIVE" and cloud.volume(volume)["status"] == "in-use"
    told = cloud.call("GET", f"{COMPUTE}/servers/{server}/os-instance-actions").json["instanceActions"][0]
    assert told["action"] == "detach_volume" and f"the guest has not let go of {volume}" in told["message"]
    del hypervisor.ensure_guest
    assert cloud.call("DELETE", f"{path}/{volume}").status == 202
    cloud.run()
    assert cloud.volume(volume)["status"] == "available"


def test_booting_from_a_new_volume(cloud: ServerCloud) -> None:
    before = cloud.leftovers()
    mapping = [{"boot_index": 0, "source_type": "image", "destination_type": "volume", "uuid": cloud.image,
                "volume_size": 1, "delete_on_termination": True}]  # fmt: skip
    server = cloud.boot({"imageRef": None, "block_device_mapping_v2": mapping})
    assert cloud.status(server) == "ACTIVE"
    shown = cloud.show(server)
    assert shown["image"] == "" and len(shown["os-extended-volumes:volumes_attached"]) == 1
    volume = shown["os-extended-volumes:volumes_attached"][0]["id"]
    assert cloud.guest(server).disks == (volume,)
    assert cloud.do(server, "shelve") == "SHELVED_OFFLOADED"
    assert cloud.do(server, "unshelve") == "ACTIVE"
    cloud.delete(server)
    cloud.run()
    assert cloud.leftovers() == before
    assert cloud.call("GET", f"{VOLUME}/volumes/{volume}").status == 404


def test_an_image_of_a_volume_backed_server_boots_another(cloud: ServerCloud) -> None:
    mapping = [{"boot_index": 0, "source_type": "image", "destination_type": "volume", "uuid": cloud.image,
                "volume_size": 1, "delete_on_termination": True}]  # fmt: skip
    server = cloud.boot({"imageRef": None, "block_device_mapping_v2": mapping})
    image = cloud.act(server, "createImage", {"name": "backed"}).json["image_id"]
    cloud.run()
    assert cloud.call("GET", f"/image/v2/images/{image}").json["status"] == "active"
    again = cloud.boot({"imageRef": image})
    assert cloud.status(again) == "ACTIVE"
    assert len(cloud.show(again)["os-extended-volumes:volumes_attached"]) == 1


def test_a_volume_backed_server_is_rebuilt_in_its_volume(cloud: ServerCloud) -> None:
    mapping = [{"boot_index": 0, "source_type": "image", "destination_type": "volume", "uuid": cloud.image,
                "volume_size": 1}]  # fmt: skip
    server, other = cloud.boot({"imageRef": None, "block_device_mapping_v2": mapping}), cloud.make_image("other")
    volume = cloud.guest(server).disks
    next(iter(cloud.nodes.values())).block._rounds = 3  # exports and images take their time
    assert cloud.do(server, "rebuild", {"imageRef": other}) == "ACTIVE"
    assert cloud.guest(server).disks == volume
    assert cloud.volume(volume[0])["volume_image_metadata"]["image_id"] == other


def test_interfaces_come_and_go_while_running(cloud: ServerCloud) -> None:
    server, second = cloud.boot(), cloud.make_network("second", "10.8.0.0/24")
    made = cloud.call("POST", f"{COMPUTE}/servers/{server}/os-interface", {"interfaceAttachment": {"net_id": second}})
    assert made.status == 200
    port = made.json["interfaceAttachment"]["port_id"]
    cloud.run()
    assert port in cloud.guest(server).nics
    listed = cloud.call("GET", f"{COMPUTE}/servers/{server}/os-interface").json["interfaceAttachments"]
    assert {one["port_state"] for one in listed} == {"ACTIVE"} and len(listed) == 2
    assert cloud.call("DELETE", f"{COMPUTE}/servers/{server}/os-interface/{port}").status == 202
    cloud.run()
    assert port not in cloud.guest(server).nics
    assert cloud.call("GET", f"/networking/v2.0/ports/{port}").status == 404


def test_a_given_port_outlives_its_server(cloud: ServerCloud) -> None:
    port = cloud.call("POST", "/networking/v2.0/ports", {"port": {"network_id": cloud.network}}).json["port"]["id"]
    server = cloud.boot({"networks": [{"port": port}]})
    assert cloud.guest(server).nics == (port,)
    cloud.delete(server)
    kept = cloud.call("GET", f"/networking/v2.0/ports/{port}").json["port"]
    assert kept["device_id"] == "" and kept["status"] == "DOWN"


def test_a_port_deleted_under_its_server_leaves_the_guest(cloud: ServerCloud) -> None:
    server = cloud.boot()
    (port,) = cloud.guest(server).nics
    assert cloud.call("DELETE", f"/networking/v2.0/ports/{port}").status == 204
    cloud.run()
    assert cloud.guest(server).nics == () and cloud.status(server) == "ACTIVE"


def test_a_server_can_be_deleted_in_the_middle_of_anything(cloud: ServerCloud) -> None:
    before = cloud.leftovers()
    server = str(cloud.ask().json["server"]["id"])
    for _ in range(3):
        cloud.worker.run_one()
    cloud.delete(server)
    server = cloud.boot()
    assert cloud.act(server, "resize", {"flavorRef": "micro"}).status == 202
    cloud.worker.run_one()
    cloud.delete(server)
    assert cloud.leftovers() == before


def test_reset_state_shows_error_and_the_next_look_tells_the_truth(cloud: ServerCloud) -> None:
    server = cloud.boot()
    assert cloud.do(server, "os-resetState", {"state": "error"}, caller="admin") == "ERROR"
    assert cloud.do(server, "os-resetState", {"state": "active"}, caller="admin") == "ACTIVE"
    cloud.do(server, "os-resetState", {"state": "error"}, caller="admin")
    assert cloud.do(server, "reboot", {"type": "HARD"}) == "ACTIVE"


def test_a_delete_waits_for_a_node_that_is_away_and_ends_when_it_is_back(cloud: ServerCloud) -> None:
    server = cloud.boot()
    node = next(iter(cloud.nodes.values()))
    node.alive = False
    assert cloud.call("DELETE", f"{COMPUTE}/servers/{server}").status == 204
    cloud.run(3600.0)
    assert cloud.call("GET", f"{COMPUTE}/servers/{server}").status == 200
    node.alive = True
    cloud.report()
    cloud.run()
    assert cloud.call("GET", f"{COMPUTE}/servers/{server}").status == 404
