"""Registered limits: the operator's default for one resource of one service.

Source: Identity API reference, "Unified limits".
"""

from typing import Any

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.schema import TEXT, Schema
from pileus.db.connect import Conflict
from pileus.db.rows import Table
from pileus.identity.region import REGIONS
from pileus.identity.rows import SERVICES
from pileus.identity.service import ADMIN, IDENTITY, links_beside, listed, own_domain, seen, self_link


class RegisteredLimit(Struct, frozen=True, kw_only=True):
    """The default for every project."""

    id: str
    service_id: str
    region_id: str | None = None
    resource_name: str
    default_limit: int
    description: str | None = None


REGISTERED_LIMITS = Table(RegisteredLimit, "registered_limits")
ID: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
ID_OR_NULL: Schema = {"type": ["string", "null"], "maxLength": 255}
NUMBER: Schema = {"type": "integer", "minimum": -1, "maximum": 0x7FFFFFFF}
RESOURCE: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "format": "name"}
REGISTERED_LIMIT = Fields(
    "registered_limit",
    "registered_limits",
    (
        Field("id", "r"),
        Field("service_id", "Cruq", ID),
        Field("region_id", "cruq", ID_OR_NULL),
        Field("resource_name", "Cruq", RESOURCE),
        Field("default_limit", "Cru", NUMBER),
        Field("description", "cru", TEXT),
        Field("links", "r", get=self_link("registered_limits")),
    ),
)


def several(fields: Fields) -> Schema:
    """The schema of a body that creates several at once."""
    inner = fields.body_schema("c", (0, 0))["properties"][fields.key]
    items = {"type": "array", "items": inner, "minItems": 1, "maxItems": 256}
    return {"type": "object", "properties": {fields.plural: items}, "required": [fields.plural]}


def check_place(ctx: Context, body: dict[str, Any]) -> None:
    """Service and region exist; raises BadRequest."""
    if "service_id" in body and SERVICES.get(ctx.tx, id=body["service_id"]) is None:
        raise BadRequest(f"service_id: there is no service {body['service_id']}.")
    if body.get("region_id") is not None and REGIONS.get(ctx.tx, id=body["region_id"]) is None:
        raise BadRequest(f"region_id: there is no region {body['region_id']}.")


def load_registered_limit(ctx: Context, registered_limit_id: str) -> RegisteredLimit:
    """Registered limits are the same for everybody; raises NotFound."""
    found = REGISTERED_LIMITS.get(ctx.tx, id=registered_limit_id)
    return seen(ctx, "identity:get_registered_limit", "registered limit", registered_limit_id, found)


@IDENTITY.op(
    "GET", "/registered_limits", rule="identity:list_registered_limits", allow="@", load=collection,
    gives=Many(REGISTERED_LIMIT),
)  # fmt: skip
def list_registered_limits(ctx: Context, query: Query) -> Page:
    """List registered limits."""
    return listed(ctx, REGISTERED_LIMIT, Listing(REGISTERED_LIMITS), query)


@IDENTITY.op(
    "GET", "/registered_limits/{registered_limit_id}", rule="identity:get_registered_limit", allow="@",
    load=load_registered_limit, gives=REGISTERED_LIMIT,
)  # fmt: skip
def get_registered_limit(limit: RegisteredLimit) -> RegisteredLimit:
    """Show a registered limit."""
    return limit


@IDENTITY.op(
    "POST", "/registered_limits", rule="identity:create_registered_limits", allow=ADMIN, load=own_domain, ok=201,
    takes=several(REGISTERED_LIMIT), gives=Many(REGISTERED_LIMIT),
)  # fmt: skip
def create_registered_limits(ctx: Context, body: dict[str, Any]) -> Page:
    """Create registered limits, all or none."""
    return Page([register(ctx, one) for one in body["registered_limits"]], links_beside(ctx, "/registered_limits"))


def register(ctx: Context, body: dict[str, Any]) -> RegisteredLimit:
    """Create one registered limit."""
    check_place(ctx, body)
    try:
        return REGISTERED_LIMITS.insert(ctx.tx, RegisteredLimit(id=new_hex(), **body))
    except Conflict:
        raise Conflicted(f"There is a registered limit for {body['resource_name']} of this service already.") from None


@IDENTITY.op(
    "PATCH", "/registered_limits/{registered_limit_id}", rule="identity:update_registered_limit", allow=ADMIN,
    load=load_registered_limit, takes=REGISTERED_LIMIT, gives=REGISTERED_LIMIT,
)  # fmt: skip
def update_registered_limit(ctx: Context, limit: RegisteredLimit, body: dict[str, Any]) -> RegisteredLimit:
    """Update a registered limit; while limits of projects rest on it, only its number and description."""
    check_place(ctx, body)
    moved = any(
        body.get(k, getattr(limit, k)) != getattr(limit, k) for k in ("service_id", "region_id", "resource_name")
    )
    if moved and in_use(ctx, limit):
        raise Forbidden(f"The registered limit {limit.id} has limits of projects: delete those first.")
    try:
        REGISTERED_LIMITS.update(ctx.tx, body, id=limit.id)
    except Conflict:
        raise Conflicted("There is such a registered limit already.") from None
    return structs.replace(limit, **body)


@IDENTITY.op(
    "DELETE", "/registered_limits/{registered_limit_id}", rule="identity:delete_registered_limit", allow=ADMIN,
    load=load_registered_limit, ok=204,
)  # fmt: skip
def delete_registered_limit(ctx: Context, limit: RegisteredLimit) -> Reply:
    """Delete a registered limit on which no limit of a project rests."""
    if in_use(ctx, limit):
        raise Forbidden(f"The registered limit {limit.id} has limits of projects: delete those first.")
    REGISTERED_LIMITS.delete(ctx.tx, id=limit.id)
    return Reply()


def in_use(ctx: Context, limit: RegisteredLimit) -> bool:
    """Whether projects or domains have limits of their own on it."""
    return ctx.tx.one("select 1 from limits where registered_limit_id = ?", limit.id) is not None
