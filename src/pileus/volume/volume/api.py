"""Volumes: create, list, show, update, delete, summary, revert.

Source: Block Storage API reference, "Volumes (volumes)".
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.events import record_request
from pileus.core.ids import is_uuid
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Query
from pileus.core.schema import truth
from pileus.volume.service import MEMBER, READER, VOLUME, action, fields_of, op
from pileus.volume.snapshot.rows import SNAPSHOTS
from pileus.volume.volume.create import Wanted, create_volume, current_status, load_volume
from pileus.volume.volume.fields import (
    BRIEF,
    CREATED,
    CREATED_LOOSELY,
    DETAILED,
    UPDATED,
    Shown,
    brief_page,
    page,
    shown,
)
from pileus.volume.volume.remove import delete_volume
from pileus.volume.volume.rows import Volume, edit, wish

VOLUME.rule("volume:create_from_image", MEMBER)
VOLUME.rule("volume:force_delete", "rule:admin_api")
VOLUME.rule("volume:multiattach", MEMBER)


@op("GET", "/volumes", rule="volume:get_all", allow=READER, load=collection, gives=Many(BRIEF))
def list_volumes(ctx: Context, query: Query) -> Page:
    """List volumes, briefly."""
    return brief_page(ctx, query)


@op("GET", "/volumes/detail", rule="volume:get_all", allow=READER, load=collection, gives=Many(DETAILED))
def list_volumes_in_detail(ctx: Context, query: Query) -> Page:
    """List volumes with all that may be seen of them."""
    return page(ctx, query)


@op("GET", "/volumes/summary", rule="volume:get_all", allow=READER, load=collection, since="3.12")
def summarise(ctx: Context, query: Query) -> Reply:
    """How many volumes there are and how large they are together; their metadata from 3.36 on."""
    every = ctx.allows("context_is_admin") and query.truth("all_tenants")
    where, params = ("", ()) if every else (" where project_id = ?", (ctx.project_id,))
    counted = ctx.tx.one(f"select count(*), coalesce(sum(wanted_gib), 0) from volumes{where}", *params)
    assert counted is not None
    summary: dict[str, Any] = {"total_count": int(counted[0]), "total_size": int(counted[1])}
    if ctx.version >= (3, 36):
        summary["metadata"] = _metadata_of_all(ctx, where, params)
    return Reply({"volume-summary": summary})


def _metadata_of_all(ctx: Context, where: str, params: tuple[str, ...]) -> dict[str, list[str]]:
    """Every key with its distinct values."""
    import msgspec

    found: dict[str, set[str]] = {}
    for (text,) in ctx.tx.all(f"select distinct metadata from volumes{where}", *params):
        for key, value in msgspec.json.decode(text).items():
            found.setdefault(key, set()).add(value)
    return {key: sorted(values) for key, values in found.items()}


@op("GET", "/volumes/{volume_id}", rule="volume:get", allow=READER, load=load_volume, gives=DETAILED)
def get_volume(ctx: Context, volume: Volume) -> Shown:
    """Show a volume."""
    return shown(ctx, [volume])[0]


@op("POST", "/volumes", rule="volume:create", allow=MEMBER, load=collection, takes=CREATED_LOOSELY, gives=CREATED,
    ok=202, until="3.52")  # fmt: skip
@op("POST", "/volumes", rule="volume:create", allow=MEMBER, load=collection, takes=CREATED, gives=CREATED, ok=202,
    since="3.53")  # fmt: skip
def create(ctx: Context, body: dict[str, Any]) -> Shown:
    """Create a volume, empty or from an image, a snapshot or another volume."""
    for name, instead in (("consistencygroup_id", "groups"), ("group_id", "groups"), ("backup_id", "backups")):
        if body.get(name):
            raise BadRequest(f"Invalid input for field/attribute {name}: this cloud has no {instead} of volumes.")
    if truth(body.get("multiattach", False)):
        raise BadRequest(
            "multiattach parameter has been removed. The default behavior is to use multiattach enabled volume types."
            ' Contact your administrator to create a multiattach enabled volume type (multiattach="<is> True").'
        )
    return shown(ctx, [create_volume(ctx, wanted(body))])[0]


def wanted(body: dict[str, Any]) -> Wanted:
    """A create body as the rest of this service understands it; raises BadRequest naming the field."""
    for name in ("snapshot_id", "source_volid"):
        if body.get(name) and not is_uuid(body[name]):
            raise BadRequest(f"Invalid input for field/attribute {name}. Value: {body[name][:80]}. It is no UUID.")
    size = body.get("size")
    return Wanted(
        size=None if size is None else int(size), name=_text(body, "name"), description=_text(body, "description"),
        metadata=body.get("metadata") or {}, image_id=body.get("imageRef") or body.get("image_id") or None,
        snapshot_id=body.get("snapshot_id") or None, source_volid=body.get("source_volid") or None,
        volume_type=body.get("volume_type") or None, zone=body.get("availability_zone") or None,
    )  # fmt: skip


def _text(body: dict[str, Any], name: str) -> str | None:
    """A name or description, by its new or its old attribute, without blanks around it."""
    value = body.get(name) if body.get(name) is not None else body.get(f"display_{name}")
    return None if value is None else str(value).strip()


@op("PUT", "/volumes/{volume_id}", rule="volume:update", allow=MEMBER, load=load_volume, takes=UPDATED,
    gives=UPDATED)  # fmt: skip
def update(ctx: Context, volume: Volume, body: dict[str, Any]) -> Shown:
    """Change name, description or metadata."""
    changes: dict[str, Any] = {}
    for name in ("name", "description"):
        if name in body or f"display_{name}" in body:
            changes[name] = _text(body, name)
    if body.get("metadata") is not None:
        changes["metadata"] = body["metadata"]
    if not changes and ctx.version >= (3, 53):
        raise BadRequest("Invalid input for field/attribute volume: name, description or metadata must be given.")
    edit(ctx.tx, volume, ctx.now, **changes)
    return shown(ctx, [volume])[0]


@op("DELETE", "/volumes/{volume_id}", rule="volume:delete", allow=MEMBER, load=load_volume, ok=202)
def delete(ctx: Context, volume: Volume, query: Query) -> Reply:
    """Delete a volume; `cascade` takes its snapshots along, `force` (3.23, administrator) ignores its status."""
    force = ctx.version >= (3, 23) and query.truth("force")
    if force:
        ctx.enforce("volume:force_delete", volume)
    delete_volume(ctx, volume, cascade=query.truth("cascade"), force=force)
    return Reply()


@op(
    "POST", "/volumes/{volume_id}/action", action="revert", rule="volume:revert_to_snapshot", allow=MEMBER,
    load=load_volume, ok=202, since="3.40",
    takes=action("revert", fields_of(("snapshot_id",), snapshot_id={"type": "string", "maxLength": 255})),
)  # fmt: skip
def revert(ctx: Context, volume: Volume, body: dict[str, Any]) -> Reply:
    """Give a volume the bytes of its newest snapshot back."""
    newest = SNAPSHOTS.query(ctx.tx, "where volume_id = ? order by created_at desc, id desc limit 1", volume.id)
    wanted = SNAPSHOTS.get(ctx.tx, id=body["snapshot_id"], volume_id=volume.id)
    if wanted is None:
        raise BadRequest(f"Volume {volume.id} has no snapshot {body['snapshot_id'][:80]}.")
    if newest[0].id != wanted.id:
        raise BadRequest(f"Specified snapshot {wanted.id} is not the latest one of volume {volume.id}.")
    if (seen := current_status(ctx, volume)) != "available":
        raise Conflicted(f"Volume {volume.id} is {seen}: it must be available to be reverted.")
    if wanted.status != "available":
        raise Conflicted(f"Snapshot {wanted.id} is {wanted.status}: it must be available to revert to it.")
    if wanted.size_gib > volume.shown_gib:
        raise BadRequest(f"Snapshot {wanted.id} is larger than volume {volume.id}.")
    record_request(ctx, "volume", volume.id, "revert", snapshot_id=wanted.id)
    wish(ctx.tx, volume, ctx.now, revert_snapshot_id=wanted.id, reverts=volume.reverts + 1, request_id=ctx.request_id)
    return Reply()
