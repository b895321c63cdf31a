"""Block storage alone: its API and image's, workers, nodes with fake drivers, a clock that jumps, faults.

`call` is one request, `run` steps all that becomes due (jumping over waits), `server` is a stand-in for
compute: it reserves, connects and completes through the facade, as a server's step does.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from direct import CALLERS, Answer, Direct
from pileus.compute.drivers import Disk, Guest
from pileus.core.config import Config
from pileus.core.context import Context
from pileus.core.ids import derived_id, new_id
from pileus.core.nodes import NODES, Node
from pileus.core.reconcile import Kind, Lease, Outcome, Rest, Worker
from pileus.drivers.blob.file import FileBlob
from pileus.drivers.block.fake import FakeBlock
from pileus.drivers.hypervisor.fake import FakeHypervisor
from pileus.image import facade as image
from pileus.volume import facade as volume

V3 = "/volume/v3"


class Killed(BaseException):
    """The process ended here, as by kill -9."""


class Faults:
    """Counts driver effects and commits; ends the process, or fails the call, at a chosen one."""

    def __init__(self) -> None:
        self.count = 0
        self.kill_at: set[int] = set()
        self.off = False  # while the test itself uses a driver
        self.fail: Callable[[str], None] = lambda verb: None

    def __call__(self, verb: str) -> None:
        if self.off:
            return
        self.count += 1
        if self.count in self.kill_at:
            raise Killed(f"{self.count}: {verb}")
        self.fail(verb)


class Watched:
    """A store whose process may end right before or right after a commit."""

    def __init__(self, db: Any, faults: Faults):
        self._db, self._faults = db, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def transact(self, work: Callable[[Any], Any]) -> Any:
        self._faults("commit")
        result = self._db.transact(work)
        self._faults("committed")
        return result


class Machine:
    """A node: fake drivers behind the fence that refuses old leases."""

    def __init__(self, name: str, faults: Faults, folder: Path, rounds: int):
        self.id, self.name, self.alive = derived_id("node", name), name, True
        self.block = FakeBlock(faults=faults, own_node_id=self.id, folder=folder, rounds=rounds)
        self.hypervisor = FakeHypervisor(faults=faults, rounds=rounds)
        self.epochs: dict[str, int] = {}

    def call(self, driver: Any, lease: Lease | None, verb: str) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            if not self.alive:
                raise ConnectionError(f"node {self.name} does not answer")
            if lease is not None:
                key = f"{lease.kind}/{lease.id}"
                assert lease.epoch >= self.epochs.get(key, 0), "a worker without its lease reached the node"
                self.epochs[key] = lease.epoch
            return getattr(driver, verb)(*args, **kwargs)

        return act


class Reached:
    """A driver of a machine under one lease."""

    def __init__(self, machine: Machine, driver: Any, lease: Lease | None):
        self._reach = lambda verb: machine.call(driver, lease, verb)

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return self._reach(verb)


class Hub:
    """roles.controller.Connect over machines; transfers are over when they are started."""

    def __init__(self, machines: dict[str, Machine], blob: FileBlob):
        self.machines, self.blob = machines, blob
        self._ended: dict[str, Any] = {}

    def block(self, node_id: str, lease: Lease | None = None) -> Any:
        return Reached(self.machines[node_id], self.machines[node_id].block, lease)

    def hypervisor(self, node_id: str, lease: Lease | None = None) -> Any:
        return Reached(self.machines[node_id], self.machines[node_id].hypervisor, lease)

    def copy_chunks(self, node_id: str, copy_id: str) -> Iterator[bytes]:
        yield Path(self.machines[node_id].hypervisor.disk_copy_path(copy_id)).read_bytes()

    def volume_chunks(self, node_id: str, pool: str, volume_id: str) -> Iterator[bytes]:
        yield Path(self.machines[node_id].block.volume_path(pool, volume_id)).read_bytes().ljust(512, b"\0")

    def start(self, key: str, work: Callable[[], None]) -> None:
        try:
            work()
            self._ended[key] = "done"
        except Exception as error:
            self._ended[key] = error

    def state(self, key: str) -> Any:
        return self._ended.pop(key, None)


class VolumeCloud:
    """See the module."""

    def __init__(self, folder: Path, machines: int = 1, rounds: int = 0):
        self.faults = Faults()
        made = [Machine(f"node{n}", self.faults, folder, rounds) for n in range(1, machines + 1)]
        self.machines = {m.id: m for m in made}
        self.blob = FileBlob(folder / "images")
        self.api = Direct([image.SERVICE, volume.SERVICE], folder, SimpleNamespace(config=Config(), blob=self.blob))
        self.db = self.api.db
        if self.db.dialect == "sqlite":  # kills here are not power cuts
            self.db._writer.execute("pragma synchronous = off")  # type: ignore[attr-defined]
        self.offset = 0.0
        self.pokes: list[str] = []  # ids of servers that were poked
        self.report()
        self.revive()

    def clock(self) -> float:
        return time.time() + self.offset

    def report(self) -> None:
        """Every machine that lives is seen now."""

        def work(tx: Any) -> None:
            for m in self.machines.values():
                if m.alive:
                    pools = [{"name": p.name, "total_gib": p.total_gib, "free_gib": p.free_gib, "backend": p.backend}
                             for p in m.block.pools()]  # fmt: skip
                    NODES.delete(tx, id=m.id)
                    NODES.insert(tx, Node(
                        id=m.id, name=m.name, url="unix:///x", endpoint="", roles=["storage", "compute"],
                        capabilities={}, pools=pools, created_at=0.0, seen_at=self.clock(),
                    ))  # fmt: skip

        self.db.transact(work)

    def revive(self) -> None:
        """New workers, as after the old ones were killed."""
        watched: Any = Watched(self.db, self.faults)
        hub = Hub(self.machines, self.blob)
        kinds = [*image.kinds(watched, hub, self.clock), *volume.kinds(watched, hub, self.clock)]
        kinds.append(Kind("server", lambda tx, i: i, self._hear, lambda *a: None, lambda r, w: Rest(), lambda _l: None))
        self.worker = Worker(watched, {k.name: k for k in kinds}, clock=self.clock)

    def _hear(self, server_id: str, _world: Any) -> Outcome:
        self.pokes.append(server_id)
        return Rest()

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

    def run(self, seconds: float = 60.0) -> None:
        """Step all that becomes due within so many seconds of this cloud's clock; raises Killed."""
        ends = self.clock() + seconds
        while True:
            while self.worker.run_one():
                pass
            row = self.db.read(lambda tx: tx.one("select min(case when lease > due then lease else due end) from work"))
            if row is None or row[0] is None or row[0] > ends:
                return
            self.offset += max(0.0, row[0] - self.clock()) + 0.001
            self.report()

    def run_killed(self, seconds: float = 300.0) -> int:
        """As run, with new workers after each kill; how often there were any."""
        kills = 0
        while True:
            try:
                self.run(seconds)
            except Killed:
                kills += 1
                self.revive()
            else:
                return kills

    def context(self, tx: Any, caller: str = "demo") -> Context:
        return Context(tx, CALLERS[caller], now=self.clock(), enforcer=self.api.app.enforcer, request_id="req-1")

    def leftovers(self) -> list[str]:
        """What nodes and store still hold; empty after everything was deleted."""
        found = [f"{m.name}: {thing}" for m in self.machines.values() for thing in m.block.list_things()]
        found += [f"{m.name}: copy {c}" for m in self.machines.values() for c in m.hypervisor.machine.copies]
        for table in ("volumes", "volume_snapshots", "volume_attachments", "volume_readers", "volume_transfers"):
            found += [f"{table}: {row}" for row in self.db.read(lambda tx, t=table: tx.all(f"select * from {t}"))]
        return found

    def unexpected(self) -> list[str]:
        """Traces on nodes that the store does not expect."""
        return [
            f"{m.name}: {thing}" for m in self.machines.values()
            for thing in set(m.block.list_things()) - self.db.read(lambda tx, n=m.id: volume.expected(tx, n))
        ]  # fmt: skip

    def inconsistencies(self) -> list[str]:
        return self.db.read(volume.inconsistencies)

    def close(self) -> None:
        self.db.close()
        self.api.loop.close()


class FakeServer:
    """What compute does with a volume, in its four calls."""

    def __init__(self, cloud: VolumeCloud, machine: Machine):
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
        self.cloud.faults.off = True
        while self.machine.hypervisor.ensure_guest(guest) is None:
            pass
        self.cloud.faults.off = False
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
        self.cloud.faults.off = True
        self.machine.hypervisor.remove_guest(self.id)
        self.cloud.faults.off = False
        attachment_id, now = self.attachments.pop(volume_id), self.cloud.clock()
        self.cloud.db.transact(lambda tx: volume.release(tx, attachment_id, now))
