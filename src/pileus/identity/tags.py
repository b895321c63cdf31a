"""Tags of projects and domains.  Source: Identity API reference, "Project tags"."""

from collections.abc import Iterable
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.schema import Schema
from pileus.db.connect import Tx
from pileus.identity.rows import Project

TAG: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[^,/]*$", "format": "name"}
MOST_TAGS = 80
TAG_LIST: Schema = {"type": "array", "items": TAG, "maxItems": MOST_TAGS, "uniqueItems": True}
_ANY = "select project_id from project_tags where name in ({marks})"
_EVERY = _ANY + " group by project_id having count(*) = {count}"
FILTERS = {"tags": ("in", _EVERY), "tags-any": ("in", _ANY), "not-tags": ("not in", _EVERY),
           "not-tags-any": ("not in", _ANY)}  # fmt: skip


def tags_of(project: Project, ctx: Context) -> list[str]:
    """The tags of a project, sorted."""
    rows = ctx.tx.all("select name from project_tags where project_id = ? order by name", project.id)
    return [str(row[0]) for row in rows]


def replace_tags(tx: Tx, project_id: str, tags: Iterable[str]) -> None:
    """Give a project exactly these tags."""
    tx.run("delete from project_tags where project_id = ?", project_id)
    for tag in tags:
        add_tag(tx, project_id, tag)


def add_tag(tx: Tx, project_id: str, tag: str) -> None:
    """Add one tag; nothing happens when it is there."""
    tx.run("insert into project_tags (project_id, name) values (?, ?) on conflict do nothing", project_id, tag)


def tag_condition(name: str, value: str) -> tuple[str, list[Any]]:
    """(SQL, parameters) of one of the tag filters of GET /projects; `value` is comma-separated."""
    wanted = sorted({tag for tag in value.split(",") if tag})
    if not wanted or len(wanted) > MOST_TAGS:
        raise BadRequest(f"{name}: between 1 and {MOST_TAGS} tags, separated by commas.")
    way, query = FILTERS[name]
    chosen = query.format(marks=", ".join("?" * len(wanted)), count=len(wanted))
    return f"projects.id {way} ({chosen})", list(wanted)
