"""Images of servers: createImage and createBackup.

Source: Compute API reference, "Create image", "Create server back up".
"""

import json
from typing import Any

from pileus.compute.server.access import STEADY, require, wish
from pileus.compute.server.actions import action
from pileus.compute.server.guest import root_disk
from pileus.compute.server.rows import SNAPSHOTS, Server, ServerVolume, Snapshot, volumes_of
from pileus.compute.server.snapshot import NAME as KIND
from pileus.compute.service import COMPUTE, MEMBER
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden, OverQuota, Problem, TooLarge
from pileus.core.ids import new_id
from pileus.core.op import Reply
from pileus.core.reconcile import poke
from pileus.core.schema import METADATA, NAME, Schema
from pileus.image import facade as image
from pileus.image.facade import ImageView
from pileus.volume import facade as volume

_RULE = "os_compute_api:servers:create_image"
VOLUME_BACKED = COMPUTE.rule(f"{_RULE}:allow_volume_backed", MEMBER)
# What an image of a server takes over from the image that the server was made from.
_INHERITED = ("hw_", "os_", "img_config_drive", "trait:")


def properties_of(server: Server, kind: str, extra: dict[str, str]) -> dict[str, str]:
    """Properties of an image of a server."""
    kept = {k: v for k, v in server.image_properties.items() if k.startswith(_INHERITED)}
    base = {"base_image_ref": server.image_id or "", "instance_uuid": server.id, "user_id": server.user_id,
            "owner_project_id": server.project_id, "image_type": kind}  # fmt: skip
    return {**kept, **base, **extra}


def start_image(
    ctx: Context, server: Server, name: str, extra: dict[str, str], *, kind: str = "snapshot", rotation: int = 0,
    backup_type: str = "",
) -> ImageView:  # fmt: skip
    """Have an image made of a server's local root disk; raises Forbidden (quota)."""
    if server.node_id is None:
        raise Conflicted(f"Instance {server.id} is on no node: nothing can be copied.")
    snapshot_id = new_id()
    shown = "backup" if kind == "backup" else "snapshot"
    made = _create(
        ctx, name=name, properties=properties_of(server, shown, extra), min_disk=server.disk_gib,
        disk_format="raw", owner_kind=KIND, owner_id=snapshot_id,
    )  # fmt: skip
    SNAPSHOTS.insert(
        ctx.tx,
        Snapshot(
            id=snapshot_id, server_id=server.id, image_id=made.id, kind=kind,  # type: ignore[arg-type]  # `kind` is one of the Literal's words: its callers are ours
            disk_id=root_disk(server), node_id=server.node_id, rotation=rotation, backup_type=backup_type,
            created_at=ctx.now,
        ),
    )  # fmt: skip
    poke(ctx.tx, KIND, snapshot_id, ctx.now)
    return made


def _create(ctx: Context, *, min_disk: int, **given: Any) -> ImageView:
    try:
        return image.create_from(ctx, min_disk=min_disk, min_ram=0, **given)
    except (OverQuota, TooLarge) as error:
        raise Forbidden(error.message) from None


