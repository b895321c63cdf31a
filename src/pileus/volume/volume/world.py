"""A volume's view of the outside: the pools, the block driver of its node, images, its fellow rows."""

from collections.abc import Callable
from typing import Any

from pileus.core.ids import derived_id
from pileus.core.reconcile import Gone, Kind, Lease, Outcome, Transient, poke, transact
from pileus.db.connect import Database, Tx
from pileus.image import facade as image
from pileus.volume import drivers, pools
from pileus.volume.attachment.rows import ATTACHMENTS
from pileus.volume.drivers import Block, Broken, Source
from pileus.volume.hub import Hub
from pileus.volume.message import tell
from pileus.volume.point_in_time import READERS, PointInTime, Reader, claim_alone, readers
from pileus.volume.pools import PoolSeen
from pileus.volume.snapshot.rows import SNAPSHOTS
from pileus.volume.volume.lifecycle import World, overdue, stage, step
from pileus.volume.volume.rows import STATUS, VOLUMES, Volume, dependents
from pileus.volume.volume_type import TYPES, allows_multiattach

FILLING = ("queued", "saving")  # statuses of an image that is not finished


class VolumeWorld:
    """lifecycle.World under a lease; the volume is read anew at each step."""

    def __init__(self, db: Database, hub: Hub, lease: Lease, clock: Callable[[], float]):
        self.db, self.hub, self.lease, self.clock = db, hub, lease, clock
        self.frozen = PointInTime(db, hub, lease, clock)
        found = db.read(lambda tx: VOLUMES.get(tx, id=lease.id))
        if found is None:
            raise Transient("the volume is gone")
        self.volume = found

    @property
    def block(self) -> Block:
        assert self.volume.node_id is not None
        return self.hub.block(self.volume.node_id, self.lease)

    @property
    def pool(self) -> str:
        assert self.volume.pool is not None
        return self.volume.pool

    def place(self) -> PoolSeen:
        return self.db.read(self._place)

    def _place(self, tx: Tx) -> PoolSeen:
        volume = self.volume
        type_ = TYPES.get(tx, id=volume.volume_type_id)
        assert type_ is not None
        if source := self._source_volume(tx):
            for pool in pools.all_pools(tx, self.clock()):
                if (pool.node_id, pool.name) == (source.node_id, source.pool):
                    return pool
            raise Transient(f"the pool {source.pool} of its source is away")
        return pools.choose(
            tx, type_, zone=volume.zone, size_gib=volume.wanted_gib, near_node_id=volume.near_node_id,
            now=self.clock(),
        )  # fmt: skip

    def _source_volume(self, tx: Tx) -> Volume | None:
        """The volume in whose pool a copy has to be made; raises Broken when it is gone."""
        volume_id = self.volume.source_volid
        if self.volume.snapshot_id:
            snapshot = SNAPSHOTS.get(tx, id=self.volume.snapshot_id)
            if snapshot is None:
                raise Broken(f"snapshot {self.volume.snapshot_id} is gone")
            volume_id = snapshot.volume_id
        if volume_id is None:
            return None
        found = VOLUMES.get(tx, id=volume_id)
        if found is None or not found.made:
            raise Broken(f"volume {volume_id} is gone")
        return found

    def make(self) -> int | None:
        volume = self.volume
        source: Source | None = None
        if volume.image_id:
            source = self._image_source(volume.image_id)
        elif volume.snapshot_id:
            source = Source(kind="snapshot", id=volume.snapshot_id)
        elif volume.source_volid:
            source = self._clone_source(volume.source_volid)
            if source is None:
                return None
        return self._ensure(source)

    def _ensure(self, source: Source | None) -> int | None:
        volume = self.volume
        wanted = drivers.Volume(id=volume.id, pool=self.pool, size_gib=volume.wanted_gib, source=source)
        seen = self.block.ensure_volume(wanted)
        return None if seen is None else seen.size_gib

    def _image_source(self, image_id: str) -> Source:
        try:
            return Source(kind="image", id=image_id, image=self.db.read(lambda tx: image.source(tx, image_id)))
        except LookupError as error:
            raise Broken(str(error)) from None

    def _clone_source(self, source_id: str) -> Source | None:
        """The other volume itself while nobody has it open, else a snapshot of one instant, made for this clone."""
        frozen = self.frozen.freeze(source_id, self.volume.id)
        if frozen is None:
            return None
        if not frozen.copy_id:
            return Source(kind="volume", id=source_id)
        wanted = drivers.Snapshot(
            id=self._between, volume_id=source_id, pool=self.pool,
            copy_path=frozen.path_on(str(self.volume.node_id)),
        )  # fmt: skip
        return Source(kind="snapshot", id=self._between) if self.block.ensure_snapshot(wanted) else None

    @property
    def _between(self) -> str:
        return clone_snapshot(self.volume.id)

    def grow(self) -> int | None:
        volume = self.volume
        if any(r.reader_id != volume.id for r in self.db.read(lambda tx: readers(tx, volume.id))):
            return None
        if volume.id not in self.block.list_things():
            raise Broken(f"volume {volume.id} is not on its node any more")
        return self._ensure(None)

    def _alone(self) -> bool:
        return transact(self.db, self.lease, lambda tx: claim_alone(tx, self.volume.id, self.volume.id))

    def revert(self) -> int | None:
        snapshot_id = self.volume.revert_snapshot_id
        snapshot = self.db.read(lambda tx: SNAPSHOTS.get(tx, id=snapshot_id)) if snapshot_id else None
        if snapshot is None:
            raise Broken(f"snapshot {snapshot_id} is gone")
        done = self._alone() and self.block.revert(self.pool, self.volume.id, snapshot.id)
        return snapshot.size_gib if done else None

    def empty(self) -> bool:
        return self._alone() and self.block.remove_volume(self.pool, self.volume.id)

    def fill(self) -> int | None:
        assert self.volume.reimage_id is not None
        return self._ensure(self._image_source(self.volume.reimage_id))

    def move(self, pool: str) -> str | None:
        volume = self.volume
        if self.db.read(lambda tx: dependents(tx, volume.id)) or not self._alone():
            return None
        there = self.db.read(lambda tx: pools.all_pools(tx, self.clock()))
        backend = next((p.backend for p in there if (p.node_id, p.name) == (volume.node_id, pool)), None)
        if backend is None:
            raise Broken(f"its node has no pool {pool} any more")
        source = Source(kind="volume", id=volume.id, pool=self.pool)
        wanted = drivers.Volume(id=volume.id, pool=pool, size_gib=volume.size_gib, source=source)
        return backend if self.block.ensure_volume(wanted) is not None else None

    def leave(self, pool: str) -> bool:
        return self.block.remove_volume(pool, self.volume.id)

    def upload(self) -> bool:
        volume, image_id = self.volume, self.volume.upload_image_id
        assert image_id is not None and volume.node_id is not None
        view = self.db.read(lambda tx: image.find_image(tx, image_id))
        if view is None or view.status not in FILLING:
            return True
        if view.status == "queued":
            frozen = self.frozen.freeze(volume.id, volume.id)
            if frozen is not None and frozen.copy_id:
                self._feed(image_id, node_id=frozen.node_id, copy_id=frozen.copy_id)
            elif frozen is not None:
                self._feed(image_id, node_id=volume.node_id, pool=self.pool, volume_id=volume.id)
        return False

    def _feed(self, image_id: str, **where: str) -> None:
        transact(self.db, self.lease, lambda tx: image.feed(tx, image_id, now=self.clock(), **where))

    def let_go(self) -> bool:
        return self.frozen.thaw(self.volume.id, self._drop_between)

    def _drop_between(self, reader: Reader) -> bool:
        """Remove the snapshot that was made for this clone alone."""
        if reader.thing_id == self.volume.id or not reader.server_id or self.volume.node_id is None:
            return True
        return self.block.remove_snapshot(self.pool, self._between)

    def held_by(self) -> str:
        tied = self.db.read(lambda tx: ATTACHMENTS.count(tx, volume_id=self.volume.id))
        return "its attachments are being removed" if tied else ""

    def needed_by(self) -> str:
        return self.db.read(self._needed_by)

    def _needed_by(self, tx: Tx) -> str:
        volume_id = self.volume.id
        if theirs := SNAPSHOTS.all(tx, volume_id=volume_id):
            stuck = [snapshot for snapshot in theirs if snapshot.faulted]
            if stuck:  # nobody tries those again before somebody asks
                raise Broken(f"its snapshot {stuck[0].id} could not be removed: {stuck[0].fault}")
            return "its snapshots are being removed"
        if any(r.reader_id != volume_id for r in readers(tx, volume_id)) or dependents(tx, volume_id):
            return "it is being copied"
        return ""

    def remove(self) -> bool:
        places = [place for place in (self.pool, self.volume.other_pool) if place is not None]
        return all(self.block.remove_volume(place, self.volume.id) for place in places)


