"""A whole cloud in one process: every service over fake drivers, a real store, real workers, a clock that jumps.

`call` is one API request, `run` lets workers step until nothing is due (jumping over waits), `kill_at` ends the
process at the n-th driver call or commit from now on, `revive` starts new workers as after a crash.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from direct import Answer, Direct
from pileus.compute import facade as compute
from pileus.compute.drivers import Capabilities
from pileus.core.config import Config, Identity
from pileus.core.ids import derived_id
from pileus.core.reconcile import Lease, Worker
from pileus.db.connect import Database
from pileus.drivers.blob.file import FileBlob
from pileus.drivers.block.fake import FakeBlock
from pileus.drivers.hypervisor.fake import FakeHypervisor
from pileus.drivers.switch.fake import FakeSwitch
from pileus.identity import facade as identity
from pileus.image import facade as image
from pileus.network import facade as network
from pileus.node.wire import Stale
from pileus.placement import facade as placement
from pileus.roles.controller import Connect, Settings, kinds, services
from pileus.volume import facade as volume

REPORT_SECONDS = 15.0
FACADES: tuple[Any, ...] = (placement, image, network, volume, compute)


class Killed(BaseException):
    """The process ended here, as by kill -9."""


class Faults:
    """Counts driver effects; ends the process, or lets the call fail, at a chosen one."""

    def __init__(self) -> None:
        self.count = 0
        self.kill_at: int | None = None
        self.fail: Callable[[str], None] = lambda verb: None

    def __call__(self, verb: str) -> None:
        self.count += 1
        if self.kill_at is not None and self.count >= self.kill_at:
            self.kill_at = None
            raise Killed(verb)
        self.fail(verb)


class WatchedDatabase:
    """The workers' store: the process may also end right before or right after a commit."""

    def __init__(self, db: Database, faults: Faults):
        self._db, self._faults = db, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def transact(self, work: Callable[[Any], Any]) -> Any:
        self._faults("commit")
        result = self._db.transact(work)
        self._faults("committed")
        return result


class FakeNode:
    """A machine: three fake drivers, and the fence that refuses old leases."""

    def __init__(self, name: str, faults: Faults, capabilities: Capabilities):
        self.id, self.name, self.alive = derived_id("node", name), name, True
        self.hypervisor = FakeHypervisor(faults=faults, capabilities=capabilities)
        self.switch = FakeSwitch(faults=faults)
        self.block = FakeBlock(faults=faults)
        self.epochs: dict[str, int] = {}

    def admit(self, lease: Lease | None) -> None:
        """As the agent: nobody answers on a dead node, old epochs are refused."""
        if not self.alive:
            raise ConnectionError(f"node {self.name} does not answer")
        if lease is None:
            return
        key = f"{lease.kind}/{lease.id}"
        if lease.epoch < self.epochs.get(key, 0):
            raise Stale(f"{key}: epoch {lease.epoch} is over")
        self.epochs[key] = lease.epoch

    def reboot(self) -> None:
        """Guests, taps and namespaces are lost; what is on disk stays."""
        self.hypervisor.machine.reboot()
        self.switch.machine.reboot()


class Fenced:
    """A driver of a node as one lease reaches it."""

    def __init__(self, node: FakeNode, driver: Any, lease: Lease | None):
        self._node, self._driver, self._lease = node, driver, lease

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._node.admit(self._lease)
            return getattr(self._driver, verb)(*args, **kwargs)

        return call


class FakeConnect(Connect):
    """The hub of worlds over fake nodes; transfers run at once."""

    def __init__(self, db: Database, blob: FileBlob, nodes: Mapping[str, FakeNode]):
        super().__init__(db, blob, blob.data.parent.parent / "keys")
        self.nodes = nodes

    def _node(self, node_id: str) -> FakeNode:
        found = self.nodes.get(node_id)
        if found is None:
            raise ConnectionError(f"node {node_id} is not known")
        return found

    def hypervisor(self, node_id: str, lease: Lease | None = None) -> Any:
        return Fenced(self._node(node_id), self._node(node_id).hypervisor, lease)

    def switch(self, node_id: str, lease: Lease | None = None) -> Any:
        return Fenced(self._node(node_id), self._node(node_id).switch, lease)

    def block(self, node_id: str, lease: Lease | None = None) -> Any:
        return Fenced(self._node(node_id), self._node(node_id).block, lease)

    def copy_chunks(self, node_id: str, copy_id: str) -> Iterator[bytes]:
        yield b"copy " + copy_id.encode()

    def volume_chunks(self, node_id: str, pool: str, volume_id: str) -> Iterator[bytes]:
        yield b"volume " + volume_id.encode()

    def start(self, key: str, work: Callable[[], None]) -> None:
        """The transfer is over when this returns."""
        try:
            work()
            self._transfers[key] = "done"
        except Exception as error:
            self._transfers[key] = error


