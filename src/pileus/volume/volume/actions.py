"""What can be done to a volume: extend, retype, upload, flags, the administrator's actions.

Source: Block Storage API reference, "Volume actions (volumes, action)".
"""

from typing import Any

from pileus.core.clock import iso_micro
from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.events import record_request
from pileus.core.op import Reply
from pileus.core.schema import truth
from pileus.image import facade as image
from pileus.volume import quota
from pileus.volume.attachment.rows import ATTACHMENTS
from pileus.volume.attachment.rows import wish as wish_attachment
from pileus.volume.pools import all_pools, lacking, obstacles
from pileus.volume.service import ADMIN, FLAG, MEMBER, SIZE, VOLUME, action, fields_of, op
from pileus.volume.snapshot.rows import SNAPSHOTS
from pileus.volume.volume.create import current_status, load_volume
from pileus.volume.volume.remove import delete_volume, reimage_volume
from pileus.volume.volume.rows import Volume, edit, wish
from pileus.volume.volume_type import TYPES, VolumeType, allows_multiattach, find_type, is_encrypted

STATUSES = (
    "creating", "available", "deleting", "error", "error_deleting", "error_managing", "managing", "attaching",
    "in-use", "detaching", "maintenance", "restoring-backup", "error_restoring", "reserved", "awaiting-transfer",
    "backing-up", "error_backing-up", "error_extending", "downloading", "uploading", "retyping", "extending",
)  # fmt: skip
VOLUME.rule("volume:extend_attached_volume", MEMBER)
VOLUME.rule("volume_extension:volume_actions:upload_public", ADMIN)
VOLUME.rule("volume:reimage_reserved", MEMBER)
PATH = "/volumes/{volume_id}/action"


@op("POST", PATH, action="os-extend", rule="volume:extend", allow=MEMBER, load=load_volume, ok=202,
    takes=action("os-extend", fields_of(("new_size",), new_size=SIZE)))  # fmt: skip
def extend(ctx: Context, volume: Volume, body: dict[str, Any]) -> Reply:
    """Make a volume larger; while it is in use from 3.42 on."""
    size, seen = int(body["new_size"]), current_status(ctx, volume)
    if seen == "in-use" and ctx.version >= (3, 42):
        ctx.enforce("volume:extend_attached_volume", volume)
    elif seen != "available":
        raise BadRequest(
            f"Invalid volume: Volume {volume.id} status must be '{{'status': 'available'}}' to extend, currently"
            f" {seen}."
        )
    if size <= volume.shown_gib:
        raise BadRequest(
            f"Invalid input received: New size for extend must be greater than current size. (current:"
            f" {volume.shown_gib}, extended: {size})."
        )
    type_ = TYPES.get(ctx.tx, id=volume.volume_type_id)
    assert type_ is not None
    more = size - volume.wanted_gib
    quota.take(ctx, volume.project_id, (type_.id, type_.name), gigabytes=more, largest=size)
    record_request(ctx, "volume", volume.id, "extend", size=size)
    wish(ctx.tx, volume, ctx.now, wanted_gib=size, request_id=ctx.request_id)
    return Reply()


@op("POST", PATH, action="os-extend_volume_completion", since="3.71", ok=202, load=load_volume, allow=ADMIN,
    rule="volume_extension:volume_admin_actions:extend_volume_completion",
    takes=action("os-extend_volume_completion"))  # fmt: skip
def complete_extension(volume: Volume) -> Reply:
    """No extension here waits for its server: the volume grows first, then the server is told."""
    raise BadRequest(f"Invalid volume: no extension of volume {volume.id} waits for its server.")


@op("POST", PATH, action="os-set_bootable", rule="volume:update", allow=MEMBER, load=load_volume,
    takes=action("os-set_bootable", fields_of(("bootable",), bootable=FLAG)))  # fmt: skip
def set_bootable(ctx: Context, volume: Volume, body: dict[str, Any]) -> Reply:
    """Say whether servers may boot from it."""
    edit(ctx.tx, volume, ctx.now, bootable=truth(body["bootable"]))
    return Reply()


