"""Asking for the end of a volume, and for new bytes in it.

Source: Block Storage API reference, "Delete a volume", "Reimage a volume".
"""

from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.events import record, record_request
from pileus.db.connect import Tx
from pileus.volume.attachment.rows import of_volumes
from pileus.volume.snapshot import rows as snapshots
from pileus.volume.snapshot.rows import SNAPSHOTS
from pileus.volume.volume.create import current_status, image_metadata, least_gib, usable_image
from pileus.volume.volume.rows import VOLUMES, Volume, wish

DELETABLE = ("available", "error", "error_restoring", "error_extending", "error_managing", "error_deleting")


def delete_volume(ctx: Context, volume: Volume, *, cascade: bool = False, force: bool = False) -> None:
    """Ask for a volume's end; raises BadRequest with the reason when it may not go now.

    `cascade` takes its snapshots along; `force` (the administrator's) ignores the status.
    """
    ctx.tx.lock(f"volume/{volume.id}")
    seen = current_status(ctx, volume)
    if any(not a.released for a in of_volumes(ctx.tx, [volume.id]).get(volume.id, ())):
        raise BadRequest(f"Invalid volume: Volume {volume.id} is still attached, detach volume first.")
    if not force and seen not in DELETABLE:
        raise BadRequest(
            f"Invalid volume: Volume status must be available or error or error_restoring or error_extending or"
            f" error_managing and must not be migrating, attached, belong to a group, have snapshots or be"
            f" disassociated from snapshots after volume transfer; it is {seen}."
        )
    theirs = SNAPSHOTS.all(ctx.tx, volume_id=volume.id)
    foreign = [s for s in theirs if s.project_id != volume.project_id]
    if foreign or (not cascade and any(not s.deleting for s in theirs)):
        raise BadRequest(f"Invalid volume: Volume {volume.id} still has {len(theirs)} dependent snapshots.")
    busy = [s for s in theirs if s.status not in ("available", "error", "deleting", "error_deleting")]
    if busy and not force:
        raise BadRequest(f"Invalid volume: Snapshot {busy[0].id} of it is {busy[0].status}: wait until it is done.")
    for snapshot in theirs:
        snapshots.wish(ctx.tx, snapshot, ctx.now, deleting=True)
    ctx.tx.run("delete from volume_transfers where volume_id = ?", volume.id)
    record_request(ctx, "volume", volume.id, "delete")
    wish(ctx.tx, volume, ctx.now, deleting=True, transferring=False, request_id=ctx.request_id)


def delete_from_below(tx: Tx, volume_id: str, now: float) -> None:
    """The end of a volume with the server that had it; one with snapshots stays, as the API demands."""
    volume = VOLUMES.get(tx, id=volume_id)
    if volume is None or volume.deleting:
        return
    kept = SNAPSHOTS.count(tx, volume_id=volume_id, deleting=False)
    why = f"it has {kept} snapshots" if kept else "it is being transferred" if volume.transferring else None
    record(
        tx, now=now, kind="volume", resource_id=volume_id, action="delete", phase="refused" if why else "start",
        message=why and f"the volume outlives its server: {why}", project_id=volume.project_id,
    )  # fmt: skip
    if why is None:
        wish(tx, volume, now, deleting=True)


def reimage_volume(ctx: Context, volume: Volume, image_id: str, *, reserved: bool) -> None:
    """Ask for a volume's bytes to be replaced by an image's; a reserved one only if that is said (3.68)."""
    seen = current_status(ctx, volume)
    allowed = ("available", "error", "reserved") if reserved else ("available", "error")
    if seen not in allowed:
        raise BadRequest(
            f"Invalid volume: Volume {volume.id} must be {' or '.join(allowed)} to be re-imaged, it is {seen}."
        )
    if SNAPSHOTS.count(ctx.tx, volume_id=volume.id):
        raise BadRequest(f"Invalid volume: Volume {volume.id} has snapshots: delete them before it is re-imaged.")
    found = usable_image(ctx, image_id)
    if least_gib(found) > volume.shown_gib:
        raise BadRequest(
            f"Invalid image: it needs a volume of {least_gib(found)}GB, and volume {volume.id} has"
            f" {volume.shown_gib}GB."
        )
    record_request(ctx, "volume", volume.id, "reimage", image_id=image_id)
    wish(
        ctx.tx, volume, ctx.now, reimage_id=found.id, reimages=volume.reimages + 1, bootable=True,
        image_metadata=image_metadata(found), request_id=ctx.request_id,
    )  # fmt: skip
