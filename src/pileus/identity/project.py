"""Projects.  Source: Identity API reference, "Projects"."""

from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden
from pileus.core.fields import Field
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import BOOLEAN, LONG_TEXT
from pileus.db.connect import Conflict
from pileus.identity.domain import (
    RESOURCE_NAME,
    RESOURCE_OPTIONS,
    delete_domain,
    domain_for_new,
    end_tokens_of_domain,
    require_domain,
    resource_changes,
)
from pileus.identity.limit_model import check_levels
from pileus.identity.passwords import forget_hashes
from pileus.identity.project_tree import depth_of, parents_above, parents_as_ids, subtree_as_ids, subtree_below
from pileus.identity.rows import PROJECTS, USERS, Project, User
from pileus.identity.service import (
    DOMAIN_MANAGER,
    DOMAIN_READER,
    IDENTITY,
    OpenFields,
    check_immutable,
    listed,
    merged_options,
    own_domain,
    seen,
    self_link,
)
from pileus.identity.standing import REACHABLE
from pileus.identity.tags import FILTERS, TAG_LIST, replace_tags, tag_condition, tags_of
from pileus.identity.user import load_user

MOST_DEPTH = 5  # projects below one another, the domain not counted
OF_PROJECT = "project_id:%(id)s"
ID_OR_NULL = {"type": ["string", "null"], "maxLength": 64}
PROJECT = OpenFields(
    "project",
    "projects",
    (
        Field("id", "rq"),
        Field("name", "Cruqs", RESOURCE_NAME),
        Field("domain_id", "crqu", ID_OR_NULL),
        Field("parent_id", "crqu", ID_OR_NULL),
        Field("is_domain", "cru", BOOLEAN, default=False),
        Field("description", "cru", LONG_TEXT, default=""),
        Field("enabled", "cruqs", BOOLEAN, default=True),
        Field("options", "cru", RESOURCE_OPTIONS),
        Field("tags", "cru", TAG_LIST, get=tags_of),
        Field("links", "r", get=self_link("projects")),
    ),
)


def load_project(ctx: Context, project_id: str, **_path: str) -> Project:
    """A project (or a domain as a project) that the caller may see."""
    return seen(ctx, "identity:get_project", "project", project_id, PROJECTS.get(ctx.tx, id=project_id))


@IDENTITY.op(
    "GET", "/projects", rule="identity:list_projects", allow=DOMAIN_READER, load=own_domain, gives=Many(PROJECT)
)
def list_projects(ctx: Context, query: Query) -> Page:
    """List projects; a caller whose scope is a domain sees those in it."""
    listing = Listing(PROJECTS).equals("is_domain", [query.truth("is_domain")])
    if ctx.caller.domain_id is not None:
        listing.equals("domain_id", [ctx.caller.domain_id])
    for name in FILTERS:
        if name in query:
            sql, params = tag_condition(name, query.one(name) or "")
            listing.where(sql, *params)
    return listed(ctx, PROJECT, listing, query)


@IDENTITY.op(
    "GET", "/users/{user_id}/projects", rule="identity:list_user_projects",
    allow=f"{DOMAIN_READER} or user_id:%(id)s", load=load_user, gives=Many(PROJECT),
)  # fmt: skip
def list_user_projects(ctx: Context, user: User, query: Query) -> Page:
    """List the projects on which a user has a role by whatever way."""
    listing = Listing(PROJECTS).where(f"projects.id in ({REACHABLE})", user.id, user.id, ctx.now)
    return listed(ctx, PROJECT, listing.equals("is_domain", [False]), query, path=f"/users/{user.id}/projects")


@IDENTITY.op(
    "GET", "/projects/{project_id}", rule="identity:get_project", load=load_project,
    allow=f"{DOMAIN_READER} or {OF_PROJECT}",
)  # fmt: skip
def get_project(ctx: Context, project: Project, query: Query) -> dict[str, Any]:
    """Show a project, with what is above and below it if the query asks so."""
    found = PROJECT.render(project, ctx)
    if "parents_as_list" in query and "parents_as_ids" in query:
        raise BadRequest("Ask for parents_as_list or parents_as_ids, not both.")
    if "subtree_as_list" in query and "subtree_as_ids" in query:
        raise BadRequest("Ask for subtree_as_list or subtree_as_ids, not both.")
    if "parents_as_list" in query:
        found["parents"] = shown_to(ctx, parents_above(ctx.tx, project))
    elif "parents_as_ids" in query:
        found["parents"] = parents_as_ids(parents_above(ctx.tx, project))
    if "subtree_as_list" in query:
        found["subtree"] = shown_to(ctx, subtree_below(ctx.tx, project.id))
    elif "subtree_as_ids" in query:
        found["subtree"] = subtree_as_ids(subtree_below(ctx.tx, project.id), project.id)
    return {"project": found}


def shown_to(ctx: Context, projects: list[Project]) -> list[dict[str, Any]]:
    """Those of some projects that the caller may see."""
    return [
        {"project": PROJECT.render(p, ctx)} for p in projects if ctx.allows("identity:get_project", p)
    ]  # fmt: skip


