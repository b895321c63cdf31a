"""A snapshot's view of the outside: the block driver of its volume's node."""

from collections.abc import Callable
from typing import Any

from pileus.core.reconcile import Gone, Kind, Lease, Outcome, Transient, poke
from pileus.db.connect import Database, Tx
from pileus.volume import drivers
from pileus.volume.drivers import Broken
from pileus.volume.hub import Hub
from pileus.volume.message import tell
from pileus.volume.point_in_time import PointInTime
from pileus.volume.snapshot.lifecycle import World, overdue, step
from pileus.volume.snapshot.rows import SNAPSHOTS, STATUS, Snapshot
from pileus.volume.volume.rows import VOLUMES, Volume, dependents


class SnapshotWorld:
    """lifecycle.World under a lease."""

    def __init__(self, db: Database, hub: Hub, lease: Lease, clock: Callable[[], float]):
        self.db, self.hub, self.lease = db, hub, lease
        self.frozen = PointInTime(db, hub, lease, clock)

    def _volume(self) -> Volume:
        def work(tx: Tx) -> Volume | None:
            snapshot = SNAPSHOTS.get(tx, id=self.lease.id)
            return VOLUMES.get(tx, id=snapshot.volume_id) if snapshot else None

        volume = self.db.read(work)
        if volume is None:
            raise Transient("the snapshot is gone")
        return volume

    def take(self) -> bool:
        volume = self._volume()
        if not volume.made or not volume.node_id or not volume.pool:
            raise Broken(f"volume {volume.id} was never made, so there is nothing to take a snapshot of")
        frozen = self.frozen.freeze(volume.id, self.lease.id)
        if frozen is None:
            return False
        wanted = drivers.Snapshot(
            id=self.lease.id, volume_id=volume.id, pool=volume.pool, copy_path=frozen.path_on(volume.node_id)
        )
        return bool(self.hub.block(volume.node_id, self.lease).ensure_snapshot(wanted))

    def let_go(self) -> bool:
        return self.frozen.thaw(self.lease.id)

    def in_use_by(self) -> str:
        waiting = self.db.read(lambda tx: dependents(tx, self.lease.id))
        return f"volume {waiting[0]} is being made from it" if waiting else ""

    def remove(self) -> bool:
        volume = self._volume()
        if not volume.node_id or not volume.pool:
            return True
        return self.hub.block(volume.node_id, self.lease).remove_snapshot(volume.pool, self.lease.id)


def save(tx: Tx, snapshot: Snapshot, outcome: Outcome, now: float) -> None:
    """Write what the step found; the volume hears of the end, the user of a fault."""
    before = SNAPSHOTS.get(tx, id=snapshot.id)
    if before is None:
        return
    if isinstance(outcome, Gone):
        SNAPSHOTS.delete(tx, id=snapshot.id)
        poke(tx, "volume", snapshot.volume_id, now)
        return
    if (snapshot.made, snapshot.fault_generation) != (before.made, before.fault_generation):
        snapshot.seen_at = now
        if snapshot.faulted:
            doing = "delete snapshot" if snapshot.deleting else "create snapshot"
            tell(tx, snapshot, "VOLUME_SNAPSHOT", doing, now)
    SNAPSHOTS.save(tx, snapshot, STATUS)


def kind(db: Database, hub: Hub, clock: Callable[[], float]) -> Kind[Any]:
    """Snapshots for the engine."""

    def world(lease: Lease) -> World:
        return SnapshotWorld(db, hub, lease, clock)

    return Kind("snapshot", lambda tx, id_: SNAPSHOTS.get(tx, id=id_), step, save, overdue, world)
