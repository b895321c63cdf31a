"""POST /servers: what it makes, and what it refuses in the reference's words, leaving nothing behind."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server_cloud import COMPUTE, LATEST, NETWORK, ServerCloud

UNKNOWN = "11111111-2222-4333-8444-555555555555"
ROWS = ("servers", "server_nics", "server_volumes", "ports", "volumes", "volume_attachments", "server_tags")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerCloud]:
    made = ServerCloud(tmp_path_factory.mktemp("create"), nodes=2)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _emptied(cloud: ServerCloud) -> Iterator[None]:
    yield
    for one in cloud.call("GET", f"{COMPUTE}/servers?all_tenants=1", caller="admin").json["servers"]:
        cloud.call("DELETE", f"{COMPUTE}/servers/{one['id']}", caller="admin")
    cloud.run()


def rows(cloud: ServerCloud) -> list[int]:
    return [cloud.db.read(lambda tx, t=t: tx.one(f"select count(*) from {t}")[0]) for t in ROWS]  # type: ignore[misc]  # a default binds the loop's value, whose type mypy does not infer


def volume(source: str, uuid: str | None = None, size: int | None = 1, index: int | None = 0, **more: Any) -> Any:
    """One item of block_device_mapping_v2 whose destination is a volume."""
    item = {"source_type": source, "destination_type": "volume", "uuid": uuid, "volume_size": size,
            "boot_index": index, **more}  # fmt: skip
    return {key: value for key, value in item.items() if value is not None}


def test_everything_that_can_be_said_is_kept(cloud: ServerCloud) -> None:
    data = base64.b64encode(b"#!/bin/sh\n").decode()
    cloud.call("POST", f"{COMPUTE}/os-keypairs", {"keypair": {"name": "k", "public_key": KEY}})
    asked = {
        "metadata": {"role": "web"}, "user_data": data, "key_name": "k", "config_drive": True, "description": "first",
        "tags": ["a", "b"], "accessIPv4": "192.0.2.1", "hostname": "web-1", "security_groups": [{"name": "default"}],
        "OS-DCF:diskConfig": "AUTO", "availability_zone": "nova", "adminPass": "secret",
    }  # fmt: skip
    answer = cloud.ask(asked)
    made = answer.json["server"]
    assert made["adminPass"] == "secret" and answer.headers["location"].endswith(f"/servers/{made['id']}")
    cloud.run()
    shown = cloud.show(made["id"])
    assert shown["metadata"] == {"role": "web"} and shown["description"] == "first" and shown["tags"] == ["a", "b"]
    assert shown["key_name"] == "k" and shown["config_drive"] == "True" and shown["accessIPv4"] == "192.0.2.1"
    assert shown["OS-EXT-SRV-ATTR:hostname"] == "web-1" and shown["OS-EXT-SRV-ATTR:user_data"] == data
    assert shown["pinned_availability_zone"] == "nova" and shown["OS-DCF:diskConfig"] == "AUTO"
    assert shown["security_groups"] == [{"name": "default"}]


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILsCHNNcGbKmcYzWZcbPCZnZlPQGXVzCNoAlyWZyyJKU one"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"flavorRef": "none"}, 400, "Flavor none could not be found."),
        ({"imageRef": None}, 400, "Missing imageRef attribute"),
        ({"imageRef": UNKNOWN}, 400, "Can not find requested image"),
        ({"key_name": "none"}, 400, "Invalid key_name provided."),
        ({"networks": [{"uuid": UNKNOWN}]}, 400, f"Network {UNKNOWN} could not be found."),
        ({"networks": [{"port": UNKNOWN}]}, 400, f"Port id {UNKNOWN} could not be found."),
        ({"security_groups": [{"name": "none"}]}, 400, "none"),
        ({"availability_zone": "moon"}, 400, "The requested availability zone is not available"),
        ({"availability_zone": "nova:node1"}, 403, "create:forced_host"),
        ({"host": "node1"}, 403, "requested_destination"),
        ({"min_count": 3, "max_count": 2}, 400, "min_count must be <= max_count"),
        ({"max_count": 2, "hostname": "same"}, 400, "single hostname"),
        ({"trusted_image_certificates": [UNKNOWN]}, 400, "signatures"),
        ({"min_count": 11}, 403, "Quota exceeded"),
        ({"user_data": "not base64!"}, 400, "user_data"),
        ({"name": ""}, 400, "name"),
        ({"name": "x" * 256}, 400, "name"),
        ({"name": "new\nline"}, 400, "name"),
        ({"unknown": 1}, 400, "unknown"),
        ({"networks": "some"}, 400, "networks"),
        ({"metadata": {"k": 1}}, 400, "metadata"),
        ({"tags": ["a,b"]}, 400, "tags"),
        ({"personality": []}, 400, "personality"),
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_stays(
    cloud: ServerCloud, body: dict[str, Any], status: int, says: str
) -> None:
    before = rows(cloud)
    answer = cloud.ask(body)
    assert answer.status == status, answer
    (fault,) = answer.json.values()
    assert says in fault["message"] and fault["code"] == status
    assert rows(cloud) == before


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ([volume("volume", UNKNOWN)], f"failed to get volume {UNKNOWN}."),
        ([volume("snapshot", UNKNOWN)], f"failed to get snapshot {UNKNOWN}."),
        ([volume("image", UNKNOWN)], f"failed to get image {UNKNOWN}."),
        ([volume("blank", size=None)], "Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size"),
        ([volume("blank", index=1)], "Boot sequence"),
        ([volume("blank", index=0), volume("blank", index=0)], "Boot sequence"),
        ([volume("blank", index=0), volume("blank", index=2)], "Boot sequence"),
        ([volume("volume")], "Missing device UUID"),
        ([volume("blank", UNKNOWN)], "Invalid device UUID"),
        ([{"source_type": "volume", "uuid": UNKNOWN, "destination_type": "local"}], "volume to local"),
        ([volume("blank", device_name="/dev/vdb"), volume("blank", index=1, device_name="/dev/vdb")], "same name"),
    ],
)
def test_disks_that_cannot_be_are_refused(cloud: ServerCloud, mapping: list[Any], says: str) -> None:
    before = rows(cloud)
    answer = cloud.ask({"imageRef": None, "block_device_mapping_v2": mapping})
    assert answer.status == 400 and says in answer.json["badRequest"]["message"], answer
    assert rows(cloud) == before


def test_an_image_of_a_volume_needs_a_size(cloud: ServerCloud) -> None:
    answer = cloud.ask({"imageRef": None, "block_device_mapping_v2": [volume("image", cloud.image, None)]})
    assert answer.status == 400 and "non-zero size" in answer.json["badRequest"]["message"]


def test_an_image_too_large_for_the_flavor_is_refused(cloud: ServerCloud) -> None:
    ram = cloud.ask({"imageRef": cloud.make_image("ram", min_ram=512)})  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it
    assert ram.json["badRequest"]["message"] == "Flavor's memory is too small for requested image."
    disk = cloud.ask({"imageRef": cloud.make_image("disk", min_disk=5)})  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it
    assert disk.json["badRequest"]["message"].startswith("Flavor's disk is too small for requested image.")


def test_further_disks_come_beside_a_local_root(cloud: ServerCloud) -> None:
    mapping = [
        {"source_type": "image", "destination_type": "local", "uuid": cloud.image, "boot_index": 0},
        volume("blank", index=None, delete_on_termination=True, tag="data"),
    ]
    server = cloud.boot({"block_device_mapping_v2": mapping})
    disks = cloud.guest(server).disks
    assert disks[0] == "root.0" and len(disks) == 2
    listed = cloud.call("GET", f"{COMPUTE}/servers/{server}/os-volume_attachments", version=LATEST).json
    (one,) = listed["volumeAttachments"]
    assert one["device"] == "/dev/vdb" and one["tag"] == "data" and one["delete_on_termination"] is True


def test_a_volume_to_boot_from_wins_over_the_image(cloud: ServerCloud) -> None:
    boot, other = cloud.make_volume(imageRef=cloud.image), cloud.make_volume()
    server = cloud.boot({"block_device_mapping_v2": [volume("volume", boot, None), volume("volume", other, None, 1)]})
    assert cloud.guest(server).disks == (boot, other)
    local = {"source_type": "image", "destination_type": "local", "uuid": cloud.image, "boot_index": 0}
    twice = cloud.ask({"block_device_mapping_v2": [local, volume("blank")]})
    assert twice.status == 400 and "Boot sequence" in twice.json["badRequest"]["message"]


def test_several_servers_share_a_reservation(cloud: ServerCloud) -> None:
    answer = cloud.ask({"min_count": 2, "max_count": 3, "return_reservation_id": True})
    reservation = answer.json["reservation_id"]
    cloud.run()
    found = cloud.call("GET", f"{COMPUTE}/servers/detail?reservation_id={reservation}").json["servers"]
    assert sorted(one["name"] for one in found) == ["one-1", "one-2", "one-3"]
    assert {one["status"] for one in found} == {"ACTIVE"}


def test_as_many_are_made_as_the_quota_allows(cloud: ServerCloud) -> None:
    assert cloud.ask({"flavorRef": "micro", "min_count": 1, "max_count": 50}).status == 202
    assert len(cloud.call("GET", f"{COMPUTE}/servers").json["servers"]) == 10


def test_networks_none_gives_none_and_a_fixed_address_is_given(cloud: ServerCloud) -> None:
    assert cloud.show(cloud.boot({"networks": "none"}))["addresses"] == {}
    server = cloud.boot({"networks": [{"uuid": cloud.network, "fixed_ip": "10.9.0.77"}]})
    assert cloud.show(server)["addresses"]["net"][0]["addr"] == "10.9.0.77"
    taken = cloud.ask({"networks": [{"uuid": cloud.network, "fixed_ip": "10.9.0.77"}]})
    assert taken.status == 400 and "10.9.0.77" in taken.json["badRequest"]["message"]


def test_auto_with_two_networks_is_ambiguous(cloud: ServerCloud) -> None:
    second = cloud.make_network("second", "10.8.0.0/24")
    answer = cloud.ask()
    assert answer.status == 409 and "Multiple possible networks" in answer.json["conflictingRequest"]["message"]
    assert cloud.call("DELETE", f"{NETWORK}/networks/{second}").status == 204


def test_a_port_in_use_is_a_conflict(cloud: ServerCloud) -> None:
    port = cloud.call("POST", f"{NETWORK}/ports", {"port": {"network_id": cloud.network}}).json["port"]["id"]
    cloud.boot({"networks": [{"port": port}]})
    assert cloud.ask({"networks": [{"port": port}]}).status == 409
    assert cloud.ask({"networks": [{"port": port}, {"port": port}]}).status == 400


def test_scheduler_hints_choose_nodes(cloud: ServerCloud) -> None:
    first = cloud.boot()
    host = cloud.show(first)["OS-EXT-SRV-ATTR:host"]
    same = cloud.boot(beside={"os:scheduler_hints": {"same_host": [first]}})
    apart = cloud.boot(beside={"OS-SCH-HNT:scheduler_hints": {"different_host": first}})
    assert cloud.show(same)["OS-EXT-SRV-ATTR:host"] == host
    assert cloud.show(apart)["OS-EXT-SRV-ATTR:host"] != host
    assert cloud.ask(beside={"os:scheduler_hints": {"same_host": [UNKNOWN]}}).status == 400
    assert cloud.ask(beside={"other": {}}).status == 400


def test_server_groups_keep_servers_apart(cloud: ServerCloud) -> None:
    body = {"server_group": {"name": "g", "policy": "anti-affinity"}}
    made = cloud.call("POST", f"{COMPUTE}/os-server-groups", body, version="compute 2.64")
    group = made.json["server_group"]["id"]
    hint = {"os:scheduler_hints": {"group": group}}
    placed = [cloud.show(cloud.boot(beside=hint)) for _ in range(3)]
    assert {one["OS-EXT-SRV-ATTR:host"] for one in placed[:2]} == {"node1", "node2"}
    assert placed[2]["status"] == "ERROR" and "anti-affinity" in placed[2]["fault"]["message"]
    assert placed[0]["server_groups"] == [group] and placed[0]["scheduler_hints"] == {"group": group}


def test_administrators_choose_the_host(cloud: ServerCloud) -> None:
    for asked in ({"availability_zone": "nova:node2"}, {"host": "node2"}, {"hypervisor_hostname": "node2"}):
        server = cloud.boot({**asked, "networks": "none"}, caller="admin")
        assert cloud.show(server)["OS-EXT-SRV-ATTR:host"] == "node2"
    refused = cloud.ask({"host": "moon", "networks": "none"}, caller="admin")
    assert refused.status == 400 and "Compute host moon could not be found." in refused.json["badRequest"]["message"]


def test_a_disabled_node_takes_no_servers(cloud: ServerCloud, tmp_path: Path) -> None:
    cloud.db.transact(lambda tx: tx.run("update nodes set disabled = 1, disabled_reason = 'broken fan'"))
    shown = cloud.show(cloud.boot())
    cloud.db.transact(lambda tx: tx.run("update nodes set disabled = 0, disabled_reason = null"))
    assert shown["status"] == "ERROR" and "it is disabled: broken fan" in shown["fault"]["message"]


def test_before_their_time_attributes_are_refused(cloud: ServerCloud) -> None:
    base = {"name": "o", "flavorRef": "nano", "imageRef": cloud.image}
    for version, more in (
        ("2.18", {"description": "d"}), ("2.51", {"tags": ["a"]}), ("2.73", {"host": "node1"}),
        ("2.89", {"hostname": "web"}), ("2.31", {"networks": [{"uuid": cloud.network, "tag": "a"}]}),
        ("2.1", {"networks": "auto"}), ("2.37", {}),
    ):  # fmt: skip
        body = {"server": {**base, **({"networks": "none"} if version > "2.37" and version != "2.1" else {}), **more}}
        answer = cloud.call("POST", f"{COMPUTE}/servers", body, version=f"compute {version}")
        assert answer.status == 400, (version, more)


def test_a_reader_may_not_create(cloud: ServerCloud) -> None:
    assert cloud.ask(caller="reader").status == 403
