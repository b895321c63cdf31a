"""A whole cloud in one process: every service, real agents over fake drivers, one store, real workers, one clock.

`call` is one API request, `run` lets workers step until nothing is due (jumping over waits), `faults` ends, breaks or
disturbs the worker's next calls and commits, `revive` starts new workers as after a crash.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from direct import Answer, Direct
from pileus.compute import facade as compute
from pileus.compute.drivers import Capabilities, Refused
from pileus.core.config import Config, Identity
from pileus.core.ids import derived_id
from pileus.core.reconcile import REST, Kind, Outcome, Worker
from pileus.db.connect import Database
from pileus.drivers.blob.file import FileBlob
from pileus.drivers.block.fake import FakeBlock
from pileus.drivers.hypervisor.fake import FakeHypervisor
from pileus.drivers.switch.fake import FakeSwitch
from pileus.identity import facade as identity
from pileus.node.agent import Agent, Reporter
from pileus.node.client import Wire
from pileus.node.fencing import Fence
from pileus.node.wire import VERBS, NodeError, encode
from pileus.roles import verification
from pileus.roles.controller import Connect, Settings, kinds, services

REPORT_SECONDS = 15.0
TICK = 0.0001  # seconds between two looks at the clock
SHORTEST_COPY = 512  # bytes
COMMITS = ("commit", "committed")  # what faults hear around each transaction of a worker
ENOUGH = Capabilities(vcpus=64, ram_mib=65536, disk_gib=1000, accelerator="fake")


class Killed(BaseException):
    """The process ended here, as by kill -9."""


class Faults:
    """Counts what the worker does to nodes and store; ends the process, or lets the call fail, at a chosen one."""

    def __init__(self) -> None:
        self.count = 0
        self.kill_at: set[int] = set()
        self.fail: Callable[[str], None] = lambda verb: None

    def __call__(self, verb: str) -> None:
        self.count += 1
        if self.count in self.kill_at:
            raise Killed(f"{self.count}: {verb}")
        self.fail(verb)

    def once(self, after: int, happen: Callable[[], None]) -> None:
        """Something happens to the n-th call from now on, or to the first of a node after it; it may raise."""
        at = self.count + after

        def fail(verb: str) -> None:
            if self.count >= at and verb not in COMMITS:
                self.fail = lambda _verb: None
                happen()

        self.fail = fail

    def end(self) -> None:
        """None of those that did not come yet will come."""
        self.kill_at, self.fail = set(), lambda verb: None


class WatchedDatabase:
    """The workers' store: the process may also end right before or right after a commit."""

    def __init__(self, db: Database, faults: Faults):
        self._db, self._faults = db, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def transact(self, work: Callable[[Any], Any]) -> Any:
        before, after = COMMITS
        self._faults(before)
        result = self._db.transact(work)
        self._faults(after)
        return result


class Door:
    """The controllers' door for nodes, without a socket."""

    def __init__(self, cloud: "FakeCloud"):
        self.cloud = cloud

    def request(self, method: str, path: str, body: bytes, headers: Any = None) -> tuple[int, bytes]:
        """A report, and its answer."""
        report = msgspec.json.decode(body, type=compute.Report)
        answer = self.cloud.db.transact(lambda tx: compute.node_report(tx, report, self.cloud.clock()))
        self.cloud.answers.append(answer)
        return 200, msgspec.json.encode(answer)


