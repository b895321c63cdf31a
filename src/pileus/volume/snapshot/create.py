"""Asking for a snapshot, and for its end.

Source: Block Storage API reference, "Volume snapshots (snapshots)".
"""

from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.events import record_request
from pileus.core.ids import new_id
from pileus.core.reconcile import poke
from pileus.volume import quota
from pileus.volume.snapshot.rows import SNAPSHOTS, Snapshot, wish
from pileus.volume.volume.create import current_status
from pileus.volume.volume.rows import Volume
from pileus.volume.volume_type import names


def create_snapshot(
    ctx: Context,
    volume: Volume,
    *,
    name: str | None = None,
    description: str | None = None,
    metadata: dict[str, str] | None = None,
    force: bool = False,
) -> Snapshot:
    """Take one from the quota and ask for it; a volume in use needs `force` (always so from 3.66)."""
    seen = current_status(ctx, volume)
    allowed = ("available", "in-use") if force else ("available",)
    if seen not in allowed:
        raise BadRequest(
            f"Invalid volume: Volume {volume.id} status must be {' or '.join(allowed)}, but current status is: {seen}."
        )
    type_ = (volume.volume_type_id, names(ctx.tx, {volume.volume_type_id})[volume.volume_type_id])
    quota.take(ctx, volume.project_id, type_, snapshots=1, gigabytes=volume.shown_gib)
    snapshot = Snapshot(
        id=new_id(), volume_id=volume.id, project_id=volume.project_id, user_id=ctx.user_id, name=name,
        description=description, metadata=metadata or {}, size_gib=volume.shown_gib, request_id=ctx.request_id,
        created_at=ctx.now,
    )  # fmt: skip
    SNAPSHOTS.insert(ctx.tx, snapshot)
    record_request(ctx, "snapshot", snapshot.id, "create", volume_id=volume.id)
    poke(ctx.tx, "snapshot", snapshot.id, ctx.now)
    return snapshot


def delete_snapshot(ctx: Context, snapshot: Snapshot) -> None:
    """Ask for a snapshot's end."""
    record_request(ctx, "snapshot", snapshot.id, "delete")
    wish(ctx.tx, snapshot, ctx.now, deleting=True)