@op("POST", PATH, action="os-update_readonly_flag", rule="volume:update_readonly_flag", allow=MEMBER,
    load=load_volume, ok=202, takes=action("os-update_readonly_flag", fields_of(("readonly",), readonly=FLAG)),
    )  # fmt: skip
def update_read_only(ctx: Context, volume: Volume, body: dict[str, Any]) -> Reply:
    """Say whether it may be written to; only while nobody has it."""
    if (seen := current_status(ctx, volume)) != "available":
        raise BadRequest(f"Invalid volume: Volume {volume.id} status must be available to update it, it is {seen}.")
    edit(ctx.tx, volume, ctx.now, read_only=int(truth(body["readonly"])))
    return Reply()


@op("POST", PATH, action="os-retype", rule="volume:retype", allow=MEMBER, load=load_volume, ok=202,
    takes=action("os-retype", fields_of(
        ("new_type",), new_type={"type": "string", "maxLength": 255},
        migration_policy={"enum": ["on-demand", "never", None]})))  # fmt: skip
def retype(ctx: Context, volume: Volume, body: dict[str, Any]) -> Reply:
    """Give it another type; where its pool cannot serve that, it moves to one of its node that can, if it may."""
    ctx.tx.lock(f"volume/{volume.id}")
    type_ = find_type(ctx, body["new_type"])
    _check_retype(ctx, volume, type_)
    pool = _pool_for(ctx, volume, type_, may_move=body.get("migration_policy") == "on-demand")
    kind = (type_.id, type_.name)
    quota.take_of_type(ctx, volume.project_id, kind, volumes=1, gigabytes=volume.wanted_gib)
    if pool == volume.pool:
        record_request(ctx, "volume", volume.id, "retype", "success", volume_type=type_.name)
        edit(ctx.tx, volume, ctx.now, volume_type_id=type_.id, multiattach=allows_multiattach(type_))
        return Reply()
    record_request(ctx, "volume", volume.id, "retype", volume_type=type_.name)
    wish(
        ctx.tx, volume, ctx.now, move_pool=pool, move_type_id=type_.id, moves=volume.moves + 1, migration_status=None,
        request_id=ctx.request_id,
    )  # fmt: skip
    return Reply()


def _check_retype(ctx: Context, volume: Volume, type_: VolumeType) -> None:
    seen = current_status(ctx, volume)
    if seen not in ("available", "in-use"):
        raise BadRequest(f"Invalid volume: Volume {volume.id} must be available or in-use to be retyped, it is {seen}.")
    if type_.id == volume.volume_type_id:
        raise BadRequest(f"Invalid volume_type: volume {volume.id} has type {type_.name} already.")
    if is_encrypted(ctx.tx, type_.id):
        raise BadRequest(f"Volume type {type_.name} asks for encryption, which this cloud cannot give yet.")
    if seen == "in-use" and allows_multiattach(type_) != volume.multiattach:
        raise BadRequest(f"Invalid volume_type: detach volume {volume.id} before multiattach changes.")


def _pool_for(ctx: Context, volume: Volume, type_: VolumeType, *, may_move: bool) -> str:
    """The pool of its node that can serve a type, its own before others; raises BadRequest with the reasons."""
    pools = [p for p in all_pools(ctx.tx, ctx.now) if p.node_id == volume.node_id]
    here = next((p for p in pools if p.name == volume.pool), None)
    lines = lacking(here, type_) if here else ["its back end is away"]
    if not lines:
        return str(volume.pool)
    refused = (
        f"Invalid volume_type: the back end of volume {volume.id} cannot serve type {type_.name} ({'; '.join(lines)})"
    )
    if not may_move:
        raise BadRequest(f"{refused}: ask for migration_policy on-demand to have it moved.")
    if current_status(ctx, volume) != "available":
        raise BadRequest(f"{refused}, and it cannot be moved while it is in use: detach it first.")
    if SNAPSHOTS.count(ctx.tx, volume_id=volume.id):
        raise BadRequest(f"{refused}, and it cannot be moved while it has snapshots.")
    others = [p for p in pools if p.name != volume.pool]
    fitting = [p for p in others if not obstacles(p, type_, volume.zone, volume.wanted_gib)]
    if not fitting:
        whys = [f"{p.full_name}: {', '.join(obstacles(p, type_, volume.zone, volume.wanted_gib))}" for p in others]
        raise BadRequest(f"{refused}, nor can another of its node ({'; '.join(whys) or 'there is none'}).")
    return max(fitting, key=lambda p: p.free).name


