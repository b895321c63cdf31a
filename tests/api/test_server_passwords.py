"""An administrator's password reaches the guest on its config drive, and is nowhere else to be read."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pileus.compute import facade as compute
from pileus.compute.drivers import Guest
from pileus.drivers.hypervisor.fake import FakeHypervisor
from pileus.identity import facade as identity
from pileus.roles.node_door import NodeDoor
from server_cloud import ServerCloud


@pytest.fixture
def drives(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the config drive of each guest told last: its meta_data.json, None without a drive."""
    told: dict[str, Any] = {}
    real = FakeHypervisor.ensure_guest

    def ensure(self: FakeHypervisor, guest: Guest) -> Any:
        drive = guest.config_drive
        told[guest.id] = None if drive is None else json.loads(drive["openstack/latest/meta_data.json"])
        return real(self, guest)

    monkeypatch.setattr(FakeHypervisor, "ensure_guest", ensure)
    return told


@pytest.fixture
def cloud(tmp_path: Path, drives: dict[str, Any]) -> Iterator[ServerCloud]:
    made = ServerCloud(tmp_path)
    yield made
    made.close()


def boot(cloud: ServerCloud, **body: Any) -> tuple[str, str]:
    """A server at rest and the password that its owner was told."""
    answer = cloud.ask(body)
    assert answer.status == 202, answer
    cloud.run()
    return str(answer.json["server"]["id"]), str(answer.json["server"]["adminPass"])


def sealed(cloud: ServerCloud) -> list[str]:
    return [row[0] for row in cloud.db.read(lambda tx: tx.all("select sealed_password from server_passwords"))]


def test_the_config_drive_tells_the_password_that_the_owner_was_told(
    cloud: ServerCloud, drives: dict[str, Any]
) -> None:
    made, told = boot(cloud, config_drive=True)
    chosen, _ = boot(cloud, config_drive=True, adminPass="chosen-1234")
    assert len(told) == 12 and drives[made]["admin_pass"] == told
    assert drives[chosen]["admin_pass"] == "chosen-1234"
    assert len(sealed(cloud)) == 2 and not any(told in text or "chosen" in text for text in sealed(cloud))


def test_servers_that_are_made_together_have_the_same_password(cloud: ServerCloud, drives: dict[str, Any]) -> None:
    _, told = boot(cloud, config_drive=True, min_count=2)
    assert [drive["admin_pass"] for drive in drives.values()] == [told, told]


def test_without_a_config_drive_it_is_kept_nowhere_and_the_metadata_service_never_tells_it(
    cloud: ServerCloud, drives: dict[str, Any]
) -> None:
    plain, _ = boot(cloud)
    assert drives[plain] is None and sealed(cloud) == []
    driven, _ = boot(cloud, config_drive=True)
    address = next(iter(cloud.show(driven)["addresses"].values()))[0]["addr"]
    tree = cloud.db.read(lambda tx: compute.metadata_tree(tx, cloud.network, address))
    assert tree is not None
    told = json.loads(tree["openstack/latest/meta_data.json"])
    assert told["uuid"] == driven and "admin_pass" not in told


def test_rescue_and_rebuild_have_passwords_of_their_own(cloud: ServerCloud, drives: dict[str, Any]) -> None:
    server_id, first = boot(cloud, config_drive=True)
    rescuing = cloud.act(server_id, "rescue", {"adminPass": "to-the-rescue"})
    assert rescuing.json == {"adminPass": "to-the-rescue"}
    cloud.run()
    assert drives[server_id]["admin_pass"] == "to-the-rescue"
    cloud.do(server_id, "unrescue")
    assert drives[server_id]["admin_pass"] == first
    again = cloud.act(server_id, "rebuild", {"imageRef": cloud.image}).json["server"]["adminPass"]
    cloud.run()
    assert again != first and drives[server_id]["admin_pass"] == again


def test_new_keys_leave_it_readable_and_it_goes_with_its_server(cloud: ServerCloud, drives: dict[str, Any]) -> None:
    server_id, told = boot(cloud, config_drive=True)
    before, keys, now = sealed(cloud), cloud.folder / "keys", cloud.now + 1
    cloud.db.transact(lambda tx: identity.rotate_credential_key(tx, keys, now))
    cloud.db.transact(lambda tx: identity.forget_keys(tx, keys, now + 9000))
    assert sealed(cloud) != before
    drives.clear()
    cloud.do(server_id, "reboot", {"type": "HARD"})
    assert drives[server_id]["admin_pass"] == told
    cloud.delete(server_id)
    assert sealed(cloud) == []


def test_a_password_whose_key_is_lost_holds_up_no_server(cloud: ServerCloud, drives: dict[str, Any]) -> None:
    server_id, _ = boot(cloud, config_drive=True)
    lost = "update server_passwords set sealed_password = 'ffffffff:gAAAA'"
    cloud.db.transact(lambda tx: tx.run(lost))
    assert cloud.do(server_id, "reboot", {"type": "HARD"}) == "ACTIVE"
    assert "admin_pass" not in drives[server_id]


def test_a_guest_posts_its_password_once_and_reads_it_back(cloud: ServerCloud) -> None:
    server_id, _ = boot(cloud, config_drive=True)
    address = next(iter(cloud.show(server_id)["addresses"].values()))[0]["addr"]
    door = NodeDoor(cloud.db, cloud.blob, cloud.folder / "keys")

    def ask(method: str, path: str, body: bytes = b"", guest: str = address) -> tuple[int, bytes]:
        where = f"/node/v1/metadata/{cloud.network}/{guest}/{path}"
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(door({"type": "http", "scheme": "http", "method": method, "path": where}, receive, send))
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    password, shown = "openstack/latest/password", f"/compute/v2.1/servers/{server_id}/os-server-password"
    assert b"password" in ask("GET", "openstack/latest/")[1].splitlines()
    assert b"password" not in ask("GET", "openstack/2012-08-10/")[1].splitlines()
    assert ask("GET", password) == (200, b"")
    for body, status in ((b"A" * 2000, 400), (b"no base64!", 400)):
        assert ask("POST", password, body)[0] == status
    assert ask("POST", password, b"c2VjcmV0", guest="10.9.0.250")[0] == 404
    assert ask("POST", "openstack/latest/meta_data.json", b"c2VjcmV0")[0] == 404
    assert ask("POST", password, b"c2VjcmV0") == (200, b"")
    assert ask("POST", password, b"b3RoZXI=")[0] == 409
    assert ask("GET", password) == (200, b"c2VjcmV0")
    assert cloud.call("GET", shown).json == {"password": "c2VjcmV0"}
    assert cloud.call("DELETE", shown).status == 204
    assert ask("POST", password, b"b3RoZXI=") == (200, b"")