class FakeCloud:
    """See the module."""

    def __init__(self, folder: Path, nodes: int = 1, capabilities: Capabilities | None = None):
        self.faults = Faults()
        can = capabilities or Capabilities(vcpus=64, ram_mib=65536, disk_gib=1000, accelerator="fake")
        made = [FakeNode(f"node{i}", self.faults, can) for i in range(1, nodes + 1)]
        self.nodes = {node.id: node for node in made}
        self.blob = FileBlob(folder / "images")
        quick = Identity(hash_memory_kib=64, hash_passes=1)
        self.config = Config(state=str(folder), hypervisor="fake", switch="fake", block="fake", identity=quick)
        identity.ensure_keys(folder / "keys")
        self.api = Direct(services(), folder, Settings(self.config, self.blob))
        self.db = self.api.db
        self.offset = 0.0
        self.revive()
        self.report()

    def clock(self) -> float:
        return time.time() + self.offset

    def revive(self) -> None:
        """New workers, as after the old ones were killed."""
        watched: Any = WatchedDatabase(self.db, self.faults)
        self.hub = FakeConnect(watched, self.blob, self.nodes)
        self.worker = Worker(watched, kinds(watched, self.hub), clock=self.clock)

    def report(self) -> list[Any]:
        """Every node that lives tells what it is and has, as agents do; the answers."""
        self.reported_at = self.clock()
        return [self._report_of(node) for node in self.nodes.values() if node.alive]

    def _report_of(self, node: FakeNode) -> Any:
        hypervisor = node.hypervisor
        guests = [(g, (s.power if (s := hypervisor.observe_guest(g)) else "gone")) for g in hypervisor.list_guests()]
        told = {
            "id": node.id, "name": node.name, "url": f"unix:///fake/{node.name}", "endpoint": "", "version": "0",
            "zone": "nova", "roles": ["compute", "network", "storage"], "capabilities": hypervisor.capabilities(),
            "pools": node.block.pools(), "guests": guests, "things": node.switch.list_things(),
            "volumes": node.block.list_things(),
        }  # fmt: skip
        report = msgspec.convert(msgspec.to_builtins(told), type=compute.Report)
        return self.db.transact(lambda tx: compute.node_report(tx, report, self.clock()))

    def call(self, method: str, path: str, body: Any = None, **how: Any) -> Answer:
        """One API request; how: caller, version, headers, raw."""
        return self.api(method, path, body, **how)

    def run(self, seconds: float = 60.0) -> None:
        """Step all that becomes due within so many seconds of the cloud's own clock; raises Killed."""
        ends = self.clock() + seconds
        while True:
            while self.worker.run_one():
                pass
            due = self.db.read(lambda tx: tx.one("select min(case when lease > due then lease else due end) from work"))
            if due is None or due[0] is None or due[0] > ends:
                return
            self.offset += max(0.0, due[0] - self.clock()) + 0.001
            if self.clock() - self.reported_at > REPORT_SECONDS:
                self.report()

    def run_killed(self, seconds: float = 60.0) -> int:
        """As run, reviving the workers each time they are killed; how often they were."""
        kills = 0
        while True:
            try:
                self.run(seconds)
            except Killed:
                kills += 1
                self.revive()
            else:
                return kills

    def leftovers(self) -> list[str]:
        """What nodes and store still hold after everything was deleted."""
        found = []
        for node in self.nodes.values():
            found += [f"{node.name}: guest {g}" for g in node.hypervisor.list_guests()]
            found += [f"{node.name}: {kind} {t}" for kind, ts in node.switch.list_things().items() for t in ts]
            found += [f"{node.name}: volume {v}" for v in node.block.list_things()]
        found += [f"blob {name}" for name in self.blob.list()]
        return found

    def inconsistencies(self) -> list[str]:
        """What the services' own checks of the store say."""
        return self.db.read(lambda tx: [line for service in FACADES for line in service.inconsistencies(tx)])

    def close(self) -> None:
        self.db.close()
        self.api.loop.close()