UPLOAD = fields_of(
    ("image_name",), image_name={"type": "string", "minLength": 1, "maxLength": 255}, force=FLAG,
    disk_format={"enum": ["raw", "vmdk", "vdi", "qcow2", "vhd", "vhdx", "ploop"]},
    container_format={"type": ["string", "null"], "maxLength": 255},
)  # fmt: skip
VISIBILITY = {"enum": ["community", "public", "private", "shared"]}
UPLOAD_3_1 = {**UPLOAD, "properties": {**UPLOAD["properties"], "protected": FLAG, "visibility": VISIBILITY}}


@op("POST", PATH, action="os-volume_upload_image", rule="volume_extension:volume_actions:upload_image", allow=MEMBER,
    load=load_volume, ok=202, takes=action("os-volume_upload_image", UPLOAD), until="3.0")  # fmt: skip
@op("POST", PATH, action="os-volume_upload_image", rule="volume_extension:volume_actions:upload_image", allow=MEMBER,
    load=load_volume, ok=202, takes=action("os-volume_upload_image", UPLOAD_3_1), since="3.1")  # fmt: skip
def upload(ctx: Context, volume: Volume, body: dict[str, Any]) -> Reply:
    """Make an image of the volume's bytes; of a volume in use as it is at one instant, with `force`."""
    allowed = ("available", "in-use") if truth(body.get("force", False)) else ("available",)
    if (seen := current_status(ctx, volume)) not in allowed:
        raise BadRequest(f"Invalid volume: Volume {volume.id} status must be {' or '.join(allowed)}, it is {seen}.")
    disk_format, container = body.get("disk_format", "raw"), body.get("container_format") or "bare"
    if disk_format not in ("raw", "qcow2") or container != "bare":
        raise BadRequest(
            f"Invalid input for field/attribute disk_format: a volume is uploaded as raw or qcow2 in bare, not as"
            f" {disk_format} in {container}: convert the image afterwards with `qemu-img convert`."
        )
    visibility = body.get("visibility", "private")
    if visibility == "public":
        ctx.enforce("volume_extension:volume_actions:upload_public", volume)
    if truth(body.get("protected", False)):
        raise BadRequest("Invalid input for field/attribute protected: set it on the image when it is active.")
    view = _new_image(ctx, volume, body["image_name"], visibility, disk_format)
    record_request(ctx, "volume", volume.id, "upload", image_id=view.id)
    wish(ctx.tx, volume, ctx.now, upload_image_id=view.id, request_id=ctx.request_id)
    return Reply({"os-volume_upload_image": _uploading(ctx, volume, view)})


def _new_image(ctx: Context, volume: Volume, name: str, visibility: str, disk_format: str) -> image.ImageView:
    """The queued image; it takes what the volume knows of its own image along."""
    known = ("image_id", "image_name", "disk_format", "container_format", "min_disk", "min_ram", "size", "checksum")
    properties = {k: v for k, v in volume.image_metadata.items() if k not in known}
    ram = volume.image_metadata.get("min_ram", "0")
    return image.create_from(
        ctx, name=name, properties=properties, min_disk=volume.shown_gib, min_ram=int(ram) if ram.isdigit() else 0,
        disk_format=disk_format, visibility=visibility, owner_kind="volume", owner_id=volume.id,
    )  # fmt: skip


