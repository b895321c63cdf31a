"""Domains: the homes of users, groups and projects.  Source: Identity API reference, "Domains"."""

from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import Conflicted, Forbidden, NotFound
from pileus.core.fields import Field
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.reconcile import forget
from pileus.core.schema import BOOLEAN, LONG_TEXT
from pileus.db.connect import Conflict
from pileus.identity.mirror import DIRECTORY
from pileus.identity.passwords import forget_hashes
from pileus.identity.rows import DEFAULT_DOMAIN, PROJECTS, Project
from pileus.identity.service import (
    ADMIN,
    DOMAIN_READER,
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
from pileus.identity.tags import TAG_LIST, replace_tags, tags_of

RESOURCE_NAME = {"type": "string", "minLength": 1, "maxLength": 64, "format": "name"}
RESOURCE_OPTIONS = {
    "type": "object",
    "properties": {"immutable": {"type": ["boolean", "null"]}},
    "additionalProperties": False,
}
DOMAIN = OpenFields(
    "domain",
    "domains",
    (
        Field("id", "rq"),
        Field("name", "Cruqs", RESOURCE_NAME),
        Field("description", "cru", LONG_TEXT, default=""),
        Field("enabled", "cruqs", BOOLEAN, default=True),
        Field("options", "cru", RESOURCE_OPTIONS),
        Field("tags", "cru", TAG_LIST, get=tags_of),
        Field("explicit_domain_id", "c", {"type": "string", "pattern": "^[0-9a-f]{32}$"}),
        Field("links", "r", get=self_link("domains")),
    ),
)


def find_domain(ctx: Context, domain_id: str) -> Project | None:
    """The domain, without asking whether the caller may see it."""
    return PROJECTS.get(ctx.tx, id=domain_id, is_domain=True)


def load_domain(ctx: Context, domain_id: str, **_path: str) -> Project:
    """A domain that the caller may see."""
    return seen(ctx, "identity:get_domain", "domain", domain_id, find_domain(ctx, domain_id))


def domain_for_new(ctx: Context, body: dict[str, Any]) -> str:
    """The id of the domain in which something is made: named in the body, else that of the caller's scope."""
    domain_id = body.get("domain_id")
    if domain_id is None:
        domain_id = ctx.caller.domain_id or ctx.caller.project_domain_id or DEFAULT_DOMAIN
    return str(domain_id)


def require_domain(ctx: Context, domain_id: str) -> Project:
    """The domain in which something is made; raises NotFound, as upstream does."""
    domain = find_domain(ctx, domain_id)
    if domain is None:
        raise NotFound(f"Could not find domain: {domain_id[:64]}.")
    return domain


@IDENTITY.op("GET", "/domains", rule="identity:list_domains", allow=DOMAIN_READER, load=own_domain, gives=Many(DOMAIN))
def list_domains(ctx: Context, query: Query) -> Page:
    """List domains; a caller whose scope is a domain sees that one."""
    listing = Listing(PROJECTS).where("projects.is_domain = 1")
    if ctx.caller.domain_id is not None:
        listing.equals("id", [ctx.caller.domain_id])
    return listed(ctx, DOMAIN, listing, query)


@IDENTITY.op(
    "GET", "/domains/{domain_id}", rule="identity:get_domain", load=load_domain, gives=DOMAIN,
    allow=f"{READER} or role:reader and domain_id:%(id)s or project_domain_id:%(id)s",
)  # fmt: skip
def get_domain(domain: Project) -> Project:
    """Show a domain; everybody may see the domain of their own project."""
    return domain


@IDENTITY.op(
    "POST", "/domains", rule="identity:create_domain", allow=ADMIN, load=own_domain, takes=DOMAIN, gives=DOMAIN, ok=201
)
def create_domain(ctx: Context, body: dict[str, Any]) -> Project:
    """Create a domain."""
    domain = Project(
        id=body.get("explicit_domain_id") or new_hex(), name=body["name"], domain_id=None, parent_id=None,
        is_domain=True, enabled=body.get("enabled", True), description=body.get("description") or "",
        options=merged_options({}, body.get("options", {})), extra=DOMAIN.extra_of(body),
    )  # fmt: skip
    try:
        PROJECTS.insert(ctx.tx, domain)
    except Conflict:
        raise Conflicted("Conflict occurred attempting to store domain - it has the name or id of another.") from None
    replace_tags(ctx.tx, domain.id, body.get("tags", []))
    return domain


@IDENTITY.op(
    "PATCH", "/domains/{domain_id}", rule="identity:update_domain", allow=ADMIN, load=load_domain, takes=DOMAIN,
    gives=DOMAIN,
)  # fmt: skip
def update_domain(ctx: Context, domain: Project, body: dict[str, Any]) -> Project:
    """Update a domain; disabling it ends the tokens of its users and on its projects."""
    check_immutable(domain.options, body, "domain")
    changes = resource_changes(DOMAIN, domain, body)
    if changes.get("enabled") is False:
        end_tokens_of_domain(ctx, domain)
        changes["generation"] = domain.generation + 1
    try:
        PROJECTS.update(ctx.tx, changes, id=domain.id)
    except Conflict:
        raise Conflicted(f"Conflict occurred attempting to store domain - Duplicate entry: {body['name']}.") from None
    if "tags" in body:
        replace_tags(ctx.tx, domain.id, body["tags"])
    return structs.replace(domain, **changes)


def resource_changes(fields: OpenFields, row: Project, body: dict[str, Any]) -> dict[str, Any]:
    """The columns that an update of a domain or project changes."""
    changes = fields.changes(row, body)
    if "options" in changes:
        changes["options"] = merged_options(row.options, changes["options"])
    if "description" in changes:
        changes["description"] = changes["description"] or ""
    return changes


def end_tokens_of_domain(ctx: Context, domain: Project) -> None:
    """No token of its users, nor on its projects, survives, even when the domain is enabled again."""
    for table in ("users", "projects"):
        ctx.tx.run(f"update {table} set generation = generation + 1 where domain_id = ?", domain.id)


@IDENTITY.op("DELETE", "/domains/{domain_id}", rule="identity:delete_domain", allow=ADMIN, load=load_domain, ok=204)
def delete_domain(ctx: Context, domain: Project) -> Reply:
    """Delete a disabled domain with its users, groups and projects."""
    check_immutable(domain.options, None, "domain")
    if domain.enabled:
        raise Forbidden("Cannot delete a domain that is enabled, please disable it first.")
    if domain.id == DEFAULT_DOMAIN:
        raise Forbidden("The default domain cannot be deleted: the cloud's administrator lives in it.")
    users, projects = (f"select id from {table} where domain_id = ?" for table in ("users", "projects"))
    forget_hashes(ctx.tx, f"user_id in ({users}) or project_id in ({projects})", domain.id, domain.id)
    ctx.tx.run(f"delete from password_hashes where owner_id in ({users})", domain.id)
    PROJECTS.delete(ctx.tx, id=domain.id)
    forget(ctx.tx, DIRECTORY, domain.id)
    return Reply()
