"""The tree in which projects stand: what is above one, what is below, and the shapes in which the API shows it."""

from typing import Any

from pileus.db.connect import Tx
from pileus.identity.rows import PROJECTS, Project

_BELOW = """
join (with recursive below(id) as (select id from projects where parent_id = ?
    union select projects.id from projects join below on projects.parent_id = below.id) select id from below) found
on found.id = projects.id order by projects.id
"""


def parents_above(tx: Tx, project: Project) -> list[Project]:
    """From the direct parent up to the domain."""
    found = []
    parent_id = project.parent_id
    while parent_id is not None:
        parent = PROJECTS.get(tx, id=parent_id)
        assert parent is not None, "the schema keeps parents"
        found.append(parent)
        parent_id = parent.parent_id
    return found


def depth_of(tx: Tx, project: Project) -> int:
    """How many projects stand from the top to this one; 0 of a domain."""
    return len(parents_above(tx, project))


def subtree_below(tx: Tx, project_id: str) -> list[Project]:
    """All projects below one, in no particular order."""
    return PROJECTS.query(tx, _BELOW, project_id)


def parents_as_ids(parents: list[Project]) -> dict[str, Any] | None:
    """{parent: {its parent: … None}}, from the direct parent on."""
    found: dict[str, Any] | None = None
    for parent in reversed(parents):
        found = {parent.id: found}
    return found


def subtree_as_ids(below: list[Project], project_id: str) -> dict[str, Any] | None:
    """{child: {its child: … None}} below one project."""
    children = [p for p in below if p.parent_id == project_id]
    return {p.id: subtree_as_ids(below, p.id) for p in children} or None