class FakeNode:
    """A machine: the agent as it is over three fake drivers, as long as it is `alive`."""

    def __init__(self, number: int, cloud: "FakeCloud", capabilities: Capabilities, rounds: int):
        self.name, self.alive = f"node{number}", True
        self.newest: dict[str, int] = {}  # epoch of each lease that was obeyed
        self.refuses = ""  # why it takes no guest, though it says that it has room
        self.id = derived_id("node", self.name)
        self.hypervisor = FakeHypervisor(capabilities=capabilities, rounds=rounds, now=cloud.clock)
        self.switch: Any = cloud.make_switch(rounds)
        self.block = FakeBlock(own_node_id=self.id, folder=cloud.folder, rounds=rounds)
        self.agent = Agent(
            self.hypervisor, self.switch, self.block, Fence(cloud.folder / f"{self.name}.epochs")
        )  # fmt: skip
        who = {
            "id": self.id, "name": self.name, "url": f"unix:///fake/{self.name}", "endpoint": f"192.0.2.{number}",
            "version": "0", "zone": "nova", "roles": ["compute", "network", "storage"],
        }  # fmt: skip
        door: Any = Door(cloud)
        self.reporter = Reporter(self.agent, door, who, REPORT_SECONDS)

    def reboot(self) -> None:
        """Guests, taps and namespaces are lost; what is on disk stays."""
        self.hypervisor.machine.reboot()
        self.switch.machine.reboot()
        self.block.machine.reboot()
        self.reporter.heard = False


