"""An attachment's view of the outside: the block driver of the volume's node, and its fellow attachments."""

from collections.abc import Callable
from typing import Any

from pileus.core.reconcile import Gone, Kind, Lease, Outcome, Transient, poke, transact
from pileus.db.connect import Database, Tx
from pileus.volume.attachment.lifecycle import World, overdue, step
from pileus.volume.attachment.rows import ATTACHMENTS, STATUS, Attachment
from pileus.volume.drivers import Broken, Connection
from pileus.volume.hub import Hub
from pileus.volume.point_in_time import readers
from pileus.volume.volume.rows import VOLUMES, Volume


class AttachmentWorld:
    """lifecycle.World under a lease."""

    def __init__(self, db: Database, hub: Hub, lease: Lease):
        self.db, self.hub, self.lease = db, hub, lease

    def _pair(self, tx: Tx) -> tuple[Attachment, Volume]:
        attachment = ATTACHMENTS.get(tx, id=self.lease.id)
        volume = VOLUMES.get(tx, id=attachment.volume_id) if attachment else None
        if attachment is None or volume is None:
            raise Transient("the attachment is gone")
        return attachment, volume

    def claim_export(self) -> str:
        return transact(self.db, self.lease, self._claim)

    def _claim(self, tx: Tx) -> str:
        attachment, volume = self._pair(tx)
        if not volume.made:
            if volume.faulted:
                raise Broken(f"volume {volume.id} could not be made: {volume.fault}")
            return "the volume is being created"
        tx.lock(f"volume/{volume.id}")
        if any(not r.server_id for r in readers(tx, volume.id)):
            return "the volume is being copied"
        if volume.reimages != volume.reimaged:
            return "the volume is being filled from an image"
        fellows = ATTACHMENTS.all(tx, volume_id=volume.id, export_node_id=attachment.node_id)
        if any(f.leaving for f in fellows):
            return "an earlier export of the volume to this node is being removed"
        ATTACHMENTS.update(tx, {"export_node_id": attachment.node_id}, id=attachment.id)
        return ""

    def ensure_export(self) -> Connection | None:
        attachment, volume = self.db.read(self._pair)
        assert volume.node_id and volume.pool and attachment.export_node_id
        try:
            return self.hub.block(volume.node_id, self.lease).ensure_export(
                volume.pool, volume.id, attachment.export_node_id
            )
        except LookupError as error:
            raise Broken(f"volume {volume.id} is not on its node: {error}") from None

    def begin_unexport(self) -> bool:
        def work(tx: Tx) -> bool:
            attachment, volume = self._pair(tx)
            tx.lock(f"volume/{volume.id}")
            fellows = ATTACHMENTS.all(tx, volume_id=volume.id, export_node_id=attachment.export_node_id)
            if any(f.id != attachment.id and not f.leaving for f in fellows):
                ATTACHMENTS.update(tx, {"export_node_id": None, "leaving": False}, id=attachment.id)
                return False
            ATTACHMENTS.update(tx, {"leaving": True}, id=attachment.id)
            return True

        return transact(self.db, self.lease, work)

    def remove_export(self) -> bool:
        attachment, volume = self.db.read(self._pair)
        assert volume.node_id and volume.pool and attachment.export_node_id
        return self.hub.block(volume.node_id, self.lease).remove_export(
            volume.pool, volume.id, attachment.export_node_id
        )


def save(tx: Tx, attachment: Attachment, outcome: Outcome, now: float) -> None:
    """Write what the step found; the server hears of a connection, of a fault and of the end."""
    before = ATTACHMENTS.get(tx, id=attachment.id)
    if before is None:
        return
    if isinstance(outcome, Gone):
        ATTACHMENTS.delete(tx, id=attachment.id)
        poke(tx, "volume", attachment.volume_id, now)
    else:
        ATTACHMENTS.save(tx, attachment, STATUS)
    news = isinstance(outcome, Gone) or any(
        getattr(before, column) != getattr(attachment, column) for column in ("connection", "export_node_id", "fault")
    )
    if news and attachment.server_id and attachment.managed:
        poke(tx, "server", attachment.server_id, now)


def kind(db: Database, hub: Hub, _clock: Callable[[], float]) -> Kind[Any]:
    """Attachments for the engine."""

    def world(lease: Lease) -> World:
        return AttachmentWorld(db, hub, lease)

    return Kind("attachment", lambda tx, id_: ATTACHMENTS.get(tx, id=id_), step, save, overdue, world)
