"""Images being made of a server's local disk: copied on its node, fetched by the image service, then forgotten.

Source: Compute API reference, "Create image (createImage action)", "Create server back up".
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

from pileus.compute.drivers import Broken, Hypervisor
from pileus.compute.server.rows import SERVERS, SNAPSHOTS, Snapshot
from pileus.core.reconcile import AGAIN, GONE, Gone, Kind, Lease, Outcome, Wait, poke, transact
from pileus.db.connect import Database, Tx
from pileus.image import facade as image

NAME = "server_snapshot"


class World(Protocol):
    """What a snapshot needs of the outside."""

    def image_status(self, snapshot: Snapshot) -> str:
        """ "" when the image is gone."""

    def may_copy(self, snapshot: Snapshot) -> bool:
        """Whether the server is as the image shall show it: off, when it is being shelved."""

    def copy(self, snapshot: Snapshot) -> bool: ...

    def feed(self, snapshot: Snapshot) -> None: ...

    def fail(self, snapshot: Snapshot, why: str) -> None: ...

    def remove_copy(self, snapshot: Snapshot) -> bool: ...


def step(snapshot: Snapshot, world: World) -> Outcome:
    """The next thing that is missing; at the end nothing of it is left but the image."""
    status = world.image_status(snapshot)
    if snapshot.cancelled and status not in ("active", ""):
        world.fail(snapshot, "the server was deleted while its image was being made")
    if snapshot.cancelled or status in ("active", "killed", "deleted", ""):
        return GONE if world.remove_copy(snapshot) else Wait(0.5, "the copy of the disk is being removed")
    if not snapshot.copied:
        return _copy(snapshot, world)
    if not snapshot.fed:
        world.feed(snapshot)
        snapshot.fed = True
        return AGAIN
    return Wait(10.0, "the image is being stored", patience=3600.0)


def _copy(snapshot: Snapshot, world: World) -> Outcome:
    if not world.may_copy(snapshot):
        return Wait(0.5, "the server is shutting down")
    try:
        snapshot.copied = world.copy(snapshot)
    except (Broken, LookupError) as error:
        world.fail(snapshot, str(error))
        return AGAIN
    return AGAIN if snapshot.copied else Wait(0.5, "the disk is being copied", patience=3600.0)


def overdue(snapshot: Snapshot, why: str) -> Outcome:
    """Give it up: the next step removes what was made."""
    snapshot.cancelled = True
    return AGAIN


class SnapshotWorld:
    """World over the real things."""

    def __init__(self, db: Database, hub: Any, lease: Lease, clock: Callable[[], float]):
        self.db, self.hub, self.lease, self.clock = db, hub, lease, clock

    def _node(self, snapshot: Snapshot) -> Hypervisor:
        found: Hypervisor = self.hub.hypervisor(snapshot.node_id, self.lease)
        return found

    def image_status(self, snapshot: Snapshot) -> str:
        found = self.db.read(lambda tx: image.find_image(tx, snapshot.image_id))
        return found.status if found is not None else ""

    def may_copy(self, snapshot: Snapshot) -> bool:
        if snapshot.kind != "shelve":
            return True
        server = self.db.read(lambda tx: SERVERS.get(tx, id=snapshot.server_id))
        return server is None or server.seen.power in ("", "off", "crashed")

    def copy(self, snapshot: Snapshot) -> bool:
        return self._node(snapshot).ensure_disk_copy(snapshot.server_id, snapshot.disk_id, snapshot.id) is not None

    def feed(self, snapshot: Snapshot) -> None:
        transact(
            self.db, self.lease,
            lambda tx: image.feed(
                tx, snapshot.image_id, node_id=snapshot.node_id, copy_id=snapshot.id, now=self.clock()
            ),
        )  # fmt: skip

    def fail(self, snapshot: Snapshot, why: str) -> None:
        transact(self.db, self.lease, lambda tx: image.fail(tx, snapshot.image_id, why, self.clock()))

    def remove_copy(self, snapshot: Snapshot) -> bool:
        return self._node(snapshot).remove_disk_copy(snapshot.id)


def cancel(tx: Tx, snapshot: Snapshot, now: float) -> None:
    """Give up an image that is being made."""
    if not snapshot.cancelled:
        SNAPSHOTS.update(tx, {"cancelled": True}, id=snapshot.id)
        poke(tx, NAME, snapshot.id, now)


def save(tx: Tx, snapshot: Snapshot, outcome: Outcome, now: float) -> None:
    """Write the status; at its end the server looks again, and a back-up that is one too many goes."""
    if isinstance(outcome, Gone):
        SNAPSHOTS.delete(tx, id=snapshot.id)
        poke(tx, "server", snapshot.server_id, now)
        return
    SNAPSHOTS.save(tx, snapshot, ("cancelled", "copied", "fed"))


def kind(db: Database, hub: Any, clock: Callable[[], float] = time.time) -> Kind[Any]:
    """How the engine handles snapshots."""
    return Kind(
        NAME, lambda tx, i: SNAPSHOTS.get(tx, id=i), step, save, overdue,
        lambda lease: SnapshotWorld(db, hub, lease, clock),
    )  # fmt: skip
