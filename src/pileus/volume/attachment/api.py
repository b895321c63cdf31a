"""The attachments API, for users of volumes other than compute; what compute holds is only shown here.

Nothing is exported through it: volumes are opened by the nodes of this cloud, which compute asks for.
Source: Block Storage API reference, "Attachments" (3.27; complete 3.44; mode 3.54); CVE-2023-2088.
"""

from typing import Any

from pileus.core.clock import iso_micro
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.fields import Field, Fields
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Listing, Query
from pileus.volume.attachment.reserve import reserve
from pileus.volume.attachment.rows import ATTACHMENTS, Attachment
from pileus.volume.listing import Lister
from pileus.volume.service import MEMBER, READER, VOLUME, action, missing, op, sees
from pileus.volume.volume.attaching import end
from pileus.volume.volume.create import load_volume
from pileus.volume.volume.rows import VOLUMES

VOLUME.rule("volume:multiattach_bootable_volume", MEMBER)
UUID = {"type": "string", "format": "uuid"}
CONNECTOR = {"type": ["object", "null"]}

_BRIEF = (
    Field("id", "rqs"),
    Field("status", "r", get="status"),
    Field("instance", "r", get="server_id"),
    Field("volume_id", "rqs"),
    Field("instance_id", "q", column="server_id"),
    Field("created_at", "s"),
    Field("volume_uuid", "C", UUID),
    Field("instance_uuid", "c", UUID),
    Field("connector", "cU", CONNECTOR),
    Field("mode", "c", {"enum": ["rw", "ro"]}, since="3.54"),
)
BRIEF = Fields("attachment", "attachments", _BRIEF)
DETAILED = Fields(
    "attachment",
    "attachments",
    (
        *_BRIEF,
        Field("attached_at", "r", get=lambda a, _: iso_micro(a.attached_at) or ""),
        Field("detached_at", "r", get=lambda _a, _c: ""),
        Field("attach_mode", "r", get="mode"),
        Field("connection_info", "r", get=lambda _a, _c: {}),
    ),
)
STATUS_SQL = (
    "case when volume_attachments.released = 1 then 'detaching'"
    " when volume_attachments.fault is not null"
    " and volume_attachments.fault_generation = volume_attachments.generation then 'error_attaching'"
    " when volume_attachments.attached = 1 then 'attached'"
    " when volume_attachments.node_id is not null or volume_attachments.connector is not null then 'attaching'"
    " else 'reserved' end"
)
LISTER = Lister(
    BRIEF, ATTACHMENTS, "attachments", expressions={"status": STATUS_SQL, "attach_status": STATUS_SQL},
    links="attachments_links",
)  # fmt: skip


def load_attachment(ctx: Context, attachment_id: str) -> Attachment:
    """An attachment of a volume that the caller may know of; raises NotFound."""
    found = ATTACHMENTS.get(ctx.tx, id=attachment_id)
    if found is None or not sees(ctx, found.project_id):
        raise missing("Volume attachment", attachment_id)
    return found


@op("GET", "/attachments", rule="volume:attachment_get_all", allow=READER, load=collection, gives=Many(BRIEF),
    since="3.27")  # fmt: skip
def list_attachments(ctx: Context, query: Query) -> Page:
    """List attachments, briefly."""
    return LISTER.page(ctx, query, Listing(ATTACHMENTS))


@op("GET", "/attachments/detail", rule="volume:attachment_get_all", allow=READER, load=collection,
    gives=Many(DETAILED), since="3.27")  # fmt: skip
def list_attachments_in_detail(ctx: Context, query: Query) -> Page:
    """List attachments with when and how."""
    return LISTER.page(ctx, query, Listing(ATTACHMENTS))


@op("GET", "/attachments/{attachment_id}", rule="volume:attachment_get", allow=READER, load=load_attachment,
    gives=DETAILED, since="3.27")  # fmt: skip
def get_attachment(attachment: Attachment) -> Attachment:
    """Show an attachment."""
    return attachment


@op("POST", "/attachments", rule="volume:attachment_create", allow=MEMBER, load=collection, takes=DETAILED,
    gives=DETAILED, since="3.27")  # fmt: skip
def create(ctx: Context, body: dict[str, Any]) -> Attachment:
    """Reserve a volume for a server or host of somebody else's."""
    volume = load_volume(ctx, body["volume_uuid"])
    ctx.enforce("volume:attachment_create", volume)
    return reserve(
        ctx, volume, server_id=body.get("instance_uuid"), mode=_mode(body), connector=body.get("connector") or None
    )


def _mode(body: dict[str, Any]) -> str:
    """As asked for; earlier the connector said it."""
    connector = body.get("connector") or {}
    mode = str(body.get("mode") or connector.get("mode") or "rw")
    if mode not in ("rw", "ro"):
        raise BadRequest("Invalid input for field/attribute mode: it must be rw or ro.")
    return mode


def _not_ours(attachment: Attachment) -> None:
    if attachment.managed:
        raise Conflicted(
            f"Attachment {attachment.id} belongs to instance {attachment.server_id}: use the Compute API to change it."
        )


@op("PUT", "/attachments/{attachment_id}", rule="volume:attachment_update", allow=MEMBER, load=load_attachment,
    takes=DETAILED, gives=DETAILED, since="3.27")  # fmt: skip
def update(ctx: Context, attachment: Attachment, body: dict[str, Any]) -> Attachment:
    """Say who will use the volume: it is being attached."""
    _not_ours(attachment)
    if not body["connector"]:
        raise BadRequest("Invalid input for field/attribute connector: it must not be empty.")
    if attachment.connector:
        raise BadRequest(f"Invalid volume: attachment {attachment.id} has a connector already.")
    ATTACHMENTS.update(ctx.tx, {"connector": body["connector"], "updated_at": ctx.now}, id=attachment.id)
    attachment.connector = body["connector"]
    return attachment


@op("POST", "/attachments/{attachment_id}/action", action="os-complete", rule="volume:attachment_complete",
    allow=MEMBER, load=load_attachment, ok=204, since="3.44", takes=action("os-complete"))  # fmt: skip
def complete(ctx: Context, attachment: Attachment) -> Reply:
    """The volume is in use now."""
    _not_ours(attachment)
    changes = {"attached": True, "attached_at": ctx.now, "updated_at": ctx.now}
    ATTACHMENTS.update(ctx.tx, changes, id=attachment.id)
    return Reply()


@op("DELETE", "/attachments/{attachment_id}", rule="volume:attachment_delete", allow=MEMBER, load=load_attachment,
    since="3.27")  # fmt: skip
def delete(ctx: Context, attachment: Attachment) -> Reply:
    """End an attachment; the answer lists those that the volume has left."""
    volume = VOLUMES.get(ctx.tx, id=attachment.volume_id)
    assert volume is not None
    end(ctx, volume, [attachment])
    left = ATTACHMENTS.all(ctx.tx, volume_id=volume.id, released=False)
    return Reply({"attachments": [BRIEF.render(a, ctx) for a in left]})
