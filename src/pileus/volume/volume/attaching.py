"""The older way to attach: reserve, attach, detach as actions of a volume, without the attachments API.

What compute itself attached ends only through compute (CVE-2023-2088).
Source: Block Storage API reference, "Volume actions": attach, detach, reserve and their like.
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.events import record_request
from pileus.core.op import Reply
from pileus.volume.attachment.reserve import reserve
from pileus.volume.attachment.rows import ATTACHMENTS, Attachment, of_volumes, wish
from pileus.volume.service import ADMIN, MEMBER, action, fields_of, op
from pileus.volume.volume.create import current_status, load_volume
from pileus.volume.volume.rows import Volume, edit

PATH = "/volumes/{volume_id}/action"
RULE = "volume_extension:volume_actions:"
UUID = {"type": "string", "format": "uuid"}


@op("POST", PATH, action="os-reserve", rule=RULE + "reserve", allow=MEMBER, load=load_volume, ok=202,
    takes=action("os-reserve"))  # fmt: skip
def hold(ctx: Context, volume: Volume) -> Reply:
    """Mark a volume as about to be attached."""
    seen = current_status(ctx, volume)
    if seen != "available" and not (volume.multiattach and seen == "in-use"):
        raise BadRequest(f"Invalid volume: Volume status must be available to reserve, but the status is {seen}.")
    edit(ctx.tx, volume, ctx.now, held=True)
    return Reply()


@op("POST", PATH, action="os-unreserve", rule=RULE + "unreserve", allow=MEMBER, load=load_volume, ok=202,
    takes=action("os-unreserve"))  # fmt: skip
def unhold(ctx: Context, volume: Volume) -> Reply:
    """Take that back."""
    edit(ctx.tx, volume, ctx.now, held=False)
    return Reply()


@op("POST", PATH, action="os-begin_detaching", rule=RULE + "begin_detaching", allow=MEMBER, load=load_volume, ok=202,
    takes=action("os-begin_detaching"))  # fmt: skip
def begin_detaching(ctx: Context, volume: Volume) -> Reply:
    """Show a volume in use as detaching."""
    if (seen := current_status(ctx, volume)) != "in-use":
        raise BadRequest(f"Invalid volume: Unable to detach volume {volume.id}: it must be in-use, but it is {seen}.")
    edit(ctx.tx, volume, ctx.now, detaching=True)
    return Reply()


@op("POST", PATH, action="os-roll_detaching", rule=RULE + "roll_detaching", allow=MEMBER, load=load_volume, ok=202,
    takes=action("os-roll_detaching"))  # fmt: skip
def roll_detaching(ctx: Context, volume: Volume) -> Reply:
    """Take that back."""
    edit(ctx.tx, volume, ctx.now, detaching=False)
    return Reply()


ATTACH = fields_of(
    ("mountpoint",), instance_uuid=UUID, mountpoint={"type": "string", "minLength": 1, "maxLength": 255},
    host_name={"type": "string", "maxLength": 255}, mode={"enum": ["rw", "ro"]},
)  # fmt: skip


@op("POST", PATH, action="os-attach", rule=RULE + "attach", allow=MEMBER, load=load_volume, ok=202,
    takes=action("os-attach", ATTACH))  # fmt: skip
def attach(ctx: Context, volume: Volume, body: dict[str, Any]) -> Reply:
    """Record that a server or host uses the volume."""
    server_id, host = body.get("instance_uuid"), body.get("host_name")
    if server_id is None and host is None:
        raise BadRequest("Invalid input for field/attribute os-attach: instance_uuid or host_name must be given.")
    if volume.held:
        edit(ctx.tx, volume, ctx.now, held=False)
    made = reserve(ctx, volume, server_id=server_id, host_name=host, mode=body.get("mode", "rw"))
    changes = {"attached": True, "attached_at": ctx.now, "mountpoint": body["mountpoint"]}
    ATTACHMENTS.update(ctx.tx, changes, id=made.id)
    edit(ctx.tx, volume, ctx.now, detaching=False)
    return Reply()


def end(ctx: Context, volume: Volume, ties: list[Attachment]) -> None:
    """Release attachments, unless compute holds them; raises Conflicted."""
    for tie in ties:
        if tie.managed and "service" not in ctx.caller.roles:
            raise Conflicted(
                f"Detach volume {volume.id} from instance {tie.server_id} using the Compute API (DELETE"
                " /servers/{id}/os-volume_attachments/{volume_id})."
            )
        record_request(ctx, "volume", volume.id, "detach", attachment_id=tie.id)
        wish(ctx.tx, tie, ctx.now, released=True, node_id=None)
    edit(ctx.tx, volume, ctx.now, held=False, detaching=False)


def _chosen(ctx: Context, volume: Volume, attachment_id: str | None) -> list[Attachment]:
    """The attachment named, or the only one there is; raises BadRequest, NotFound."""
    ties = [t for t in of_volumes(ctx.tx, [volume.id]).get(volume.id, []) if not t.released]
    if attachment_id is not None:
        found = [t for t in ties if t.id == attachment_id]
        if not found:
            raise NotFound(f"Volume attachment could not be found with filter: attachment_id = {attachment_id[:80]}.")
        return found
    if len(ties) > 1:
        raise BadRequest(f"Invalid volume: volume {volume.id} is attached more than once: name the attachment_id.")
    return ties


@op("POST", PATH, action="os-detach", rule=RULE + "detach", allow=MEMBER, load=load_volume, ok=202,
    takes=action("os-detach", {"type": ["object", "null"], "additionalProperties": False,
                               "properties": {"attachment_id": {"type": ["string", "null"], "format": "uuid"}}}),
    )  # fmt: skip
def detach(ctx: Context, volume: Volume, body: dict[str, Any] | None) -> Reply:
    """Record that it is not used any more."""
    ties = _chosen(ctx, volume, (body or {}).get("attachment_id"))
    if not ties:
        raise BadRequest(f"Invalid volume: volume {volume.id} is not attached.")
    end(ctx, volume, ties)
    return Reply()


@op("POST", PATH, action="os-force_detach", rule="volume_extension:volume_admin_actions:force_detach", allow=ADMIN,
    load=load_volume, ok=202,
    takes=action("os-force_detach", fields_of(
        connector={"type": ["string", "object", "null"]}, attachment_id={"type": ["string", "null"]})))  # fmt: skip
def force_detach(ctx: Context, volume: Volume, body: dict[str, Any]) -> Reply:
    """Forget an attachment that its user will not end; never one of compute's."""
    end(ctx, volume, _chosen(ctx, volume, body.get("attachment_id")))
    return Reply()


CONNECTOR = fields_of(("connector",), connector={"type": ["object", "string", "null"]})


@op("POST", PATH, action="os-initialize_connection", rule=RULE + "initialize_connection", allow=MEMBER,
    load=load_volume, takes=action("os-initialize_connection", CONNECTOR))  # fmt: skip
def initialize_connection(volume: Volume) -> Reply:
    """Volumes are opened by the nodes of this cloud alone, through compute."""
    raise BadRequest(
        f"Volume {volume.id} cannot be connected to a host outside of this cloud: attach it to a server instead."
    )


@op("POST", PATH, action="os-terminate_connection", rule=RULE + "terminate_connection", allow=MEMBER,
    load=load_volume, ok=202, takes=action("os-terminate_connection", CONNECTOR))  # fmt: skip
def terminate_connection(ctx: Context, volume: Volume) -> Reply:
    """Nothing outside is connected; a reservation ends."""
    ties = of_volumes(ctx.tx, [volume.id]).get(volume.id, [])
    if any(t.managed for t in ties):
        end(ctx, volume, ties)
    edit(ctx.tx, volume, ctx.now, held=False)
    return Reply()