def clone_snapshot(volume_id: str) -> str:
    """The id of the snapshot between a volume in use and its clone."""
    return derived_id(volume_id, "clone")


def save(tx: Tx, volume: Volume, outcome: Outcome, now: float) -> None:
    """Write what the step found; who waits for the volume hears of it, the user of a fault."""
    before = VOLUMES.get(tx, id=volume.id)
    if before is None:
        return
    if isinstance(outcome, Gone):
        _gone(tx, volume, now)
        return
    if (volume.made, volume.size_gib, volume.fault_generation) != (
        before.made, before.size_gib, before.fault_generation,
    ):  # fmt: skip
        volume.seen_at = now
        announce(tx, volume, now)
        if volume.faulted:
            tell(tx, volume, "VOLUME", stage(volume), now)
    if volume.moved != before.moved:
        _end_move(tx, volume, now)
    if volume.uploaded_image_id != before.uploaded_image_id:
        _tell_of_upload(tx, volume, now)
    VOLUMES.save(tx, volume, STATUS)


def announce(tx: Tx, volume: Volume, now: float) -> None:
    """Whoever has to do with the volume looks again: its attachments, their servers, what it was made from."""
    for attachment in ATTACHMENTS.all(tx, volume_id=volume.id):
        poke(tx, "attachment", attachment.id, now)
        if attachment.server_id and attachment.managed:
            poke(tx, "server", attachment.server_id, now)
    if volume.snapshot_id and SNAPSHOTS.count(tx, id=volume.snapshot_id, deleting=True):
        poke(tx, "snapshot", volume.snapshot_id, now)
    if volume.source_volid and VOLUMES.count(tx, id=volume.source_volid, deleting=True):
        poke(tx, "volume", volume.source_volid, now)


