"""Tags of servers.  Source: Compute API reference, "Server tags (servers, tags)"."""

import re
from typing import Any

from pileus.compute.server.access import edit, load_server, require
from pileus.compute.server.rows import TAGS, Server, Tag
from pileus.compute.server.schemas import TAG
from pileus.compute.service import COMPUTE, MEMBER, READER
from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.op import Reply

_RULE = "os_compute_api:os-server-tags"
_PATH = "/servers/{server_id}/tags"
_STATES = ("active", "paused", "suspended", "stopped")
MOST, LONGEST = 50, 60


def _tags(ctx: Context, server: Server) -> list[str]:
    return [tag.tag for tag in TAGS.all(ctx.tx, order="server_tags.tag", server_id=server.id)]


@COMPUTE.op("GET", _PATH, rule=f"{_RULE}:index", allow=READER, load=load_server, since="2.26")
def list_tags(ctx: Context, server: Server) -> Reply:
    """List tags."""
    return Reply({"tags": _tags(ctx, server)})


@COMPUTE.op(
    "PUT", _PATH, rule=f"{_RULE}:update_all", allow=MEMBER, load=load_server, since="2.26",
    takes={"type": "object", "properties": {"tags": {"type": "array", "items": TAG, "maxItems": MOST}},
           "required": ["tags"], "additionalProperties": False},
)  # fmt: skip
def replace_tags(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Replace all tags."""
    require(ctx, server, "update tags", _STATES)
    TAGS.delete(ctx.tx, server_id=server.id)
    for tag in dict.fromkeys(body["tags"]):
        TAGS.insert(ctx.tx, Tag(server_id=server.id, tag=tag))
    edit(ctx, server)
    return Reply({"tags": _tags(ctx, server)})


@COMPUTE.op("DELETE", _PATH, rule=f"{_RULE}:delete_all", allow=MEMBER, load=load_server, ok=204, since="2.26")
def delete_tags(ctx: Context, server: Server) -> Reply:
    """Delete all tags."""
    require(ctx, server, "delete tags", _STATES)
    TAGS.delete(ctx.tx, server_id=server.id)
    edit(ctx, server)
    return Reply()


def _known(ctx: Context, server: Server, tag: str) -> None:
    if not TAGS.count(ctx.tx, server_id=server.id, tag=tag):
        raise NotFound(f"Server {server.id} has no tag '{tag[:80]}'")


@COMPUTE.op("GET", f"{_PATH}/{{tag}}", rule=f"{_RULE}:show", allow=READER, load=load_server, ok=204, since="2.26")
def check_tag(ctx: Context, server: Server, tag: str) -> Reply:
    """Whether a server has a tag."""
    _known(ctx, server, tag)
    return Reply()


@COMPUTE.op("PUT", f"{_PATH}/{{tag}}", rule=f"{_RULE}:update", allow=MEMBER, load=load_server, ok=201, since="2.26")
def add_tag(ctx: Context, server: Server, tag: str) -> Reply:
    """Add a tag."""
    require(ctx, server, "update tag", _STATES)
    if not 1 <= len(tag) <= LONGEST or re.search("[,/]", tag):
        raise BadRequest(f"Tag '{tag[:80]}' is invalid. It must have 1 to {LONGEST} characters, no comma and no slash.")
    there = _tags(ctx, server)
    where = {"location": f"{ctx.url}/v2.1/servers/{server.id}/tags/{tag.encode('ascii', 'replace').decode()}"}
    if tag in there:
        return Reply(status=204, headers=where)
    if len(there) >= MOST:
        raise BadRequest(f"The number of tags exceeded the per-server limit {MOST}")
    TAGS.insert(ctx.tx, Tag(server_id=server.id, tag=tag))
    edit(ctx, server)
    return Reply(headers=where)


@COMPUTE.op("DELETE", f"{_PATH}/{{tag}}", rule=f"{_RULE}:delete", allow=MEMBER, load=load_server, ok=204, since="2.26")
def delete_tag(ctx: Context, server: Server, tag: str) -> Reply:
    """Delete a tag."""
    require(ctx, server, "delete tag", _STATES)
    _known(ctx, server, tag)
    TAGS.delete(ctx.tx, server_id=server.id, tag=tag)
    edit(ctx, server)
    return Reply()
