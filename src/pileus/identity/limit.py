"""Limits of single projects and domains, instead of the registered default.

Source: Identity API reference, "Unified limits".
"""

from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.schema import TEXT
from pileus.db.connect import Conflict
from pileus.identity.limit_model import check_limit
from pileus.identity.registered_limit import (
    ID,
    ID_OR_NULL,
    NUMBER,
    REGISTERED_LIMITS,
    RESOURCE,
    RegisteredLimit,
    check_place,
    several,
)
from pileus.identity.rows import PROJECTS
from pileus.identity.service import ADMIN, IDENTITY, READER, links_beside, listed, own_domain, seen, self_link
from pileus.identity.unified_limit import LIMITS, Limit


def registered(limit: Limit, ctx: Context) -> RegisteredLimit:
    """The registered limit that this one replaces."""
    found = REGISTERED_LIMITS.get(ctx.tx, id=limit.registered_limit_id)
    assert found is not None, "the schema keeps registered limits that are in use"
    return found


LIMIT = Fields(
    "limit",
    "limits",
    (
        Field("id", "r"),
        Field("project_id", "crq", ID_OR_NULL),
        Field("domain_id", "crq", ID_OR_NULL),
        Field("service_id", "Cr", ID, get=lambda row, ctx: registered(row, ctx).service_id),
        Field("region_id", "cr", ID_OR_NULL, get=lambda row, ctx: registered(row, ctx).region_id),
        Field("resource_name", "Cr", RESOURCE, get=lambda row, ctx: registered(row, ctx).resource_name),
        Field("resource_limit", "Cru", NUMBER),
        Field("description", "cru", TEXT),
        Field("links", "r", get=self_link("limits")),
    ),
)
_OF_REGISTERED = {"service_id", "region_id", "resource_name"}


def load_limit(ctx: Context, limit_id: str) -> Limit:
    """A limit that the caller may see."""
    return seen(ctx, "identity:get_limit", "limit", limit_id, LIMITS.get(ctx.tx, id=limit_id))


@IDENTITY.op("GET", "/limits", rule="identity:list_limits", allow="@", load=collection, gives=Many(LIMIT))
def list_limits(ctx: Context, query: Query) -> Page:
    """List limits: all for who may read the cloud, else those of the caller's project or domain."""
    listing = Listing(LIMITS)
    if not ctx.allows("identity:get_limit", {}):
        own = (ctx.caller.project_id or "", ctx.caller.domain_id or "")
        listing.where("limits.project_id = ? or limits.domain_id = ?", *own)
    wanted = {name: query.one(name) for name in sorted(_OF_REGISTERED) if name in query}
    for name, value in wanted.items():
        listing.where(f"limits.registered_limit_id in (select id from registered_limits where {name} = ?)", value)
    return listed(ctx, LIMIT, listing, query)


@IDENTITY.op(
    "GET", "/limits/{limit_id}", rule="identity:get_limit", load=load_limit, gives=LIMIT,
    allow=f"{READER} or project_id:%(project_id)s or domain_id:%(domain_id)s",
)  # fmt: skip
def get_limit(limit: Limit) -> Limit:
    """Show a limit."""
    return limit


@IDENTITY.op(
    "POST", "/limits", rule="identity:create_limits", allow=ADMIN, load=own_domain, takes=several(LIMIT),
    gives=Many(LIMIT), ok=201,
)  # fmt: skip
def create_limits(ctx: Context, body: dict[str, Any]) -> Page:
    """Create limits, all or none: what the model asks of them is asked of all together."""
    created = [create_limit(ctx, one) for one in body["limits"]]
    for limit in created:
        check_limit(ctx, limit)
    return Page(created, links_beside(ctx, "/limits"))


def create_limit(ctx: Context, body: dict[str, Any]) -> Limit:
    """Create one limit; raises Forbidden without a registered limit to replace."""
    check_place(ctx, body)
    if (body.get("project_id") is None) == (body.get("domain_id") is None):
        raise BadRequest("A limit is of a project or of a domain: give project_id or domain_id.")
    target = body["domain_id"] if body.get("project_id") is None else body["project_id"]
    found = PROJECTS.get(ctx.tx, id=target)
    if found is None or found.is_domain != (body.get("project_id") is None):
        raise BadRequest(f"There is no such project or domain: {target}.")
    default = REGISTERED_LIMITS.get(
        ctx.tx, service_id=body["service_id"], region_id=body.get("region_id"), resource_name=body["resource_name"]
    )
    if default is None:
        raise Forbidden(f"There is no registered limit for {body['resource_name']} of this service and region.")
    own = {k: v for k, v in body.items() if k not in _OF_REGISTERED}
    try:
        return LIMITS.insert(ctx.tx, Limit(id=new_hex(), registered_limit_id=default.id, **own))
    except Conflict:
        raise Conflicted(f"There is a limit for {body['resource_name']} of {target} already.") from None


@IDENTITY.op(
    "PATCH", "/limits/{limit_id}", rule="identity:update_limit", allow=ADMIN, load=load_limit, takes=LIMIT, gives=LIMIT
)
def update_limit(ctx: Context, limit: Limit, body: dict[str, Any]) -> Limit:
    """Update a limit."""
    LIMITS.update(ctx.tx, body, id=limit.id)
    updated = structs.replace(limit, **body)
    check_limit(ctx, updated)
    return updated


@IDENTITY.op("DELETE", "/limits/{limit_id}", rule="identity:delete_limit", allow=ADMIN, load=load_limit, ok=204)
def delete_limit(ctx: Context, limit: Limit) -> Reply:
    """Delete a limit: the registered one holds again."""
    LIMITS.delete(ctx.tx, id=limit.id)
    return Reply()
