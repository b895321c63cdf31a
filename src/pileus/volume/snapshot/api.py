"""Snapshots: create, list, show, update, delete, metadata, the administrator's actions.

Source: Block Storage API reference, "Volume snapshots (snapshots)", "Snapshot actions".
"""

from typing import Any

from pileus.core.clock import iso_micro
from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.events import record_request
from pileus.core.fields import Field, Fields
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Query
from pileus.core.schema import truth
from pileus.volume.listing import Lister
from pileus.volume.metadata import register
from pileus.volume.service import ADMIN, FLAG, MEMBER, METADATA_OR_NULL, READER, SHORT, VOLUME, action, fields_of, op
from pileus.volume.snapshot.create import create_snapshot, delete_snapshot
from pileus.volume.snapshot.rows import SNAPSHOTS, STATUS_SQL, Snapshot
from pileus.volume.volume.create import load_snapshot, load_volume

EXTENDED = VOLUME.rule("volume_extension:extended_snapshot_attributes", READER)
STATUSES = ("error", "available", "creating", "deleting", "deleted", "updating", "error_deleting", "unmanaging",
            "backing-up", "restoring")  # fmt: skip


def _updated(snapshot: Snapshot, _ctx: Context) -> str | None:
    return iso_micro(max(snapshot.updated_at or 0.0, snapshot.seen_at or 0.0) or None)


_ALWAYS = (
    Field("id", "rqs"),
    Field("name", "cruqs", SHORT),
    Field("description", "cruqs", SHORT),
    Field("volume_id", "Crqs", {"type": ["string", "null"], "format": "uuid"}),
    Field("status", "rq", get="status"),
    Field("size", "rqs", get="size_gib"),
    Field("metadata", "crq", METADATA_OR_NULL),
    Field("created_at", "rqs", get=lambda s, _: iso_micro(s.created_at)),
    Field("updated_at", "rqs", get=_updated, column="updated_at"),
    Field("group_snapshot_id", "r", since="3.14", get=lambda _s, _c: None),
    Field("user_id", "rqs", since="3.41"),
    Field("consumes_quota", "r", since="3.65", get=lambda _s, _c: True),
    Field("display_name", "cu", SHORT),
    Field("display_description", "u", SHORT),
    Field("force", "c", FLAG),
)
SNAPSHOT = Fields("snapshot", "snapshots", _ALWAYS)
DETAILED = Fields(
    "snapshot",
    "snapshots",
    (
        *_ALWAYS,
        Field("os-extended-snapshot-attributes:progress", "r", get="progress", see=EXTENDED),
        Field("os-extended-snapshot-attributes:project_id", "r", get="project_id", see=EXTENDED),
    ),
)  # fmt: skip
LISTER = Lister(
    SNAPSHOT, SNAPSHOTS, "snapshots", expressions={"status": STATUS_SQL}, json=frozenset(("metadata",)),
    likes=frozenset(("name", "description", "user_id")), links="snapshots_links",
)  # fmt: skip


@op("GET", "/snapshots", rule="volume:get_all_snapshots", allow=READER, load=collection, gives=Many(SNAPSHOT))
def list_snapshots(ctx: Context, query: Query) -> Page:
    """List snapshots."""
    return LISTER.page(ctx, query)


@op("GET", "/snapshots/detail", rule="volume:get_all_snapshots", allow=READER, load=collection, gives=Many(DETAILED))
def list_snapshots_in_detail(ctx: Context, query: Query) -> Page:
    """List snapshots with their progress and project."""
    return LISTER.page(ctx, query, below="/detail")


@op("GET", "/snapshots/{snapshot_id}", rule="volume:get_snapshot", allow=READER, load=load_snapshot, gives=DETAILED)
def get_snapshot(snapshot: Snapshot) -> Snapshot:
    """Show a snapshot."""
    return snapshot


@op("POST", "/snapshots", rule="volume:create_snapshot", allow=MEMBER, load=collection, takes=SNAPSHOT,
    gives=SNAPSHOT, ok=202)  # fmt: skip
def create(ctx: Context, body: dict[str, Any]) -> Snapshot:
    """Take a snapshot; of a volume in use with `force`, and from 3.66 on without."""
    force = truth(body.get("force", False))
    if ctx.version >= (3, 66):
        if "force" in body and not force:
            raise BadRequest("Invalid input for field/attribute force: it cannot be false from 3.66 on; leave it out.")
        force = True
    volume = load_volume(ctx, body["volume_id"] or "")
    ctx.enforce("volume:create_snapshot", volume)
    return create_snapshot(
        ctx, volume, name=_text(body, "name"), description=body.get("description"), metadata=body.get("metadata"),
        force=force,
    )  # fmt: skip


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name) if body.get(name) is not None else body.get(f"display_{name}")
    return None if value is None else str(value).strip()


