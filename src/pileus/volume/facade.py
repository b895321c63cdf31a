"""What other services may ask of block storage."""

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.reconcile import Kind
from pileus.db.connect import Database, Tx
from pileus.volume import check, operations
from pileus.volume.attachment import world as attachment_world
from pileus.volume.attachment.reserve import reserve as reserve_volume
from pileus.volume.attachment.rows import ATTACHMENTS, Attachment, of_volumes, wish
from pileus.volume.drivers import Connection
from pileus.volume.hub import Hub
from pileus.volume.service import VOLUME
from pileus.volume.snapshot import world as snapshot_world
from pileus.volume.snapshot.create import create_snapshot as make_snapshot
from pileus.volume.snapshot.rows import SNAPSHOTS, Snapshot
from pileus.volume.volume import world as volume_world
from pileus.volume.volume.create import Wanted, load_snapshot, load_volume
from pileus.volume.volume.create import create_volume as make_volume
from pileus.volume.volume.remove import delete_from_below, reimage_volume
from pileus.volume.volume.rows import VOLUMES, Volume, status
from pileus.volume.volume_type import names

__all__ = ["SERVICE", "AttachmentView", "SnapshotView", "VolumeView", "attachment", "attachments_of", "complete",
           "connect", "create_snapshot", "create_volume", "delete_volume", "disconnect", "expected", "expected_copies",
           "find_volume", "get_snapshot", "get_volume", "inconsistencies", "kinds", "node_seen", "reimage", "release",
           "reserve"]  # fmt: skip
assert operations  # importing it registers every operation
SERVICE = VOLUME


class VolumeView(Struct, frozen=True, kw_only=True):
    """A volume as other services see it; `fault` says why its status is an error."""

    id: str
    name: str
    status: str
    size: int  # GiB
    bootable: bool
    volume_type: str
    zone: str
    project_id: str
    user_id: str
    image_metadata: dict[str, str]
    multiattach: bool
    node_id: str | None  # that keeps it, None until it was placed
    pool: str | None
    server_ids: tuple[str, ...]
    snapshot_id: str | None = None
    fault: str | None = None


class SnapshotView(Struct, frozen=True, kw_only=True):
    """A snapshot as other services see it."""

    id: str
    name: str
    volume_id: str
    status: str
    size: int  # GiB
    project_id: str
    fault: str | None = None


class AttachmentView(Struct, frozen=True, kw_only=True):
    """An attachment as compute sees it: with a connection it can be opened on `node_id`."""

    id: str
    volume_id: str
    server_id: str | None
    status: str
    connection: Connection | None
    size_gib: int
    mountpoint: str | None
    fault: str | None
    node_id: str | None = None  # where it is wanted
    multiattach: bool = False


def kinds(db: Database, hub: Hub, clock: Callable[[], float] = time.time) -> list[Kind[Any]]:
    """What lives here: volumes, snapshots and attachments."""
    return [module.kind(db, hub, clock) for module in (volume_world, snapshot_world, attachment_world)]


def _view(tx: Tx, volume: Volume) -> VolumeView:
    ties = of_volumes(tx, [volume.id]).get(volume.id, [])
    return VolumeView(
        id=volume.id, name=volume.name or "", status=status(volume, ties), size=volume.shown_gib,
        bootable=volume.bootable, volume_type=names(tx, {volume.volume_type_id})[volume.volume_type_id],
        zone=volume.zone, project_id=volume.project_id, user_id=volume.user_id,
        image_metadata=volume.image_metadata, multiattach=volume.multiattach, node_id=volume.node_id,
        pool=volume.pool, server_ids=tuple(t.server_id for t in ties if t.server_id and not t.released),
        snapshot_id=volume.snapshot_id, fault=volume.fault if volume.faulted else None,
    )  # fmt: skip


def _attachment_view(attachment: Attachment, volume: Volume | None) -> AttachmentView:
    """The connection is shown while it serves the wish: for the node that is wanted now, not on its way out."""
    there = attachment.node_id is not None and attachment.node_id == attachment.export_node_id
    connection = attachment.connection if there and not attachment.leaving and not attachment.released else None
    if connection is not None and (attachment.mode == "ro" or (volume is not None and volume.read_only)):
        connection = structs.replace(connection, read_only=True)
    if connection is not None and volume is not None and volume.multiattach:
        connection = structs.replace(connection, shared=True)
    return AttachmentView(
        id=attachment.id, volume_id=attachment.volume_id, server_id=attachment.server_id, status=attachment.status,
        connection=connection, size_gib=volume.shown_gib if volume else 0, mountpoint=attachment.mountpoint,
        fault=attachment.fault if attachment.faulted else None, node_id=attachment.node_id,
        multiattach=volume is not None and volume.multiattach,
    )  # fmt: skip


def get_volume(ctx: Context, volume_id: str) -> VolumeView:
    """A volume that the caller may use; raises NotFound."""
    return _view(ctx.tx, load_volume(ctx, volume_id))


def find_volume(tx: Tx, volume_id: str) -> VolumeView | None:
    """A volume whoever asks."""
    volume = VOLUMES.get(tx, id=volume_id)
    return None if volume is None else _view(tx, volume)


def get_snapshot(ctx: Context, snapshot_id: str) -> SnapshotView:
    """A snapshot that the caller may use; raises NotFound."""
    return _snapshot_view(load_snapshot(ctx, snapshot_id))


