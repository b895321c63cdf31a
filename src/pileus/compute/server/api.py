"""Servers: list, show, create, update, delete.  Source: Compute API reference, "Servers (servers)"."""

from typing import Any

from pileus.compute.server.access import edit, load_server, unlocked, wish
from pileus.compute.server.create import address, known_zones, make_servers, order
from pileus.compute.server.fields import (
    SERVER,
    SERVER_BRIEF,
    SERVER_IN_LIST,
    SERVER_UPDATED,
    Shown,
    present,
)
from pileus.compute.server.listing import find
from pileus.compute.server.passwords import keep_password, new_password
from pileus.compute.server.rows import Server
from pileus.compute.server.schemas import CREATE, HINTS, UPDATE
from pileus.compute.service import ADMIN, COMPUTE, MEMBER, READER, links, refuse_unknown
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Query
from pileus.core.schema import compile_schema, truth

_RULE = "os_compute_api:servers"
ALL_BRIEF = COMPUTE.rule(f"{_RULE}:index:get_all_tenants", ADMIN)
ALL_DETAIL = COMPUTE.rule(f"{_RULE}:detail:get_all_tenants", ADMIN)
_check_hints = compile_schema(HINTS)
_HINT_KEYS = ("os:scheduler_hints", "OS-SCH-HNT:scheduler_hints")


@COMPUTE.op("GET", "/servers", rule=f"{_RULE}:index", allow=READER, load=collection, gives=Many(SERVER_BRIEF))
def list_servers(ctx: Context, query: Query) -> Page:
    """List servers."""
    return find(ctx, query, "servers", detail=False, all_tenants=ALL_BRIEF)


@COMPUTE.op("GET", "/servers/detail", rule=f"{_RULE}:detail", allow=READER, load=collection, gives=Many(SERVER_IN_LIST))
def list_servers_with_details(ctx: Context, query: Query) -> Page:
    """List servers with details."""
    return find(ctx, query, "servers/detail", detail=True, all_tenants=ALL_DETAIL)


@COMPUTE.op("GET", "/servers/{server_id}", rule=f"{_RULE}:show", allow=READER, load=load_server, gives=SERVER)
def show_server(ctx: Context, server: Server, query: Query) -> Shown:
    """Show server details."""
    refuse_unknown(ctx, query)
    return present(ctx, [server])[0]


def _hints(whole: dict[str, Any]) -> dict[str, Any]:
    """The scheduler hints beside the server, under either name; raises BadRequest."""
    unknown = sorted(set(whole) - {"server", *_HINT_KEYS})
    if unknown:
        raise BadRequest(f"Additional properties are not allowed ({unknown[0][:80]!r} was unexpected)")
    hints: dict[str, Any] = next((whole[key] for key in _HINT_KEYS if key in whole), {})
    _check_hints(hints)
    return hints


@COMPUTE.op("POST", "/servers", rule=f"{_RULE}:create", allow=MEMBER, load=collection, takes=CREATE, ok=202)
def create_server(ctx: Context, body: dict[str, Any], whole: dict[str, Any]) -> Reply:
    """Create one server or several."""
    if body.get("trusted_image_certificates"):
        raise BadRequest("trusted_image_certificates: this cloud does not verify image signatures.")
    password = body.get("adminPass") or new_password()
    made = make_servers(ctx, body, order(ctx, body, _hints(whole)))
    for server in made:
        keep_password(ctx, server, "create", password)
    if truth(body.get("return_reservation_id", False)):
        return Reply({"reservation_id": made[0].reservation_id})
    first = made[0]
    shown: dict[str, Any] = {
        "id": first.id,
        "links": links(ctx, f"servers/{first.id}"),
        "OS-DCF:diskConfig": first.disk_config,
        "security_groups": body.get("security_groups") or [{"name": "default"}],
        "adminPass": password,
    }
    return Reply({"server": shown}, headers={"location": shown["links"][0]["href"]})


@COMPUTE.op(
    "PUT", "/servers/{server_id}", rule=f"{_RULE}:update", allow=MEMBER, load=load_server, takes=UPDATE,
    gives=SERVER_UPDATED,
)  # fmt: skip
def update_server(ctx: Context, server: Server, body: dict[str, Any]) -> Shown:
    """Update a server."""
    names = {"name": "name", "description": "description", "hostname": "hostname", "accessIPv4": "access_ip_v4",
             "accessIPv6": "access_ip_v6", "OS-DCF:diskConfig": "disk_config"}  # fmt: skip
    changes = {column: body[name] for name, column in names.items() if name in body}
    if "name" in changes:
        changes["name"] = changes["name"].strip()
    changes |= {column: address(changes[column]) for column in ("access_ip_v4", "access_ip_v6") if column in changes}
    if "pinned_availability_zone" in body:
        changes["zone"] = _pinned(ctx, server, body["pinned_availability_zone"])
    if changes:
        edit(ctx, server, **changes)
    return present(ctx, [server])[0]


def _pinned(ctx: Context, server: Server, zone: str | None) -> str | None:
    """The zone to be pinned to; raises Conflicted, or BadRequest for a zone that is not there."""
    if zone is None or zone == server.zone:
        return zone
    if zone not in known_zones(ctx):
        raise BadRequest("The requested availability zone is not available")
    if server.zone is not None:
        raise Conflicted(
            "Cannot change pinned availability zone directly. Unpin first by setting pinned_availability_zone to null."
        )
    if zone != server.node_zone:
        raise Conflicted(
            f"Server can only be pinned to its current availability zone '{server.node_zone}', but '{zone}' was "
            "requested."
        )
    return zone


@COMPUTE.op("DELETE", "/servers/{server_id}", rule=f"{_RULE}:delete", allow=MEMBER, load=load_server, ok=204)
def delete_server(ctx: Context, server: Server) -> Reply:
    """Delete a server; asked for twice it is deleted once."""
    unlocked(ctx, server)
    if not server.deleted:
        wish(ctx, server, "delete", deleted=True)
    return Reply()