class LocalWire(Wire):
    """The wire to a node in this process: everything crosses it encoded, and may fail before and after the effect."""

    def __init__(self, node: FakeNode, faults: Faults):
        super().__init__(f"fake {node.name}")
        self.node, self.faults = node, faults

    def _reach(self) -> None:
        if not self.node.alive:
            raise ConnectionError(f"node {self.node.name} does not answer")

    def call(self, family: str, verb: str, lease: tuple[str, int] | None, **arguments: Any) -> Any:
        """One driver verb, fenced by the agent."""
        self.faults(verb)
        self._reach()
        if self.node.refuses and verb == "ensure_guest":
            raise Refused(self.node.refuses)
        name, epoch = lease or ("", 0)
        try:
            result = self.node.agent.call(family, verb, encode(arguments), name, str(epoch))
        except AssertionError as error:
            raise NodeError(f"AssertionError: {error}") from None
        newest = self.node.newest[name] = max(epoch, self.node.newest.get(name, 0))
        assert not name or epoch == newest, f"{self.node.name} obeyed epoch {epoch} of {name} after {newest}"
        if verb.startswith(("ensure_", "remove_", "revert")):
            self.faults(verb)
            self._reach()
        return VERBS[family, verb].result.decode(encode(result))

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a disk copy or of a volume."""
        self.faults("chunks")
        self._reach()
        kind, *names = map(unquote, path.removeprefix("/v1/").split("/"))
        find = self.node.hypervisor.disk_copy_path if kind == "copies" else self.node.block.volume_path
        yield Path(find(*names)).read_bytes().ljust(SHORTEST_COPY, b"\0")


class FakeConnect(Connect):
    """The hub of worlds over fake nodes; a transfer is over when it was started."""

    def __init__(self, db: Database, blob: FileBlob, nodes: Mapping[str, FakeNode], faults: Faults):
        super().__init__(db, blob, blob.data.parent.parent / "keys")
        self.nodes, self.faults = nodes, faults

    def wire(self, node_id: str) -> Wire:
        if node_id not in self.nodes:
            raise ConnectionError(f"node {node_id} is not known")
        return LocalWire(self.nodes[node_id], self.faults)

    def start(self, key: str, work: Callable[[], None]) -> None:
        try:
            work()
            self._transfers[key] = "done"
        except Exception as error:
            self._transfers[key] = error


class FakeCloud:
    """See the module; `rounds` is how often nodes answer "under way" to what is new."""

    def __init__(self, folder: Path, nodes: int = 1, capabilities: Capabilities | None = None, rounds: int = 0):
        self.folder, self.faults = folder, Faults()
        self.now = float(int(time.time()))  # whole, so that runs repeat to the last digit
        self.answers: list[Any] = []  # to the nodes' last reports
        made = [FakeNode(i, self, capabilities or ENOUGH, rounds) for i in range(1, nodes + 1)]
        self.nodes = {node.id: node for node in made}
        self.blob = FileBlob(folder / "images")
        quick = Identity(hash_memory_kib=64, hash_passes=1)
        self.config = Config(state=str(folder), hypervisor="fake", switch="fake", block="fake", identity=quick)
        identity.ensure_keys(folder / "keys")
        settings = Settings(self.config, self.blob)
        self.api = Direct(services(), folder, settings, clock=self.clock)
        self.db = self.api.db
        if self.db.dialect == "sqlite":  # kills here are not power cuts
            self.db._writer.execute("pragma synchronous = off")  # type: ignore[attr-defined]  # of the object that is really there
        self.hub = settings.hub = FakeConnect(self.db, self.blob, self.nodes, Faults())  # the API's, without faults
        self.revive()
        self.report()

    def clock(self) -> float:
        """The only time there is: it goes on by itself so little that it only tells before from after."""
        self.now += TICK
        return self.now

    def revive(self) -> None:
        """New workers, as after the old ones were killed."""
        self.worker = self.another_worker()

    def another_worker(self) -> Worker:
        """A worker of another controller on the same store."""
        watched: Any = WatchedDatabase(self.db, self.faults)
        hub = FakeConnect(watched, self.blob, self.nodes, self.faults)
        return Worker(watched, self.kinds(watched, hub), clock=self.clock)

    def kinds(self, db: Database, hub: Connect) -> dict[str, Kind[Any]]:
        """Everything that lives."""
        return kinds(db, hub, self.clock)

    def make_switch(self, rounds: int) -> Any:
        """The switch of a node."""
        return FakeSwitch(rounds=rounds)

    def report(self) -> list[Any]:
        """Every node that lives tells what it is and has, and removes what is nobody's; what they were answered."""
        self.reported_at, self.answers = self.now, []
        for node in self.nodes.values():
            if node.alive:
                node.reporter.once()
        return self.answers

    def later(self, seconds: float) -> None:
        """Time passes, in which nodes report and nobody works."""
        ends = self.now + seconds
        while self.now < ends:
            self.now = min(ends, self.now + 3 * REPORT_SECONDS)
            if self.now - self.reported_at > REPORT_SECONDS:
                self.report()

    def call(self, method: str, path: str, body: Any = None, **how: Any) -> Answer:
        """One API request; how: caller, version, headers, raw."""
        return self.api(method, path, body, **how)

    def run(self, seconds: float = 60.0) -> None:
        """Step all that becomes due within so many seconds; raises Killed."""
        ends = self.now + seconds
        while True:
            while self.worker.run_one():
                pass
            due = self.db.read(lambda tx: tx.one("select min(case when lease > due then lease else due end) from work"))
            if due is None or due[0] is None or due[0] > ends:
                return
            self.later(due[0] - self.now)

    def run_killed(self, seconds: float = 300.0) -> int:
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
            found += [f"{node.name}: copy {c}" for c in node.hypervisor.machine.copies]
            found += [f"{node.name}: {kind} {t}" for kind, ts in node.switch.list_things().items() for t in ts]
            found += [f"{node.name}: volume {v}" for v in node.block.list_things()]
        found += [f"blob {name}" for name in self.blob.list()]
        found += [f"cut upload {path.name}" for path in self.blob.partial.iterdir()]
        return found

    def inconsistencies(self) -> list[str]:
        """What `verify` would say now, of what it can see in one look."""
        return list(verification.contradictions(self.db, self.hub, self.now))

    def close(self) -> None:
        """Let go of the store."""
        self.db.close()
        with contextlib.suppress(RuntimeError):
            self.api.loop.close()


class ServerlessCloud(FakeCloud):
    """A fake cloud in which of servers is only heard that they were poked, for tests that stand in for compute."""

    def __init__(self, folder: Path, nodes: int = 1, rounds: int = 0):
        self.pokes: list[str] = []  # ids of servers
        super().__init__(folder, nodes, rounds=rounds)

    def kinds(self, db: Database, hub: Connect) -> dict[str, Kind[Any]]:
        server = Kind("server", lambda tx, i: i, self._hear, lambda *a: None, lambda r, w: REST, lambda lease: None)
        return {**super().kinds(db, hub), "server": server}

    def _hear(self, server_id: str, _world: Any) -> Outcome:
        self.pokes.append(server_id)
        return REST