@op("PUT", "/snapshots/{snapshot_id}", rule="volume:update_snapshot", allow=MEMBER, load=load_snapshot,
    takes=SNAPSHOT, gives=SNAPSHOT)  # fmt: skip
def update(ctx: Context, snapshot: Snapshot, body: dict[str, Any]) -> Snapshot:
    """Change name or description."""
    given = [n for n in ("name", "description") if n in body or f"display_{n}" in body]
    if not given:
        raise BadRequest("Invalid input for field/attribute snapshot: name or description must be given.")
    return _edit(ctx, snapshot, {name: _text(body, name) for name in given})


def _edit(ctx: Context, snapshot: Snapshot, changes: dict[str, Any]) -> Snapshot:
    changes = {**changes, "updated_at": ctx.now}
    SNAPSHOTS.update(ctx.tx, changes, id=snapshot.id)
    for name, value in changes.items():
        setattr(snapshot, name, value)
    return snapshot


@op("DELETE", "/snapshots/{snapshot_id}", rule="volume:delete_snapshot", allow=MEMBER, load=load_snapshot, ok=202)
def delete(ctx: Context, snapshot: Snapshot) -> Reply:
    """Delete a snapshot; volumes made from it stay."""
    if snapshot.status not in ("available", "error", "error_deleting"):
        raise BadRequest(
            f"Invalid snapshot: Snapshot {snapshot.id} status must be available or error or error_deleting to delete,"
            f" current status is {snapshot.status}."
        )
    delete_snapshot(ctx, snapshot)
    return Reply()


@op("POST", "/snapshots/{snapshot_id}/action", action="os-force_delete", load=load_snapshot, ok=202, allow=ADMIN,
    rule="volume_extension:snapshot_admin_actions:force_delete", takes=action("os-force_delete"))  # fmt: skip
def force_delete(ctx: Context, snapshot: Snapshot) -> Reply:
    """Delete it whatever its status."""
    delete_snapshot(ctx, snapshot)
    return Reply()


@op("POST", "/snapshots/{snapshot_id}/action", action="os-reset_status", load=load_snapshot, ok=202, allow=ADMIN,
    rule="volume_extension:snapshot_admin_actions:reset_status",
    takes=action("os-reset_status", fields_of(("status",), status={"type": "string", "maxLength": 255})))  # fmt: skip
def reset_status(ctx: Context, snapshot: Snapshot, body: dict[str, Any]) -> Reply:
    """Show another status than the true one, until something is asked of the snapshot."""
    return _force(ctx, snapshot, body["status"].lower(), None)


@op("POST", "/snapshots/{snapshot_id}/action", action="os-update_snapshot_status", load=load_snapshot, ok=202,
    allow=MEMBER, rule="snapshot_extension:snapshot_actions:update_snapshot_status",
    takes=action("os-update_snapshot_status", fields_of(
        ("status",), status={"type": "string", "maxLength": 255},
        progress={"type": "string", "pattern": "^[0-9]{1,3}%$"})))  # fmt: skip
def update_status(ctx: Context, snapshot: Snapshot, body: dict[str, Any]) -> Reply:
    """Compute's word on a snapshot that it makes itself: only creating may become something else."""
    allowed = {"creating": ("creating", "available", "error"), "deleting": ("deleting", "error_deleting")}
    if body["status"] not in allowed.get(snapshot.status, ()):
        raise BadRequest(
            f"Snapshot status {snapshot.status} not allowed for update_snapshot_status to {body['status'][:80]}."
        )
    return _force(ctx, snapshot, body["status"], body.get("progress"))


def _force(ctx: Context, snapshot: Snapshot, status: str, progress: str | None) -> Reply:
    if status not in STATUSES:
        raise BadRequest(f"Snapshot status: {status[:80]} is invalid, valid statuses are: {', '.join(STATUSES)}.")
    record_request(ctx, "snapshot", snapshot.id, "reset_status", "success", status=status)
    snapshot.forced_status = None
    forced = None if snapshot.status == status else status
    _edit(ctx, snapshot, {"forced_status": forced, "forced_progress": progress})
    return Reply()


def _write(ctx: Context, snapshot: Snapshot, pairs: dict[str, str]) -> None:
    _edit(ctx, snapshot, {"metadata": pairs})


register("/snapshots/{snapshot_id}", "snapshot", load_snapshot, _write, creates="volume:update_snapshot_metadata")
