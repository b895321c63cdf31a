"""Roles.  Source: Identity API reference, "Roles"."""

from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.fields import Field
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import LONG_TEXT, NAME
from pileus.db.connect import Conflict
from pileus.identity.domain import RESOURCE_OPTIONS, require_domain
from pileus.identity.rows import ROLES, Role
from pileus.identity.service import (
    ADMIN,
    IDENTITY,
    READER,
    OpenFields,
    check_immutable,
    listed,
    merged_options,
    own_domain,
    seen,
    self_link,
)

# A manager of a domain has to know the roles that they may give.
READ_ROLES = f"{READER} or (role:manager and domain_id:%(caller_domain_id)s)"
ROLE = OpenFields(
    "role",
    "roles",
    (
        Field("id", "rq"),
        Field("name", "Cruqs", NAME),
        Field("domain_id", "crqu", {"type": ["string", "null"], "maxLength": 64}),
        Field("description", "cru", LONG_TEXT),
        Field("options", "cru", RESOURCE_OPTIONS),
        Field("links", "r", get=self_link("roles")),
    ),
)


def any_role(ctx: Context, **_path: str) -> dict[str, Any]:
    """Loader of the list: global roles are the same for everybody."""
    return {} if ctx.caller.domain_id is None else {"caller_domain_id": ctx.caller.domain_id}


def load_role(ctx: Context, role_id: str, **_path: str) -> Role:
    """A role that the caller may see."""
    return seen(ctx, "identity:get_role", "role", role_id, ROLES.get(ctx.tx, id=role_id), any_role(ctx))


def load_for_reading(ctx: Context, role_id: str) -> dict[str, Any]:
    """The role, with what its rule asks about."""
    return {"role": load_role(ctx, role_id), **any_role(ctx)}


@IDENTITY.op("GET", "/roles", rule="identity:list_roles", allow=READ_ROLES, load=any_role, gives=Many(ROLE))
def list_roles(ctx: Context, query: Query) -> Page:
    """List global roles, or with `domain_id` those of a domain."""
    listing = Listing(ROLES)
    if "domain_id" not in query:
        listing.where("roles.domain_id is null")
    return listed(ctx, ROLE, listing, query)


@IDENTITY.op("GET", "/roles/{role_id}", rule="identity:get_role", allow=READ_ROLES, load=load_for_reading, gives=ROLE)
def get_role(found: dict[str, Any]) -> Role:
    """Show a role."""
    role: Role = found["role"]
    return role


@IDENTITY.op(
    "POST", "/roles", rule="identity:create_role", allow=ADMIN, load=own_domain, takes=ROLE, gives=ROLE, ok=201
)
def create_role(ctx: Context, body: dict[str, Any]) -> Role:
    """Create a global role, or one of a domain."""
    if body.get("domain_id") is not None:
        require_domain(ctx, body["domain_id"])
    role = Role(
        id=new_hex(), name=body["name"], domain_id=body.get("domain_id"), description=body.get("description"),
        options=merged_options({}, body.get("options", {})), extra=ROLE.extra_of(body),
    )  # fmt: skip
    try:
        return ROLES.insert(ctx.tx, role)
    except Conflict:
        raise Conflicted(f"Conflict occurred attempting to store role - Duplicate entry: {role.name}.") from None


@IDENTITY.op(
    "PATCH", "/roles/{role_id}", rule="identity:update_role", allow=ADMIN, load=load_role, takes=ROLE, gives=ROLE
)
def update_role(ctx: Context, role: Role, body: dict[str, Any]) -> Role:
    """Update a role."""
    check_immutable(role.options, body, "role")
    if body.get("domain_id", role.domain_id) != role.domain_id:
        raise BadRequest("domain_id cannot be changed.")
    changes = ROLE.changes(role, body)
    if "options" in changes:
        changes["options"] = merged_options(role.options, changes["options"])
    try:
        ROLES.update(ctx.tx, changes, id=role.id)
    except Conflict:
        raise Conflicted(f"Conflict occurred attempting to store role - Duplicate entry: {body['name']}.") from None
    return structs.replace(role, **changes)


@IDENTITY.op("DELETE", "/roles/{role_id}", rule="identity:delete_role", allow=ADMIN, load=load_role, ok=204)
def delete_role(ctx: Context, role: Role) -> Reply:
    """Delete a role; everybody loses it."""
    check_immutable(role.options, None, "role")
    ROLES.delete(ctx.tx, id=role.id)
    return Reply()
