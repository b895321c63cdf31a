"""Tags of one project over HTTP.  Source: Identity API reference, "Project tags"."""

from typing import Any
from urllib.parse import quote

from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.op import Reply
from pileus.core.schema import compile_schema
from pileus.identity.project import OF_PROJECT, load_project
from pileus.identity.rows import Project
from pileus.identity.service import DOMAIN_MANAGER, DOMAIN_READER, IDENTITY, check_immutable
from pileus.identity.tags import MOST_TAGS, TAG, TAG_LIST, add_tag, replace_tags, tags_of

CHECK_TAG = compile_schema(TAG)
CHANGE_TAGS = f"{DOMAIN_MANAGER} or role:admin and {OF_PROJECT}"
READ_TAGS = f"{DOMAIN_READER} or {OF_PROJECT}"


@IDENTITY.op(
    "GET", "/projects/{project_id}/tags", rule="identity:list_project_tags", allow=READ_TAGS, load=load_project
)
def list_project_tags(ctx: Context, project: Project) -> dict[str, Any]:
    """List the tags of a project."""
    return {"tags": tags_of(project, ctx), "links": {"self": f"{ctx.url}/v3/projects/{project.id}/tags"}}


@IDENTITY.op(
    "PUT", "/projects/{project_id}/tags", rule="identity:update_project_tags", allow=CHANGE_TAGS, load=load_project,
    takes={"type": "object", "properties": {"tags": TAG_LIST}, "required": ["tags"], "additionalProperties": False},
)  # fmt: skip
def update_project_tags(ctx: Context, project: Project, body: dict[str, Any]) -> dict[str, Any]:
    """Replace all tags of a project."""
    check_immutable(project.options, {}, "project")
    replace_tags(ctx.tx, project.id, body["tags"])
    return {"tags": tags_of(project, ctx), "links": {"self": f"{ctx.url}/v3/projects/{project.id}/tags"}}


@IDENTITY.op(
    "DELETE", "/projects/{project_id}/tags", rule="identity:delete_project_tags", allow=CHANGE_TAGS, load=load_project,
    ok=204,
)  # fmt: skip
def delete_project_tags(ctx: Context, project: Project) -> Reply:
    """Take all tags from a project."""
    check_immutable(project.options, {}, "project")
    replace_tags(ctx.tx, project.id, ())
    return Reply()


@IDENTITY.op(
    "GET", "/projects/{project_id}/tags/{tag}", rule="identity:get_project_tag", allow=READ_TAGS, load=load_project,
    ok=204,
)  # fmt: skip
def check_project_tag(ctx: Context, project: Project, tag: str) -> Reply:
    """Check whether a project has a tag."""
    if tag not in tags_of(project, ctx):
        raise NotFound(f"Could not find project tag: {tag[:80]}.")
    return Reply()


@IDENTITY.op(
    "PUT", "/projects/{project_id}/tags/{tag}", rule="identity:create_project_tag", allow=CHANGE_TAGS,
    load=load_project, ok=201,
)  # fmt: skip
def create_project_tag(ctx: Context, project: Project, tag: str) -> Reply:
    """Add a tag to a project."""
    check_immutable(project.options, {}, "project")
    CHECK_TAG(tag)
    add_tag(ctx.tx, project.id, tag)
    if len(tags_of(project, ctx)) > MOST_TAGS:
        raise BadRequest(f"A project has at most {MOST_TAGS} tags.")
    return Reply(headers={"location": f"{ctx.url}/v3/projects/{project.id}/tags/{quote(tag)}"})


@IDENTITY.op(
    "DELETE", "/projects/{project_id}/tags/{tag}", rule="identity:delete_project_tag", allow=CHANGE_TAGS,
    load=load_project, ok=204,
)  # fmt: skip
def delete_project_tag(ctx: Context, project: Project, tag: str) -> Reply:
    """Take a tag from a project."""
    check_immutable(project.options, {}, "project")
    if not ctx.tx.run("delete from project_tags where project_id = ? and name = ?", project.id, tag):
        raise NotFound(f"Could not find project tag: {tag[:80]}.")
    return Reply()
