"""Volumes of servers: os-volume_attachments.

Source: Compute API reference, "Servers with volume attachments (servers, os-volume_attachments)".
"""

from collections.abc import Callable
from typing import Any

from pileus.compute.server.access import at_rest, load_server, require, wish
from pileus.compute.server.create import add_volume
from pileus.compute.server.devices import VolumeWish, next_device
from pileus.compute.server.rows import VOLUMES, Server, ServerVolume, volumes_of
from pileus.compute.server.schemas import TAG, UUID
from pileus.compute.service import COMPUTE, MEMBER, READER, page_limit, refuse_unknown
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.fields import Field, Fields
from pileus.core.op import Many, Reply
from pileus.core.paging import Query
from pileus.core.schema import LOOSE_BOOLEAN, Schema, truth
from pileus.volume import facade as volume

_RULE = "os_compute_api:os-volumes-attachments"
_PATH = "/servers/{server_id}/os-volume_attachments"
SWAP = COMPUTE.rule(f"{_RULE}:swap", "role:service")
_PLACES = ("active", "paused", "stopped", "resized")
_SHELVED = ("shelved", "shelved_offloaded")

ATTACHMENT = Fields(
    "volumeAttachment",
    "volumeAttachments",
    (
        Field("id", "r", get="volume_id", until="2.88"),
        Field("volumeId", "r", get="volume_id"),
        Field("serverId", "r", get="server_id"),
        Field("device", "r"),
        Field("tag", "r", since="2.70"),
        Field("delete_on_termination", "r", since="2.79"),
        Field("attachment_id", "r", get="id", since="2.89"),
        Field("bdm_uuid", "r", get="id", since="2.89"),
    ),
)
# The answer to an attachment keeps `id` at every version that has an answer.
ATTACHED = Fields(
    "volumeAttachment", "volumeAttachments",
    [Field("id", "r", get="volume_id"),
     *(f for f in ATTACHMENT.fields if f.name not in ("id", "attachment_id", "bdm_uuid"))],
)  # fmt: skip
_DEVICE: Schema = {"type": ["string", "null"], "pattern": "(^/dev/x{0,1}[a-z]{0,1}d{0,1})([a-z]+)[0-9]*$"}


def _schema(**more: Any) -> Schema:
    inner = {
        "type": "object", "properties": {"volumeId": UUID, "device": _DEVICE, **more}, "required": ["volumeId"],
        "additionalProperties": False,
    }  # fmt: skip
    return {
        "type": "object", "properties": {"volumeAttachment": inner}, "required": ["volumeAttachment"],
        "additionalProperties": False,
    }  # fmt: skip


@COMPUTE.op("GET", _PATH, rule=f"{_RULE}:index", allow=READER, load=load_server, gives=Many(ATTACHMENT))
def list_attachments(ctx: Context, server: Server, query: Query) -> list[ServerVolume]:
    """List volume attachments of a server."""
    refuse_unknown(ctx, query, "limit", "offset", since="2.75")
    start = query.number("offset", 0)
    return volumes_of(ctx.tx, [server.id])[start : start + page_limit(query)]


def _row(ctx: Context, server: Server, volume_id: str) -> ServerVolume:
    found = VOLUMES.get(ctx.tx, server_id=server.id, volume_id=volume_id)
    if found is None:
        raise NotFound(f"Instance {server.id} is not attached to volume {volume_id[:80]}")
    return found


@COMPUTE.op("GET", f"{_PATH}/{{volume_id}}", rule=f"{_RULE}:show", allow=READER, load=load_server, gives=ATTACHMENT)
def show_attachment(ctx: Context, server: Server, volume_id: str) -> ServerVolume:
    """Show a detail of a volume attachment."""
    return _row(ctx, server, volume_id)


def _attach(ctx: Context, server: Server, given: dict[str, Any], places: tuple[str, ...]) -> ServerVolume:
    require(ctx, server, "attach_volume", places)
    volume_id, rows = given["volumeId"], volumes_of(ctx.tx, [server.id])
    found = volume.get_volume(ctx, volume_id)
    if found.multiattach and ctx.version < (2, 60):
        raise BadRequest("Multiattach volumes are only supported starting with compute API version 2.60.")
    if any(row.volume_id == volume_id for row in rows):
        raise BadRequest(f"Invalid volume: volume {found.id} already attached at this instance.")
    used = {row.device for row in rows} | ({"/dev/vda"} if server.image_id is not None else set())
    device = given.get("device") or ""
    if device in used:
        raise Conflicted(f"The supplied device path ({device}) is in use.")
    last = max((row.position for row in rows), default=-1)
    chosen = VolumeWish(
        source="volume", id=found.id, tag=given.get("tag"),
        delete_on_termination=truth(given.get("delete_on_termination", False)),
    )  # fmt: skip
    row = add_volume(ctx, server, chosen, last + 1, device or next_device(used))
    wish(ctx, server, "attach_volume")
    return row