def _gone(tx: Tx, volume: Volume, now: float) -> None:
    announce(tx, volume, now)
    READERS.delete(tx, reader_id=volume.id)
    tx.run("delete from volume_transfers where volume_id = ?", volume.id)
    if volume.upload_image_id not in (None, volume.uploaded_image_id):
        image.fail(tx, str(volume.upload_image_id), "The volume that it was made from was deleted.", now)
    VOLUMES.delete(tx, id=volume.id)


def _end_move(tx: Tx, volume: Volume, now: float) -> None:
    """With its bytes in the new pool a volume has the type that it was wished; else its user hears why not."""
    if volume.pool != volume.move_pool:
        tell(tx, volume, "VOLUME", "retype", now)
    elif type_ := TYPES.get(tx, id=volume.move_type_id):
        changed = {"volume_type_id": type_.id, "multiattach": allows_multiattach(type_)}
        VOLUMES.update(tx, changed, id=volume.id)


def _tell_of_upload(tx: Tx, volume: Volume, now: float) -> None:
    """An upload has ended: if not well, the image and the user hear why."""
    image_id = str(volume.uploaded_image_id)
    view = image.find_image(tx, image_id)
    if view is not None and view.status == "active":
        return
    why = view.fault if view and view.fault else volume.fault or f"image {image_id} was deleted"
    image.fail(tx, image_id, why, now)
    tell(tx, volume, "VOLUME", "upload", now, why)


def kind(db: Database, hub: Hub, clock: Callable[[], float]) -> Kind[Any]:
    """Volumes for the engine."""

    def world(lease: Lease) -> World:
        return VolumeWorld(db, hub, lease, clock)

    return Kind("volume", lambda tx, id_: VOLUMES.get(tx, id=id_), step, save, overdue, world)
