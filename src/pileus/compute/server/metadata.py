"""Metadata of servers.  Source: Compute API reference, "Server metadata (servers, metadata)"."""

from typing import Any

from pileus.compute.server.access import STEADY, edit, load_server, require
from pileus.compute.server.create import check_metadata
from pileus.compute.server.rows import Server
from pileus.compute.service import COMPUTE, MEMBER, READER
from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.op import Reply
from pileus.core.schema import METADATA, Schema

_RULE = "os_compute_api:server-metadata"
_PATH = "/servers/{server_id}/metadata"
ALL: Schema = {
    "type": "object", "properties": {"metadata": METADATA}, "required": ["metadata"], "additionalProperties": False,
}  # fmt: skip
ONE: Schema = {
    "type": "object", "properties": {"meta": {**METADATA, "minProperties": 1, "maxProperties": 1}},
    "required": ["meta"], "additionalProperties": False,
}  # fmt: skip


def _change(ctx: Context, server: Server, items: dict[str, str], verb: str) -> None:
    require(ctx, server, verb, STEADY)
    check_metadata(ctx, items)
    edit(ctx, server, metadata=items)


@COMPUTE.op("GET", _PATH, rule=f"{_RULE}:index", allow=READER, load=load_server)
def list_metadata(server: Server) -> Reply:
    """List all metadata of a server."""
    return Reply({"metadata": server.metadata})


@COMPUTE.op("POST", _PATH, rule=f"{_RULE}:create", allow=MEMBER, load=load_server, takes=ALL)
def add_metadata(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Create or update items."""
    _change(ctx, server, {**server.metadata, **body["metadata"]}, "update metadata")
    return Reply({"metadata": server.metadata})


@COMPUTE.op("PUT", _PATH, rule=f"{_RULE}:update_all", allow=MEMBER, load=load_server, takes=ALL)
def replace_metadata(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Replace all items."""
    _change(ctx, server, dict(body["metadata"]), "update metadata")
    return Reply({"metadata": server.metadata})


def _value(server: Server, key: str) -> str:
    if key not in server.metadata:
        raise NotFound("Metadata item was not found")
    return server.metadata[key]


@COMPUTE.op("GET", f"{_PATH}/{{key}}", rule=f"{_RULE}:show", allow=READER, load=load_server)
def show_metadata(server: Server, key: str) -> Reply:
    """Show one item."""
    return Reply({"meta": {key: _value(server, key)}})


@COMPUTE.op("PUT", f"{_PATH}/{{key}}", rule=f"{_RULE}:update", allow=MEMBER, load=load_server, takes=ONE)
def set_metadata(ctx: Context, server: Server, key: str, body: dict[str, Any]) -> Reply:
    """Create or update one item."""
    if key not in body["meta"]:
        raise BadRequest("Request body and URI mismatch")
    _change(ctx, server, {**server.metadata, **body["meta"]}, "update metadata")
    return Reply({"meta": body["meta"]})


@COMPUTE.op("DELETE", f"{_PATH}/{{key}}", rule=f"{_RULE}:delete", allow=MEMBER, load=load_server, ok=204)
def delete_metadata(ctx: Context, server: Server, key: str) -> Reply:
    """Delete one item."""
    _value(server, key)
    _change(ctx, server, {k: v for k, v in server.metadata.items() if k != key}, "delete metadata")
    return Reply()