def _attaching(
    since: str, until: str, *, gives: Fields | None, ok: int, **more: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return COMPUTE.op(
        "POST", _PATH, rule=f"{_RULE}:create", allow=MEMBER, load=load_server, takes=_schema(**more), gives=gives,
        since=since, until=until, ok=ok,
    )  # fmt: skip


@_attaching("2.1", "2.19", gives=ATTACHED, ok=200)
def attach_volume_first(ctx: Context, server: Server, body: dict[str, Any]) -> ServerVolume:
    """Attach a volume to a server that is on a node."""
    return _attach(ctx, server, body["volumeAttachment"], _PLACES)


@_attaching("2.20", "2.48", gives=ATTACHED, ok=200)
def attach_volume_shelved(ctx: Context, server: Server, body: dict[str, Any]) -> ServerVolume:
    """Attach a volume, to a shelved server too."""
    return _attach(ctx, server, body["volumeAttachment"], (*_PLACES, *_SHELVED))


@_attaching("2.49", "2.78", gives=ATTACHED, ok=200, tag=TAG)
def attach_volume_tagged(ctx: Context, server: Server, body: dict[str, Any]) -> ServerVolume:
    """Attach a volume with a tag that the guest learns of."""
    return _attach(ctx, server, body["volumeAttachment"], (*_PLACES, *_SHELVED))


@_attaching("2.79", "2.100", gives=ATTACHED, ok=200, tag=TAG, delete_on_termination=LOOSE_BOOLEAN)
def attach_volume(ctx: Context, server: Server, body: dict[str, Any]) -> ServerVolume:
    """Attach a volume that may be deleted with the server."""
    return _attach(ctx, server, body["volumeAttachment"], (*_PLACES, *_SHELVED))


@_attaching("2.101", "", gives=None, ok=202, tag=TAG, delete_on_termination=LOOSE_BOOLEAN)
def attach_volume_silently(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Attach a volume; the device is known later."""
    _attach(ctx, server, body["volumeAttachment"], (*_PLACES, *_SHELVED))
    return Reply()


@COMPUTE.op(
    "PUT", f"{_PATH}/{{volume_id}}", rule=SWAP, load=load_server, ok=202, until="2.84",
    takes={"type": "object", "required": ["volumeAttachment"], "additionalProperties": False, "properties": {
        "volumeAttachment": {"type": "object", "properties": {"volumeId": UUID}, "required": ["volumeId"],
                             "additionalProperties": False}}},
)  # fmt: skip
def swap_volume(ctx: Context, server: Server, volume_id: str) -> Reply:
    """Replace a volume by another while it is being migrated, which the block storage here never does."""
    _row(ctx, server, volume_id)
    raise Conflicted(f"volume {volume_id} is not migrating; this API should only be called by Cinder")


@COMPUTE.op(
    "PUT", f"{_PATH}/{{volume_id}}", rule=f"{_RULE}:update", allow=MEMBER, load=load_server, ok=202, since="2.85",
    takes=_schema(tag=TAG, delete_on_termination=LOOSE_BOOLEAN, serverId=UUID, id=UUID),
)  # fmt: skip
def update_attachment(ctx: Context, server: Server, volume_id: str, body: dict[str, Any]) -> Reply:
    """Say whether a volume shall be deleted with its server."""
    given, row = body["volumeAttachment"], _row(ctx, server, volume_id)
    if given["volumeId"] != volume_id:
        ctx.enforce(SWAP, server)
        raise Conflicted(f"volume {volume_id} is not migrating; this API should only be called by Cinder")
    fixed = {"id": row.volume_id, "serverId": server.id, "device": row.device, "tag": row.tag}
    for name, value in fixed.items():
        if name in given and given[name] != value:
            raise BadRequest(f"The {name} property is not mutable")
    if "delete_on_termination" in given:
        VOLUMES.update(ctx.tx, {"delete_on_termination": truth(given["delete_on_termination"])}, id=row.id)
    return Reply()


def _detach(ctx: Context, server: Server, volume_id: str, places: tuple[str, ...]) -> Reply:
    require(ctx, server, "detach_volume", places)
    found = volume.get_volume(ctx, volume_id)
    row = _row(ctx, server, volume_id)
    if row.boot_index == 0 and server.image_id is None:
        raise BadRequest("Cannot detach a root device volume")
    if row.detach and found.multiattach:
        return Reply()  # its status speaks of other servers too, so that clients cannot tell
    if row.detach and not at_rest(ctx, server):
        raise BadRequest(
            f"Invalid volume: Invalid input received: Invalid volume: Unable to detach volume {volume_id}: it is being "
            "detached."
        )
    VOLUMES.update(ctx.tx, {"detach": True}, id=row.id)
    wish(ctx, server, "detach_volume")
    return Reply()


@COMPUTE.op(
    "DELETE", f"{_PATH}/{{volume_id}}", rule=f"{_RULE}:delete", allow=MEMBER, load=load_server, ok=202, until="2.19"
)
def detach_volume_first(ctx: Context, server: Server, volume_id: str) -> Reply:
    """Detach a volume from a server that is on a node."""
    return _detach(ctx, server, volume_id, (*_PLACES, "suspended"))


@COMPUTE.op(
    "DELETE", f"{_PATH}/{{volume_id}}", rule=f"{_RULE}:delete", allow=MEMBER, load=load_server, ok=202, since="2.20"
)
def detach_volume(ctx: Context, server: Server, volume_id: str) -> Reply:
    """Detach a volume, from a shelved server too."""
    return _detach(ctx, server, volume_id, (*_PLACES, "suspended", *_SHELVED))