def _uploading(ctx: Context, volume: Volume, view: image.ImageView) -> dict[str, Any]:
    type_ = TYPES.get(ctx.tx, id=volume.volume_type_id)
    assert type_ is not None
    return {
        "id": volume.id, "updated_at": iso_micro(volume.updated_at), "status": "uploading",
        "display_description": volume.description, "size": volume.shown_gib, "image_id": view.id,
        "image_name": view.name, "disk_format": view.disk_format, "container_format": view.container_format,
        "visibility": view.visibility, "protected": view.protected,
        "volume_type": {
            "id": type_.id, "name": type_.name, "description": type_.description, "is_public": type_.is_public,
            "extra_specs": type_.extra_specs, "qos_specs_id": type_.qos_specs_id,
            "created_at": iso_micro(type_.created_at), "updated_at": iso_micro(type_.updated_at), "deleted": False,
            "deleted_at": None,
        },
    }  # fmt: skip


@op("POST", PATH, action="os-reimage", since="3.68", rule="volume:reimage", allow=MEMBER, load=load_volume, ok=202,
    takes=action("os-reimage", fields_of(
        ("image_id",), image_id={"type": "string", "format": "uuid"}, reimage_reserved=FLAG)))  # fmt: skip
def reimage(ctx: Context, volume: Volume, body: dict[str, Any]) -> Reply:
    """Replace its bytes by an image's."""
    reserved = truth(body.get("reimage_reserved", False))
    if reserved:
        ctx.enforce("volume:reimage_reserved", volume)
    reimage_volume(ctx, volume, body["image_id"], reserved=reserved)
    return Reply()


@op("POST", PATH, action="os-force_delete", rule="volume_extension:volume_admin_actions:force_delete", allow=ADMIN,
    load=load_volume, ok=202, takes=action("os-force_delete"))  # fmt: skip
def force_delete(ctx: Context, volume: Volume) -> Reply:
    """Delete it whatever its status."""
    delete_volume(ctx, volume, force=True)
    return Reply()


WORD = {"type": ["string", "null"], "maxLength": 255}


@op("POST", PATH, action="os-reset_status", rule="volume_extension:volume_admin_actions:reset_status", allow=ADMIN,
    load=load_volume, ok=202,
    takes=action("os-reset_status", fields_of(status=WORD, attach_status=WORD, migration_status=WORD)))  # fmt: skip
def reset_status(ctx: Context, volume: Volume, body: dict[str, Any]) -> Reply:
    """Show another status than the true one, until something is asked of the volume; or cut its attachments."""
    status, attach, migration = (body.get(k) for k in ("status", "attach_status", "migration_status"))
    if not (status or attach or migration):
        raise BadRequest("Must specify 'status', 'attach_status' or 'migration_status' for update.")
    if status and status.lower() not in STATUSES:
        raise BadRequest(f"Volume status: {status[:80]} is invalid, valid statuses are: {', '.join(STATUSES)}.")
    if attach and attach.lower() not in ("attached", "detached"):
        raise BadRequest(f"Volume attach status: {attach[:80]} is invalid: it must be attached or detached.")
    record_request(ctx, "volume", volume.id, "reset_status", "success", **body)
    changes: dict[str, Any] = {"migration_status": migration} if migration else {}
    if attach and attach.lower() == "detached":
        changes |= {"held": False, "detaching": False}
        for tie in ATTACHMENTS.all(ctx.tx, volume_id=volume.id, managed=False):
            wish_attachment(ctx.tx, tie, ctx.now, released=True, node_id=None)
    if status:
        changes |= _forced(ctx, volume, status.lower())
    edit(ctx.tx, volume, ctx.now, **changes)
    return Reply()


def _forced(ctx: Context, volume: Volume, status: str) -> dict[str, Any]:
    """What makes a volume show this status; none is forced when it is the true one."""
    volume.forced_status = None
    true = current_status(ctx, volume)
    changes: dict[str, Any] = {"forced_status": None if true == status else status}
    if status in ("available", "in-use") and volume.made and volume.faulted:
        changes |= {"wanted_gib": volume.size_gib, "reverts": volume.reverted}  # what failed is given up
    return changes