@action("createImage", _RULE, inner={
    "type": "object", "properties": {"name": NAME, "metadata": METADATA}, "required": ["name"],
    "additionalProperties": False,
}, until="2.44")  # fmt: skip
def create_image_old(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Make an image of a server; where it is stands in the Location header."""
    made = _create_image(ctx, server, body)
    return Reply(headers={"location": f"{ctx.url.removesuffix('/compute')}/image/v2/images/{made.id}"})


@action("createImage", _RULE, inner={
    "type": "object", "properties": {"name": NAME, "metadata": METADATA}, "required": ["name"],
    "additionalProperties": False,
}, since="2.45")  # fmt: skip
def create_image(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Make an image of a server."""
    return Reply({"image_id": _create_image(ctx, server, body).id})


def _create_image(ctx: Context, server: Server, body: dict[str, Any]) -> ImageView:
    require(ctx, server, "createImage", STEADY)
    extra, name = body.get("metadata") or {}, body["name"].strip()
    if server.image_id is None:
        ctx.enforce(VOLUME_BACKED, server)
        made = _of_volumes(ctx, server, name, extra)
    else:
        made = start_image(ctx, server, name, extra)
    wish(ctx, server, "createImage")
    return made


def _of_volumes(ctx: Context, server: Server, name: str, extra: dict[str, str]) -> ImageView:
    """An image without bytes of its own: it names snapshots of the server's volumes."""
    mapping = [_mapping(ctx, server, row, name) for row in volumes_of(ctx.tx, [server.id]) if not row.detach]
    properties = {
        **properties_of(server, "snapshot", extra), "bdm_v2": "True", "root_device_name": "/dev/vda",
        "block_device_mapping": json.dumps(mapping),
    }  # fmt: skip
    properties.pop("image_type")
    made = _create(
        ctx, name=name, properties=properties, min_disk=0, disk_format="raw", owner_kind="server", owner_id=server.id
    )
    image.activate_empty(ctx.tx, made.id, ctx.now)
    return made


def _mapping(ctx: Context, server: Server, row: ServerVolume, name: str) -> dict[str, Any]:
    """What one volume becomes in the image's mapping."""
    found = volume.find_volume(ctx.tx, row.volume_id)
    try:
        snapshot_id = volume.create_snapshot(ctx, row.volume_id, f"snapshot for {name}")
    except (OverQuota, TooLarge) as error:
        raise Forbidden(error.message) from None
    except Problem as error:
        raise BadRequest(f"Volume {row.volume_id} cannot be snapshotted: {error.message}") from None
    return {
        "source_type": "snapshot", "destination_type": "volume", "snapshot_id": snapshot_id, "volume_id": None,
        "boot_index": row.boot_index, "device_name": row.device, "delete_on_termination": row.delete_on_termination,
        "volume_size": found.size if found else None, "disk_bus": row.bus or None, "device_type": row.device_type,
        "guest_format": None, "image_id": None, "no_device": None, "tag": row.tag,
    }  # fmt: skip


_BACKUP: Schema = {
    "type": "object",
    "properties": {
        "name": NAME, "backup_type": {"type": "string", "minLength": 1, "maxLength": 255},
        "rotation": {"type": ["integer", "string"], "pattern": "^[0-9]{1,6}$", "minimum": 0, "maximum": 999999},
        "metadata": METADATA,
    },
    "required": ["name", "backup_type", "rotation"],
    "additionalProperties": False,
}  # fmt: skip


@action("createBackup", "os_compute_api:os-create-backup", inner=_BACKUP, until="2.44")
def create_backup_old(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Make a back-up; its place stands in the Location header, none when rotation is 0."""
    made = _create_backup(ctx, server, body)
    where = f"{ctx.url.removesuffix('/compute')}/image/v2/images/{made.id}" if made else ""
    return Reply(headers={"location": where} if made else {})


@action("createBackup", "os_compute_api:os-create-backup", inner=_BACKUP, since="2.45")
def create_backup(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Make a back-up and keep as many of its type as `rotation` says."""
    made = _create_backup(ctx, server, body)
    return Reply({"image_id": made.id} if made else None)


def _create_backup(ctx: Context, server: Server, body: dict[str, Any]) -> ImageView | None:
    require(ctx, server, "createBackup", STEADY)
    rotation, kind, name = int(body["rotation"]), body["backup_type"], body["name"].strip()
    if server.image_id is None:
        raise BadRequest(f"Instance {server.id} is volume-backed: back up its volumes instead.")
    made = None
    if rotation:
        extra = {**(body.get("metadata") or {}), "backup_type": kind}
        made = start_image(ctx, server, name, extra, kind="backup", rotation=rotation, backup_type=kind)
    rotate(ctx, server, kind, rotation)
    wish(ctx, server, "createBackup")
    return made


def rotate(ctx: Context, server: Server, kind: str, rotation: int) -> None:
    """Delete the oldest back-ups of a type until `rotation` are left, the new one counted."""
    ours = image.find_by(ctx.tx, instance_uuid=server.id, backup_type=kind, image_type="backup")
    for one in sorted(ours, key=lambda found: found.created_at, reverse=True)[rotation:]:
        image.remove(ctx.tx, one.id, ctx.now)
