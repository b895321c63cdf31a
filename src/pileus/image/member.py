"""With whom images are shared.  Source: Image API reference v2, "Sharing"."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden, NotFound, TooLarge
from pileus.core.events import record_request
from pileus.db.connect import Conflict
from pileus.image.access import load_image, sees_all
from pileus.image.fields import MEMBER_STATUSES, MOST, render_member
from pileus.image.rows import MEMBERS, Image, Member
from pileus.image.service import IMAGE, OWNER

_READ = "role:admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s))"
_ACCEPT = "role:admin or (role:member and project_id:%(member_id)s)"


class Sharing(Struct, frozen=True, kw_only=True):
    """A membership as rules see it: the image's owner and the project it is shared with."""

    image: Image
    member: Member
    project_id: str
    member_id: str


def load_member(ctx: Context, image_id: str, member_id: str) -> Sharing:
    """A membership that the caller may see: the owner's view, or one's own; raises NotFound."""
    image = load_image(ctx, image_id)
    own = ctx.caller.project_id in (image.project_id, member_id) or sees_all(ctx)
    member = MEMBERS.get(ctx.tx, image_id=image.id, member_id=member_id) if own else None
    if member is None:
        raise NotFound(f"{member_id[:80]} not found in the member list of the image {image_id}.")
    return Sharing(image=image, member=member, project_id=image.project_id, member_id=member_id)


def load_shared(ctx: Context, image_id: str) -> Mapping[str, Any]:
    """Loader of the member list: who is asked for is oneself, unless one is the owner."""
    image = load_image(ctx, image_id)
    return {"image": image, "project_id": image.project_id, "member_id": ctx.caller.project_id}


@IMAGE.op("GET", "/images/{image_id}/members", rule="get_members", allow=_READ, load=load_shared)
def list_members(ctx: Context, shared: Mapping[str, Any]) -> dict[str, Any]:
    """List the members of a shared image; a member sees itself alone."""
    image: Image = shared["image"]
    mine = {} if sees_all(ctx) or image.project_id == ctx.caller.project_id else {"member_id": ctx.caller.project_id}
    if image.visibility != "shared":
        raise Forbidden("Only shared images have members.")
    members = MEMBERS.all(ctx.tx, order="image_members.created_at, image_members.member_id", image_id=image.id, **mine)
    return {"members": [render_member(member, ctx) for member in members], "schema": "/v2/schemas/members"}


@IMAGE.op("GET", "/images/{image_id}/members/{member_id}", rule="get_member", allow=_READ, load=load_member)
def get_member(ctx: Context, sharing: Sharing) -> Mapping[str, Any]:
    """Show a member."""
    return render_member(sharing.member, ctx)


ADD = {
    "type": "object",
    "properties": {"member": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[A-Za-z0-9_-]*$"}},
    "required": ["member"],
}


@IMAGE.op("POST", "/images/{image_id}/members", rule="add_member", allow=OWNER, load=load_image, takes=ADD)
def add_member(ctx: Context, image: Image, body: dict[str, Any]) -> Mapping[str, Any]:
    """Share an image with a project, which does not see it in lists before it accepts."""
    if image.visibility != "shared":
        raise Forbidden("Only shared images have members.")
    if MEMBERS.count(ctx.tx, image_id=image.id) >= MOST:
        raise TooLarge(f"The maximum number of members is {MOST}.")
    member = Member(
        image_id=image.id, member_id=body["member"], status="pending", created_at=ctx.now, updated_at=ctx.now
    )
    try:
        MEMBERS.insert(ctx.tx, member)
    except Conflict:
        raise Conflicted(f"Image member {body['member']} is already associated with image {image.id}.") from None
    record_request(ctx, "image", image.id, "add_member", "success", member=member.member_id)
    return render_member(member, ctx)


STATUS = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}


@IMAGE.op(
    "PUT", "/images/{image_id}/members/{member_id}", rule="modify_member", allow=_ACCEPT, load=load_member, takes=STATUS
)
def update_member(ctx: Context, sharing: Sharing, body: dict[str, Any]) -> Mapping[str, Any]:
    """Accept or reject what was shared with one's own project."""
    status = body["status"]
    if status not in MEMBER_STATUSES:
        raise BadRequest(f"Status must be one of {', '.join(MEMBER_STATUSES)}; {status[:40]} is not.")
    changes = {"status": status, "updated_at": ctx.now}
    MEMBERS.update(ctx.tx, changes, image_id=sharing.image.id, member_id=sharing.member_id)
    return render_member(structs.replace(sharing.member, **changes), ctx)


@IMAGE.op(
    "DELETE", "/images/{image_id}/members/{member_id}", rule="delete_member", allow=OWNER, load=load_member, ok=204
)
def remove_member(ctx: Context, sharing: Sharing) -> None:
    """Stop sharing."""
    MEMBERS.delete(ctx.tx, image_id=sharing.image.id, member_id=sharing.member_id)
    record_request(ctx, "image", sharing.image.id, "remove_member", "success", member=sharing.member_id)