def find_snapshot(tx: Tx, snapshot_id: str) -> SnapshotView | None:
    """A snapshot whoever asks."""
    snapshot = SNAPSHOTS.get(tx, id=snapshot_id)
    return None if snapshot is None else _snapshot_view(snapshot)


def _snapshot_view(snapshot: Snapshot) -> SnapshotView:
    return SnapshotView(
        id=snapshot.id, name=snapshot.name or "", volume_id=snapshot.volume_id, status=snapshot.status,
        size=snapshot.size_gib, project_id=snapshot.project_id, fault=snapshot.fault if snapshot.faulted else None,
    )  # fmt: skip


def create_volume(
    ctx: Context,
    *,
    size: int | None,
    name: str = "",
    description: str = "",
    image_id: str | None = None,
    snapshot_id: str | None = None,
    source_volid: str | None = None,
    volume_type: str | None = None,
    zone: str | None = None,
    node_id: str | None = None,
) -> VolumeView:
    """Ask for a volume for a server, near `node_id` if that node has room; it may be reserved at once.

    Raises BadRequest, NotFound, TooLarge (quota).
    """
    wanted = Wanted(
        size=size, name=name, description=description, image_id=image_id, snapshot_id=snapshot_id,
        source_volid=source_volid, volume_type=volume_type, zone=zone, near_node_id=node_id, for_server=True,
    )  # fmt: skip
    ctx.enforce("volume:create", {"project_id": ctx.project_id})
    return _view(ctx.tx, make_volume(ctx, wanted))


def delete_volume(tx: Tx, volume_id: str, now: float) -> None:
    """Ask for the end of a volume (delete_on_termination); it goes when its attachments are gone.

    A volume with snapshots stays, as the API demands.
    """
    delete_from_below(tx, volume_id, now)


def create_snapshot(ctx: Context, volume_id: str, name: str) -> str:
    """Ask for a snapshot of a volume, in use or not; its id."""
    volume = load_volume(ctx, volume_id)
    ctx.enforce("volume:create_snapshot", volume)
    return make_snapshot(ctx, volume, name=name, force=True).id


def reimage(ctx: Context, volume_id: str, image_id: str) -> None:
    """Ask for a volume's bytes to be replaced by an image's; it must be available, or reserved but not connected."""
    volume = load_volume(ctx, volume_id)
    ctx.enforce("volume:reimage", volume)
    reimage_volume(ctx, volume, image_id, reserved=True)


def reserve(ctx: Context, *, volume_id: str, server_id: str, attachment_id: str, mode: str = "rw") -> AttachmentView:
    """Tie a volume to a server; raises NotFound, or BadRequest when it cannot be attached now."""
    volume = load_volume(ctx, volume_id)
    ctx.enforce("volume:attachment_create", volume)
    made = reserve_volume(ctx, volume, server_id=server_id, mode=mode, attachment_id=attachment_id, managed=True)
    return _attachment_view(made, volume)


def attachment(tx: Tx, attachment_id: str) -> AttachmentView | None:
    """An attachment as it is now."""
    found = ATTACHMENTS.get(tx, id=attachment_id)
    return None if found is None else _attachment_view(found, VOLUMES.get(tx, id=found.volume_id))


def attachments_of(tx: Tx, server_id: str) -> list[AttachmentView]:
    """All attachments of a server that are not being released."""
    found = ATTACHMENTS.all(tx, order="volume_attachments.created_at", server_id=server_id, released=False)
    volumes = {v.id: v for v in VOLUMES.all(tx, id=[a.volume_id for a in found])}
    return [_attachment_view(a, volumes.get(a.volume_id)) for a in found]


def _of(tx: Tx, attachment_id: str) -> Attachment | None:
    return ATTACHMENTS.get(tx, id=attachment_id)


def connect(tx: Tx, attachment_id: str, node_id: str, now: float) -> None:
    """Wish for the volume to be openable on a node; the server is poked when there is a connection or a fault.

    Asking again after a fault tries again.
    """
    found = _of(tx, attachment_id)
    if found is not None and not found.released and (found.node_id != node_id or found.faulted):
        wish(tx, found, now, node_id=node_id)


def complete(tx: Tx, attachment_id: str, mountpoint: str, now: float) -> None:
    """The guest has the disk: the volume is in use."""
    found = _of(tx, attachment_id)
    if found is not None and (not found.attached or found.mountpoint != mountpoint):
        at = found.attached_at if found.attached else now
        wish(tx, found, now, attached=True, attached_at=at, mountpoint=mountpoint)


def disconnect(tx: Tx, attachment_id: str, now: float) -> None:
    """The export goes, the volume stays reserved for its server."""
    found = _of(tx, attachment_id)
    if found is not None and (found.node_id is not None or found.attached):
        wish(tx, found, now, node_id=None, attached=False)


def release(tx: Tx, attachment_id: str, now: float) -> None:
    """The export goes, then the attachment; the volume is available again."""
    found = _of(tx, attachment_id)
    if found is not None and not found.released:
        wish(tx, found, now, released=True, node_id=None)


expected_copies = check.expected_copies


def expected(tx: Tx, node_id: str) -> set[str]:
    """Ids of all volumes and snapshots of which this node may have a trace."""
    return check.expected(tx, node_id)


def node_seen(tx: Tx, node_id: str, now: float) -> None:
    """A node is back: look again at what lives on it or is exported to it."""
    check.node_seen(tx, node_id, now)


def inconsistencies(tx: Tx) -> list[str]:
    """What should not be; one line each, empty when all is well."""
    return check.inconsistencies(tx)
