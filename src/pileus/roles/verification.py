"""Records against reality: every difference is one line, and there should be none.

Four looks: the records among themselves, each node's own word (over its wire), the kernel of this
machine, and the queue of work.  While the cloud works there is always something under way, so a
difference counts only when it is still there at every look within LOOKS × PAUSE seconds.  A guest that
changed by itself is noticed at its node's next report, so that it gets that time and GRACE.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pileus.compute import facade as compute
from pileus.core.config import Config
from pileus.core.nodes import NODES, Node
from pileus.core.reconcile import Kind
from pileus.db.connect import Database, Tx, connect
from pileus.image import facade as image
from pileus.network import facade as network
from pileus.placement import facade as placement
from pileus.roles import joining, node, traces
from pileus.roles.controller import Connect, directories, kinds, open_hub
from pileus.roles.nodes_compared import powers, strangers
from pileus.roles.supervisor import processes
from pileus.volume import facade as volume

LOOKS, PAUSE = 4, 1.0
GRACE = 15.0  # seconds
STUCK_SECONDS = 90.0  # overdue for so long, work is not being done: a lease lasts 60
ROLES = ("supervisor", "agent", "api", "worker")


def differences(config: Config) -> list[str]:
    """Every difference that lasts, sorted; an empty list when all is well."""
    if not processes(config.folder / "run"):
        return sorted(_leftovers(config))
    if joining.membership(config):
        return []  # its controllers compare it
    db = connect(config.database_url)
    try:
        hub = open_hub(config, db)
        found = lasting(lambda: _look(config, db, hub), (LOOKS - 1) * PAUSE)
        found |= lasting(lambda: powers(db, hub), config.report_seconds + GRACE)
        return sorted(found)
    finally:
        db.close()


def lasting(look: Callable[[], Iterable[str]], seconds: float, pause: float = PAUSE) -> set[str]:
    """The differences that every look within so many seconds finds; at once when there is none."""
    found, ends = set(look()), time.monotonic() + seconds
    while found and time.monotonic() < ends:
        time.sleep(pause)
        found &= set(look())
    return found


def _look(config: Config, db: Database, hub: Connect) -> Iterator[str]:
    yield from _roles(config)
    yield from contradictions(db, hub, time.time(), directories(config, db))
    own = node.node_id(config)
    for one in db.read(NODES.all):
        if one.id == own and config.switch == "linux":
            yield from _machine(config, db, one)


def contradictions(
    db: Database, hub: Connect, now: float, more: dict[str, Kind[Any]] | None = None
) -> Iterator[str]:  # fmt: skip
    """Records against each other, the image store, the queue of work and the nodes' own words, at this moment.

    `more` are kinds of work besides those that every cloud has.
    """
    yield from db.read(_records)
    yield from _blobs(db, hub)
    yield from _work(db, kinds(db, hub) | (more or {}), now)
    for one in db.read(NODES.all):
        yield from strangers(db, hub, one)


def _roles(config: Config) -> Iterator[str]:
    running = processes(config.folder / "run")
    wanted = [role for role in ROLES if role != "agent" or config.roles]
    yield from (f"process: {role} does not run" for role in wanted if role not in running)


def _records(tx: Tx) -> list[str]:
    """What records say of each other."""
    return [
        f"records: {line}"
        for service in (placement, image, network, volume, compute)
        for line in service.inconsistencies(tx)
    ]


def _blobs(db: Database, hub: Connect) -> Iterator[str]:
    wanted, passing = db.read(lambda tx: (image.expected_blobs(tx), image.passing_blobs(tx)))
    there = set(hub.blob.list())
    yield from (f"image store: {name} belongs to no image" for name in there - wanted - passing)
    yield from (f"image store: {name} is missing" for name in wanted - there)


def _work(db: Database, known: dict[str, Kind[Any]], now: float) -> list[str]:
    """The queue: work for nothing, and work that nobody does."""

    def compare(tx: Tx) -> Iterator[str]:
        for kind, resource_id, due, why in tx.all("select kind, id, due, why from work"):
            found = known.get(kind)
            if found is None:
                yield f"work: nobody knows the kind {kind} of {resource_id}"
            elif found.load(tx, resource_id) is None:
                yield f"work: {kind} {resource_id} does not exist"
            elif due is not None and now - due > STUCK_SECONDS:
                yield f"work: {kind} {resource_id} has been due for {now - due:.0f} s ({why or 'no reason given'})"

    return db.read(lambda tx: list(compare(tx)))


def _machine(config: Config, db: Database, one: Node) -> Iterator[str]:
    """What the kernel of this machine has, against what this node should have."""
    there = traces.read(config)
    wanted = db.read(lambda tx: network.expected(tx, one.id))
    owners = wanted["segment"] | wanted["router"]
    owners |= db.read(lambda tx: compute.expected_guests(tx, one.id) | volume.expected(tx, one.id))
    yield from (f"namespace of router {i} is nobody's" for i in there.routers - wanted["router"])
    yield from (f"namespace of network {i} is nobody's" for i in there.served - wanted["segment"])
    yield from _devices(db, there.devices, wanted)
    ports = {i.replace("-", "_") for i in wanted["port"]}
    yield from (f"nftables: rules of port {word} are nobody's" for word in there.port_rules - ports)
    yield from (f"nftables: set of security group {i} is nobody's" for i in there.groups - wanted["group"])
    for pid, program, thing in there.processes:
        if thing not in owners:
            yield f"process {pid}: {program} serves {traces.PROGRAMS[program]} {thing}, which is nobody's"


def _devices(db: Database, there: Iterable[str], wanted: dict[str, set[str]]) -> Iterator[str]:
    allowed = traces.tap_names(wanted["port"]) | traces.segment_names(wanted["segment"])
    ours = {name for name in there if name.startswith(("tap", "br", "vx", "dh"))}
    yield from (f"device {name} is nobody's" for name in ours - allowed)
    for port in db.read(lambda tx: [network.get_port(tx, port_id) for port_id in wanted["port"]]):
        if port is not None and port.up and port.device not in ours:
            yield f"port {port.id} should be up, but its device {port.device} is not there"


def _leftovers(config: Config) -> Iterator[str]:
    """What is left on the machine of a cloud that is down: nothing should be."""
    if config.switch != "linux":
        return
    there = traces.read(config)
    yield from (f"namespace of router {i} is left" for i in there.routers)
    yield from (f"namespace of network {i} is left" for i in there.served)
    yield from (f"device {name} is left" for name in there.devices if name != "lo")
    yield from (f"process {pid}: {program} is left" for pid, program, _ in there.processes)