@IDENTITY.op(
    "POST", "/projects", rule="identity:create_project", allow=DOMAIN_MANAGER, load=own_domain, takes=PROJECT,
    gives=PROJECT, ok=201,
)  # fmt: skip
def create_project(ctx: Context, body: dict[str, Any]) -> Project:
    """Create a project, or with `is_domain` a domain."""
    project_id = new_hex()
    if body.get("is_domain"):
        ctx.enforce("identity:create_domain")
        if body.get("domain_id") or body.get("parent_id"):
            raise BadRequest("A project that is a domain has neither domain_id nor parent_id.")
        place: dict[str, Any] = {"domain_id": None, "parent_id": None, "is_domain": True}
    else:
        place = place_for_new(ctx, body)
    project = Project(
        id=project_id, name=body["name"], description=body.get("description") or "",
        enabled=body.get("enabled", True), options=merged_options({}, body.get("options", {})),
        extra=PROJECT.extra_of(body), **place,
    )  # fmt: skip
    try:
        PROJECTS.insert(ctx.tx, project)
    except Conflict:
        raise Conflicted(
            f"Conflict occurred attempting to store project - it is not permitted to have two projects with the "
            f"same name in the same domain: {project.name}."
        ) from None
    replace_tags(ctx.tx, project.id, body.get("tags", []))
    return project


def place_for_new(ctx: Context, body: dict[str, Any]) -> dict[str, Any]:
    """domain_id and parent_id of a new project; raises BadRequest or Forbidden."""
    parent_id = body.get("parent_id")
    parent = PROJECTS.get(ctx.tx, id=parent_id) if parent_id else None
    own = parent and (parent.id if parent.is_domain else parent.domain_id)
    domain_id = str(body.get("domain_id") or own or domain_for_new(ctx, body))
    ctx.enforce("identity:create_project", {"domain_id": domain_id})
    require_domain(ctx, domain_id)
    if parent_id is None:
        return {"domain_id": domain_id, "parent_id": domain_id}
    if parent is None or own != domain_id:
        raise BadRequest(f"parent_id: there is no project {parent_id[:64]} in the domain {domain_id}.")
    if not parent.enabled:
        raise Forbidden("The parent project is disabled.")
    above = depth_of(ctx.tx, parent) + 1
    check_levels(ctx, above)
    if above > MOST_DEPTH:
        raise Forbidden(f"Projects can stand at most {MOST_DEPTH} deep below one another.")
    return {"domain_id": domain_id, "parent_id": parent_id}


@IDENTITY.op(
    "PATCH", "/projects/{project_id}", rule="identity:update_project", allow=DOMAIN_MANAGER, load=load_project,
    takes=PROJECT, gives=PROJECT,
)  # fmt: skip
def update_project(ctx: Context, project: Project, body: dict[str, Any], query: Query) -> Project:
    """Update a project; disabling it ends the tokens on it, with `cascade` also those on all below."""
    if project.is_domain:
        ctx.enforce("identity:update_domain")
    check_immutable(project.options, body, "project")
    check_place(project, body)
    changes = resource_changes(PROJECT, project, body)
    if changes.get("enabled") is False:
        if query.truth("cascade"):
            disable_below(ctx, project)
        if project.is_domain:
            end_tokens_of_domain(ctx, project)
        changes["generation"] = project.generation + 1
    check_enabling(ctx, project, changes)
    try:
        PROJECTS.update(ctx.tx, changes, id=project.id)
    except Conflict:
        raise Conflicted(f"Conflict occurred attempting to store project - Duplicate entry: {body['name']}.") from None
    if "tags" in body:
        replace_tags(ctx.tx, project.id, body["tags"])
    return structs.replace(project, **changes)


def check_place(project: Project, body: dict[str, Any]) -> None:
    """A project stays where it was made; raises BadRequest or Forbidden."""
    for name in ("domain_id", "parent_id", "is_domain"):
        if name in body and body[name] != getattr(project, name):
            if name == "parent_id":
                raise Forbidden("Update of parent_id is not allowed.")
            raise BadRequest(f"{name} cannot be changed.")


def disable_below(ctx: Context, project: Project) -> None:
    """Disable all projects below one and end the tokens on them."""
    for below in subtree_below(ctx.tx, project.id):
        PROJECTS.update(ctx.tx, {"enabled": False, "generation": below.generation + 1}, id=below.id)


def check_enabling(ctx: Context, project: Project, changes: dict[str, Any]) -> None:
    """A project is enabled only below enabled ones, and disabled only above disabled ones."""
    if changes.get("enabled") is True and not project.enabled:
        if any(not above.enabled for above in parents_above(ctx.tx, project) if not above.is_domain):
            raise Forbidden("Cannot enable a project whose parents are disabled.")
    if changes.get("enabled") is False and not project.is_domain:
        if any(below.enabled for below in subtree_below(ctx.tx, project.id)):
            raise Forbidden("Cannot disable a project whose subtree holds enabled projects.")


@IDENTITY.op(
    "DELETE", "/projects/{project_id}", rule="identity:delete_project", allow=DOMAIN_MANAGER, load=load_project, ok=204
)
def delete_project(ctx: Context, project: Project, query: Query) -> Reply:
    """Delete a project that has none below it; with `cascade`, those below too if all are disabled."""
    check_immutable(project.options, None, "project")
    if project.is_domain:
        ctx.enforce("identity:delete_domain")
        return delete_domain(ctx, project)
    below = subtree_below(ctx.tx, project.id)
    if below and not query.truth("cascade"):
        raise Forbidden("Cannot delete a project that has others below it.")
    if any(p.enabled for p in (project, *below)) and below:
        raise Forbidden("Cannot delete a project tree that holds enabled projects: disable them first.")
    gone = [project.id, *(p.id for p in below)]
    USERS.update(ctx.tx, {"default_project_id": None}, default_project_id=gone)
    for one in gone:
        forget_hashes(ctx.tx, "project_id = ?", one)
    PROJECTS.delete(ctx.tx, id=project.id)
    return Reply()
