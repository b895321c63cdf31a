"""Each node's own word against the records: what it has that nobody wants, guests that are not as they are shown."""

from collections.abc import Iterable, Iterator

from pileus.compute import facade as compute
from pileus.core.nodes import NODES, Node
from pileus.db.connect import Database, Tx
from pileus.image import facade as image
from pileus.network import facade as network
from pileus.roles.controller import Connect
from pileus.volume import facade as volume

RUNS = ("on", "paused")  # powers with a process


def strangers(db: Database, hub: Connect, one: Node) -> Iterator[str]:
    """What a node says that it has, and nobody wants there."""
    try:
        there = _things(hub, one)
    except OSError as error:
        yield f"node {one.name}: {error}"
        return
    wanted = db.read(lambda tx: _wanted(tx, one.id))
    for kind, ids in there.items():
        yield from (f"node {one.name}: {kind} {thing} is nobody's" for thing in set(ids) - wanted.get(kind, set()))


def _things(hub: Connect, one: Node) -> dict[str, Iterable[str]]:
    hypervisor = hub.hypervisor(one.id)
    return {
        "guest": hypervisor.list_guests(),
        "copy of a disk": hypervisor.list_disk_copies(),
        "draft of image": hypervisor.list_image_drafts(),
        "volume or snapshot": hub.block(one.id).list_things(),
        **hub.switch(one.id).list_things(),
    }


def _wanted(tx: Tx, node_id: str) -> dict[str, set[str]]:
    return {
        "guest": compute.expected_guests(tx, node_id),
        "copy of a disk": compute.expected_copies(tx, node_id) | volume.expected_copies(tx, node_id),
        "draft of image": image.with_bytes(tx),
        "volume or snapshot": volume.expected(tx, node_id),
        **network.expected(tx, node_id),
    }


def powers(db: Database, hub: Connect) -> Iterator[str]:
    """Servers that nobody is at work on, and that are shown as running or not, against their guests."""
    for one in db.read(NODES.all):
        try:
            yield from _powers(db, hub, one)
        except OSError:  # `strangers` tells of it
            continue


def _powers(db: Database, hub: Connect, one: Node) -> Iterator[str]:
    hypervisor = hub.hypervisor(one.id)
    for server_id, shown in db.read(lambda tx: compute.powers_shown(tx, one.id)).items():
        seen = hypervisor.observe_guest(server_id)
        power = seen.power if seen is not None else "gone"
        if (shown in RUNS) != (power in RUNS):
            yield f"server {server_id} is shown as {shown or 'off'}, but its guest on node {one.name} is {power}"
