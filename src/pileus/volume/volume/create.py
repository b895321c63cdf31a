"""Making a volume's row: what it is made from decides its type, its least size and where it must live.

Source: Block Storage API reference, "Create a volume".
"""

import math
from dataclasses import dataclass, field
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.events import record_request
from pileus.core.ids import new_id
from pileus.core.reconcile import poke
from pileus.image import facade as image
from pileus.volume import quota
from pileus.volume.attachment.rows import of_volumes
from pileus.volume.service import missing, sees
from pileus.volume.snapshot.rows import SNAPSHOTS, Snapshot
from pileus.volume.volume.rows import VOLUMES, Volume, status
from pileus.volume.volume_type import TYPES, VolumeType, allows_multiattach, default_type, find_type, is_encrypted
from pileus.volume.zone import checked_zone

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A volume as it is asked for; at most one of image, snapshot and volume is its source."""

    size: int | None = None  # GiB; None: as large as the source
    name: str | None = None
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    image_id: str | None = None
    snapshot_id: str | None = None
    source_volid: str | None = None
    volume_type: str | None = None  # name or id
    zone: str | None = None
    near_node_id: str | None = None
    for_server: bool = False


@dataclass(kw_only=True)
class Base:
    """What a source says about the volume made from it."""

    least_gib: int = 1
    size_gib: int | None = None  # if none is asked for
    type_id: str | None = None
    type_name: str | None = None
    zone: str | None = None
    bootable: bool = False
    image_metadata: dict[str, str] = field(default_factory=dict)


def load_volume(ctx: Context, volume_id: str) -> Volume:
    """A volume that the caller may know of; raises NotFound."""
    volume = VOLUMES.get(ctx.tx, id=volume_id)
    if volume is None or not sees(ctx, volume.project_id):
        raise missing("Volume", volume_id)
    return volume


def load_snapshot(ctx: Context, snapshot_id: str) -> Snapshot:
    """A snapshot that the caller may know of; raises NotFound."""
    snapshot = SNAPSHOTS.get(ctx.tx, id=snapshot_id)
    if snapshot is None or not sees(ctx, snapshot.project_id):
        raise missing("Snapshot", snapshot_id)
    return snapshot


def current_status(ctx: Context, volume: Volume) -> str:
    """The status of a volume as it is shown now."""
    return status(volume, of_volumes(ctx.tx, [volume.id]).get(volume.id, ()))


def create_volume(ctx: Context, wanted: Wanted) -> Volume:
    """Check everything that can be known now, take it from the quota, and ask for the volume."""
    base = _base(ctx, wanted)
    type_ = _type(ctx, wanted, base)
    if allows_multiattach(type_):
        ctx.enforce("volume:multiattach", {"project_id": ctx.project_id})
    size = _size(wanted, base)
    quota.take(ctx, ctx.project_id, (type_.id, type_.name), volumes=1, gigabytes=size, largest=size)
    volume = Volume(
        id=new_id(), project_id=ctx.project_id, user_id=ctx.user_id, name=wanted.name, description=wanted.description,
        zone=checked_zone(ctx.tx, wanted.zone or base.zone), volume_type_id=type_.id, metadata=wanted.metadata,
        image_metadata=base.image_metadata, wanted_gib=size, bootable=base.bootable,
        multiattach=allows_multiattach(type_), image_id=wanted.image_id, snapshot_id=wanted.snapshot_id,
        source_volid=wanted.source_volid, near_node_id=wanted.near_node_id, for_server=wanted.for_server,
        request_id=ctx.request_id, created_at=ctx.now,
    )  # fmt: skip
    if base.zone is not None and volume.zone != base.zone:
        raise BadRequest(f"Invalid input received: the source lives in zone {base.zone}, not in {volume.zone}.")
    VOLUMES.insert(ctx.tx, volume)
    record_request(ctx, "volume", volume.id, "create")
    poke(ctx.tx, "volume", volume.id, ctx.now)
    return volume


def _base(ctx: Context, wanted: Wanted) -> Base:
    given = [s for s in (wanted.image_id, wanted.snapshot_id, wanted.source_volid) if s]
    if len(given) > 1:
        raise BadRequest(
            "May specify only one of snapshot, source volume, or image: imageRef, snapshot_id and source_volid"
            " exclude each other."
        )
    if wanted.snapshot_id:
        return _of_snapshot(ctx, wanted.snapshot_id)
    if wanted.source_volid:
        return _of_volume(ctx, wanted.source_volid)
    return _of_image(ctx, wanted.image_id) if wanted.image_id else Base()


def _of_snapshot(ctx: Context, snapshot_id: str) -> Base:
    snapshot = load_snapshot(ctx, snapshot_id)
    if snapshot.status != "available":
        raise BadRequest(f"Invalid snapshot: Originating snapshot status must be available, not {snapshot.status}.")
    return _like(load_volume(ctx, snapshot.volume_id), snapshot.size_gib)


def _of_volume(ctx: Context, volume_id: str) -> Base:
    source = load_volume(ctx, volume_id)
    if (seen := current_status(ctx, source)) not in ("available", "in-use"):
        raise BadRequest(f"Invalid volume: Source volume status must be available or in-use, not {seen}.")
    return _like(source, source.shown_gib)


def _like(source: Volume, size_gib: int) -> Base:
    return Base(
        least_gib=size_gib, size_gib=size_gib, type_id=source.volume_type_id, zone=source.zone,
        bootable=source.bootable, image_metadata=source.image_metadata,
    )  # fmt: skip


def usable_image(ctx: Context, image_id: str) -> image.ImageView:
    """An active image that the caller may use; raises BadRequest."""
    try:
        found = image.get_image(ctx, image_id)
    except NotFound:
        raise BadRequest(f"Invalid image identifier or unable to access requested image: {image_id[:80]}.") from None
    if found.status != "active":
        raise BadRequest(f"Invalid input received: Image {found.id} is not active, its status is {found.status}.")
    return found


def least_gib(found: image.ImageView) -> int:
    """How large a volume must be to hold an image."""
    return max(1, math.ceil(max(found.size, found.virtual_size) / GIB), found.min_disk)


def image_metadata(found: image.ImageView) -> dict[str, str]:
    """What a volume remembers of its image (`volume_image_metadata`)."""
    described: dict[str, Any] = {
        **found.properties, "image_id": found.id, "image_name": found.name, "disk_format": found.disk_format,
        "container_format": found.container_format, "min_disk": found.min_disk, "min_ram": found.min_ram,
        "size": found.size,
    }  # fmt: skip
    return {key: str(value) for key, value in described.items()}


def _of_image(ctx: Context, image_id: str) -> Base:
    ctx.enforce("volume:create_from_image", {"project_id": ctx.project_id})
    found = usable_image(ctx, image_id)
    return Base(
        least_gib=least_gib(found), type_name=found.properties.get("cinder_img_volume_type"), bootable=True,
        image_metadata=image_metadata(found),
    )  # fmt: skip


def _type(ctx: Context, wanted: Wanted, base: Base) -> VolumeType:
    """The type asked for, else the source's, else the project's default."""
    source_type = TYPES.get(ctx.tx, id=base.type_id) if base.type_id else None
    if wanted.volume_type:
        type_ = find_type(ctx, wanted.volume_type)
        if source_type is not None and pool_choice(type_) != pool_choice(source_type):
            raise BadRequest(
                f"Invalid volume_type: a volume of type {type_.name} cannot be made from one of type"
                f" {source_type.name}, since they live in different back ends. Retype it afterwards."
            )
    else:
        type_ = source_type or (find_type(ctx, base.type_name) if base.type_name else default_type(
            ctx.tx, ctx.caller.project_id))  # fmt: skip
    if is_encrypted(ctx.tx, type_.id):
        raise BadRequest(
            f"Volume type {type_.name} asks for encryption, which this cloud cannot give yet: choose another type."
        )
    return type_


def pool_choice(type_: VolumeType) -> str:
    """What a type says about back ends; types that agree on it can share a pool."""
    return type_.extra_specs.get("volume_backend_name", "")


def _size(wanted: Wanted, base: Base) -> int:
    size = wanted.size if wanted.size is not None else base.size_gib
    if size is None:
        raise BadRequest("Invalid input received: Volume size must be given, as an integer greater than 0.")
    if size < 1:
        raise BadRequest(f"Invalid input received: Volume size '{size}' must be an integer and greater than 0.")
    if size < base.least_gib:
        raise BadRequest(
            f"Invalid input received: Volume size {size}GB cannot be smaller than what it is made from"
            f" ({base.least_gib}GB)."
        )
    return size
