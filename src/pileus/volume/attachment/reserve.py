"""Tying a volume to its user: who may have it, and when.

Source: Block Storage API reference, "Create attachment"; CVE-2023-2088 (who may end an attachment).
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.events import record_request
from pileus.core.ids import new_id
from pileus.volume.attachment.rows import ATTACHMENTS, Attachment, of_volumes
from pileus.volume.volume.rows import Volume, status


def reserve(
    ctx: Context,
    volume: Volume,
    *,
    server_id: str | None,
    mode: str = "rw",
    attachment_id: str | None = None,
    managed: bool = False,
    host_name: str | None = None,
    connector: dict[str, Any] | None = None,
) -> Attachment:
    """Reserve a volume for a server or host; raises BadRequest with the reason when it cannot be."""
    ctx.tx.lock(f"volume/{volume.id}")
    ties = of_volumes(ctx.tx, [volume.id]).get(volume.id, [])
    _check(ctx, volume, ties, server_id, managed=managed)
    if mode == "rw" and volume.read_only:
        raise BadRequest(f"Invalid attaching mode 'rw' for volume {volume.id}: the volume is read-only.")
    made = Attachment(
        id=attachment_id or new_id(), volume_id=volume.id, project_id=volume.project_id, server_id=server_id,
        host_name=host_name, mode=mode, managed=managed, connector=connector, created_at=ctx.now,
    )  # fmt: skip
    ATTACHMENTS.insert(ctx.tx, made)
    record_request(ctx, "volume", volume.id, "reserve", attachment_id=made.id, server_id=server_id)
    return made


def _check(ctx: Context, volume: Volume, ties: list[Attachment], server_id: str | None, *, managed: bool) -> None:
    seen = status(volume, ties)
    if server_id is not None and any(t.server_id == server_id for t in ties):
        raise BadRequest(f"Invalid volume: volume {volume.id} is already attached to instance {server_id}.")
    if seen == "available":
        return
    shared = volume.multiattach and ties
    if seen == "creating" and volume.for_server and managed and (shared or not ties):
        return
    if not (shared and seen in ("in-use", "attaching", "reserved")):
        raise BadRequest(
            f"Invalid volume: Volume {volume.id} status must be available"
            f"{' or in-use, attaching or reserved' if volume.multiattach else ''} to reserve, but the current"
            f" status is {seen}."
        )
    if volume.bootable:
        ctx.enforce("volume:multiattach_bootable_volume", volume)
