"""The words of block storage's tests over the fake cloud: volumes, snapshots, and a stand-in for compute.

`server` reserves, connects and completes through the facade, as a server's step does, one call at a time.
"""

from pathlib import Path
from typing import Any

from cloud import FakeNode, ServerlessCloud
from direct import CALLERS, Answer
from pileus.compute.drivers import Disk, Guest
from pileus.core.context import Context
from pileus.core.ids import new_id
from pileus.volume import facade as volume

V3 = "/volume/v3"


class VolumeCloud(ServerlessCloud):
    """See the module."""

    def __init__(self, folder: Path, machines: int = 1, rounds: int = 0):
        super().__init__(folder, machines, rounds)
        self.machines = self.nodes

    def call(self, method: str, path: str, body: Any = None, *, version: str = "3.71", **how: Any) -> Answer:
        return self.api(method, V3 + path, body, version=f"volume {version}", **how)

    def made(self, method: str, path: str, body: Any = None, **how: Any) -> dict[str, Any]:
        """The one thing in the body of an answer that must be good."""
        answer = self.call(method, path, body, **how)
        assert answer.status in (200, 202), answer
        found: dict[str, Any] = next(iter(answer.json.values()))
        return found

    def volume(self, **wanted: Any) -> str:
        """A new volume of demo's, at rest; its id."""
        found = self.made("POST", "/volumes", {"volume": {"size": 1, **wanted}})
        self.run()
        return str(found["id"])

    def see(self, volume_id: str, kind: str = "volumes", **how: Any) -> dict[str, Any]:
        return self.made("GET", f"/{kind}/{volume_id}", **how)

    def status(self, thing_id: str, kind: str = "volumes") -> str:
        return str(self.see(thing_id, kind, caller="admin")["status"])

    def act(self, thing_id: str, action: dict[str, Any], kind: str = "volumes", **how: Any) -> Answer:
        return self.call("POST", f"/{kind}/{thing_id}/action", action, **how)

    def image(self, data: bytes = b"\0" * 512) -> str:
        """An active raw image of demo's."""
        body = {"name": "i", "disk_format": "raw", "container_format": "bare", "min_disk": 1}
        image_id = str(self.api("POST", "/image/v2/images", {**body, "os_type": "linux"}).json["id"])
        head = {"content-type": "application/octet-stream"}
        assert self.api("PUT", f"/image/v2/images/{image_id}/file", raw=data, headers=head).status == 204
        self.run()
        return image_id

    def context(self, tx: Any, caller: str = "demo") -> Context:
        return Context(tx, CALLERS[caller], now=self.clock(), enforcer=self.api.app.enforcer, request_id="req-1")

    def leftovers(self) -> list[str]:
        """What of block storage nodes and store still hold; empty after everything was deleted."""
        found = [line for line in super().leftovers() if ": volume " in line or ": copy " in line]
        for table in ("volumes", "volume_snapshots", "volume_attachments", "volume_readers", "volume_transfers"):
            found += [f"{table}: {row}" for row in self.db.read(lambda tx, t=table: tx.all(f"select * from {t}"))]
        return found

    def unexpected(self) -> list[str]:
        """Traces on nodes that the store does not expect."""
        return [
            f"{node.name}: {thing}" for node in self.nodes.values()
            for thing in set(node.block.list_things()) - self.db.read(lambda tx, n=node.id: volume.expected(tx, n))
        ]  # fmt: skip

    def inconsistencies(self) -> list[str]:
        return self.db.read(volume.inconsistencies)


class FakeServer:
    """What compute does with a volume, in its four calls."""

    def __init__(self, cloud: VolumeCloud, machine: FakeNode):
        self.cloud, self.machine, self.id = cloud, machine, new_id()
        self.attachments: dict[str, str] = {}  # volume id → attachment id

    def reserve(self, volume_id: str) -> None:
        attachment_id = self.attachments[volume_id] = new_id()
        self.cloud.db.transact(lambda tx: volume.reserve(
            self.cloud.context(tx), volume_id=volume_id, server_id=self.id, attachment_id=attachment_id))  # fmt: skip

    def connect(self, volume_id: str) -> None:
        attachment_id, now = self.attachments[volume_id], self.cloud.clock()
        self.cloud.db.transact(lambda tx: volume.connect(tx, attachment_id, self.machine.id, now))

    def view(self, volume_id: str) -> volume.AttachmentView | None:
        return self.cloud.db.read(lambda tx: volume.attachment(tx, self.attachments[volume_id]))

    def open(self, volume_id: str) -> None:
        """Start the guest with what is connected, and say that it has the disk."""
        disks = []
        for each in self.attachments:
            view = self.view(each)
            assert view is not None and view.connection is not None, (view, self.cloud.pokes)
            disks.append(Disk(id=each, source=view.connection, size_bytes=view.size_gib << 30))
        guest = Guest(id=self.id, name="g", vcpus=1, ram_mib=64, disks=tuple(disks), nics=())
        while self.machine.hypervisor.ensure_guest(guest) is None:
            pass
        attachment_id, now = self.attachments[volume_id], self.cloud.clock()
        self.cloud.db.transact(lambda tx: volume.complete(tx, attachment_id, "/dev/vdb", now))

    def attach(self, volume_id: str) -> None:
        """The whole way."""
        self.reserve(volume_id)
        self.connect(volume_id)
        self.cloud.run_killed()
        self.open(volume_id)
        self.cloud.run_killed()

    def release(self, volume_id: str) -> None:
        self.machine.hypervisor.remove_guest(self.id)
        attachment_id, now = self.attachments.pop(volume_id), self.cloud.clock()
        self.cloud.db.transact(lambda tx: volume.release(tx, attachment_id, now))
