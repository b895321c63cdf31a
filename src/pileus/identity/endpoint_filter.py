"""Which endpoints a project sees in its catalog: those given to it alone or by groups, or all when none was given.

Source: Identity API reference, "OS-EP-FILTER".
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import Forbidden, NotFound
from pileus.core.op import Many, Page, Reply
from pileus.identity.endpoint import ENDPOINT
from pileus.identity.endpoint_group import ENDPOINT_GROUP, ENDPOINT_GROUPS, EndpointGroup
from pileus.identity.project import PROJECT
from pileus.identity.rows import ENDPOINTS, PROJECTS
from pileus.identity.service import ADMIN, IDENTITY, READER, links_beside
from pileus.identity.watched import Watched


class ProjectEndpoint(Struct, frozen=True, kw_only=True):
    """An endpoint that a project sees."""

    project_id: str
    endpoint_id: str


class ProjectEndpointGroup(Struct, frozen=True, kw_only=True):
    """A group of endpoints that a project sees."""

    project_id: str
    endpoint_group_id: str


GIVEN = Watched(ProjectEndpoint, "project_endpoints", ("project_id", "endpoint_id"))
GIVEN_GROUPS = Watched(ProjectEndpointGroup, "project_endpoint_groups", ("project_id", "endpoint_group_id"))
Place = dict[str, str]


def loader(rule: str) -> Callable[..., Place]:
    """Loader of what a path names; NotFound for what does not exist, to those who may use the rule."""

    def load(ctx: Context, **path: str) -> Place:
        if not ctx.allows(rule):
            raise Forbidden(f"Policy doesn't allow {rule} to be performed.")
        for name, table in (("project_id", PROJECTS), ("endpoint_id", ENDPOINTS),
                            ("endpoint_group_id", ENDPOINT_GROUPS)):  # fmt: skip
            if name in path and table.count(ctx.tx, id=path[name]) == 0:
                raise NotFound(f"Could not find {name.removesuffix('_id').replace('_', ' ')}: {path[name]}.")
        return path

    return load


def give_endpoint(ctx: Context, place: Place) -> Reply:
    """Let a project see an endpoint."""
    if GIVEN.get(ctx.tx, **place) is None:
        GIVEN.insert(ctx.tx, ProjectEndpoint(**place))
    return Reply()


def check_endpoint(ctx: Context, place: Place) -> Reply:
    """Check whether a project was given an endpoint."""
    if GIVEN.get(ctx.tx, **place) is None:
        raise NotFound("Could not find the endpoint among those of the project.")
    return Reply()


def take_endpoint(ctx: Context, place: Place) -> Reply:
    """Take an endpoint back."""
    if not GIVEN.delete(ctx.tx, **place):
        raise NotFound("Could not find the endpoint among those of the project.")
    return Reply()


def give_group(ctx: Context, place: Place) -> Reply:
    """Let a project see a group of endpoints."""
    if GIVEN_GROUPS.get(ctx.tx, **place) is None:
        GIVEN_GROUPS.insert(ctx.tx, ProjectEndpointGroup(**place))
    return Reply()


def show_group(ctx: Context, place: Place) -> EndpointGroup:
    """Show a group of endpoints that a project was given."""
    found = ENDPOINT_GROUPS.get(ctx.tx, id=place["endpoint_group_id"])
    if found is None or GIVEN_GROUPS.get(ctx.tx, **place) is None:
        raise NotFound("Could not find the endpoint group among those of the project.")
    return found


def take_group(ctx: Context, place: Place) -> Reply:
    """Take a group of endpoints back."""
    if not GIVEN_GROUPS.delete(ctx.tx, **place):
        raise NotFound("Could not find the endpoint group among those of the project.")
    return Reply()


def list_endpoints(ctx: Context, place: Place) -> Page:
    """List the endpoints that a project was given, alone or by groups."""
    ids = {row.endpoint_id for row in GIVEN.all(ctx.tx, **place)}
    found = {e.id: e for e in ENDPOINTS.all(ctx.tx, id=sorted(ids))}
    for group in groups_of(ctx, place["project_id"]):
        found |= {e.id: e for e in ENDPOINTS.all(ctx.tx, **group.filters)}
    path = f"/OS-EP-FILTER/projects/{place['project_id']}/endpoints"
    return Page([found[i] for i in sorted(found)], links_beside(ctx, path))


def groups_of(ctx: Context, project_id: str) -> list[EndpointGroup]:
    """The groups that a project was given."""
    ids = [row.endpoint_group_id for row in GIVEN_GROUPS.all(ctx.tx, project_id=project_id)]
    return ENDPOINT_GROUPS.all(ctx.tx, id=ids, order="endpoint_groups.id")


def list_groups(ctx: Context, place: Place) -> Page:
    """List the groups of endpoints that a project was given."""
    path = f"/OS-EP-FILTER/projects/{place['project_id']}/endpoint_groups"
    return Page(groups_of(ctx, place["project_id"]), links_beside(ctx, path))


def list_projects(ctx: Context, place: Place) -> Page:
    """List the projects that were given an endpoint."""
    ids = [row.project_id for row in GIVEN.all(ctx.tx, **place)]
    found = PROJECTS.all(ctx.tx, id=ids, order="projects.id")
    return Page(found, links_beside(ctx, f"/OS-EP-FILTER/endpoints/{place['endpoint_id']}/projects"))


def list_projects_of_group(ctx: Context, place: Place) -> Page:
    """List the projects that were given a group of endpoints."""
    ids = [row.project_id for row in GIVEN_GROUPS.all(ctx.tx, **place)]
    found = PROJECTS.all(ctx.tx, id=ids, order="projects.id")
    path = f"/OS-EP-FILTER/endpoint_groups/{place['endpoint_group_id']}/projects"
    return Page(found, links_beside(ctx, path))


_PROJECT = "/OS-EP-FILTER/projects/{project_id}"
_GROUP = "/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}"
_OPERATIONS: tuple[tuple[str, str, str, str, Any, dict[str, Any]], ...] = (
    ("PUT", f"{_PROJECT}/endpoints/{{endpoint_id}}", "add_endpoint_to_project", ADMIN, give_endpoint, {"ok": 204}),
    ("GET", f"{_PROJECT}/endpoints/{{endpoint_id}}", "check_endpoint_in_project", READER, check_endpoint, {"ok": 204}),
    ("DELETE", f"{_PROJECT}/endpoints/{{endpoint_id}}", "remove_endpoint_from_project", ADMIN, take_endpoint,
     {"ok": 204}),
    ("GET", f"{_PROJECT}/endpoints", "list_endpoints_for_project", READER, list_endpoints, {"gives": Many(ENDPOINT)}),
    ("GET", f"{_PROJECT}/endpoint_groups", "list_endpoint_groups_for_project", READER, list_groups,
     {"gives": Many(ENDPOINT_GROUP)}),
    ("GET", "/OS-EP-FILTER/endpoints/{endpoint_id}/projects", "list_projects_for_endpoint", READER, list_projects,
     {"gives": Many(PROJECT)}),
    ("GET", f"{_GROUP}/projects", "list_projects_associated_with_endpoint_group", READER, list_projects_of_group,
     {"gives": Many(PROJECT)}),
    ("PUT", f"{_GROUP}/projects/{{project_id}}", "add_endpoint_group_to_project", ADMIN, give_group, {"ok": 204}),
    ("GET", f"{_GROUP}/projects/{{project_id}}", "get_endpoint_group_in_project", READER, show_group,
     {"gives": ENDPOINT_GROUP}),
    ("DELETE", f"{_GROUP}/projects/{{project_id}}", "remove_endpoint_group_from_project", ADMIN, take_group,
     {"ok": 204}),
)  # fmt: skip
for _method, _path, _name, _allow, _run, _more in _OPERATIONS:
    _rule = f"identity:{_name}"
    IDENTITY.op(_method, _path, rule=_rule, allow=_allow, load=loader(_rule), **_more)(_run)
