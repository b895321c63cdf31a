"""Resource classes.  Source: Placement API reference, "Resource Classes"."""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.op import Reply, collection
from pileus.core.schema import Schema
from pileus.db.connect import Conflict
from pileus.placement.names import CUSTOM, is_custom, standard_classes
from pileus.placement.rows import INVENTORIES
from pileus.placement.service import ADMIN_OR_SERVICE, PLACEMENT, answer

_NAMED: Schema = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": CUSTOM, "maxLength": 255}},
    "required": ["name"],
    "additionalProperties": False,
}


def load_class(ctx: Context, name: str) -> str:
    """The name of a class that exists; raises NotFound."""
    custom = ctx.tx.one("select name from custom_resource_classes where name = ?", name)
    if name not in standard_classes() and custom is None:
        raise NotFound(f"No such resource class {name[:255]}.")
    return name


def _path(name: str) -> str:
    return f"{PLACEMENT.root}/resource_classes/{name}"


def _shown(name: str) -> dict[str, Any]:
    return {"name": name, "links": [{"rel": "self", "href": _path(name)}]}


def _insert(ctx: Context, name: str) -> bool:
    """Whether the class is new."""
    try:
        ctx.tx.run("insert into custom_resource_classes (name, created_at) values (?, ?)", name, ctx.now)
    except Conflict:
        return False
    return True


@PLACEMENT.op(
    "GET", "/resource_classes", rule="placement:resource_classes:list", allow=ADMIN_OR_SERVICE, load=collection,
    since="1.2",
)  # fmt: skip
def list_classes(ctx: Context) -> Reply:
    """List resource classes."""
    custom = [row[0] for row in ctx.tx.all("select name from custom_resource_classes order by name")]
    return answer(ctx, {"resource_classes": [_shown(name) for name in (*standard_classes(), *custom)]})


@PLACEMENT.op(
    "POST", "/resource_classes", rule="placement:resource_classes:create", allow=ADMIN_OR_SERVICE, load=collection,
    takes=_NAMED, ok=201, since="1.2",
)  # fmt: skip
def create_class(ctx: Context, body: dict[str, Any]) -> Reply:
    """Create a custom resource class."""
    if not _insert(ctx, body["name"]):
        raise Conflicted(f"Conflicting resource class already exists: {body['name']}")
    return Reply(headers={"location": _path(body["name"])})


@PLACEMENT.op(
    "GET", "/resource_classes/{name}", rule="placement:resource_classes:show", allow=ADMIN_OR_SERVICE,
    load=load_class, since="1.2",
)  # fmt: skip
def show_class(ctx: Context, name: str) -> Reply:
    """Show a resource class."""
    return answer(ctx, _shown(name))


@PLACEMENT.op(
    "PUT", "/resource_classes/{name}", rule="placement:resource_classes:update", allow=ADMIN_OR_SERVICE,
    load=load_class, takes=_NAMED, since="1.2", until="1.6",
)  # fmt: skip
def rename_class(ctx: Context, name: str, body: dict[str, Any]) -> Reply:
    """Rename a custom resource class, and all that is kept under its name."""
    if not is_custom(name):
        raise BadRequest(f"Cannot update standard resource class {name}")
    new = body["name"]
    if new != name and not _insert(ctx, new):
        raise Conflicted(f"Resource class already exists: {new}")
    if new != name:
        for table in ("inventories", "allocations"):
            ctx.tx.run(f"update {table} set resource_class = ? where resource_class = ?", new, name)
        ctx.tx.run("delete from custom_resource_classes where name = ?", name)
    return answer(ctx, _shown(new))


@PLACEMENT.op(
    "PUT", "/resource_classes/{name}", rule="placement:resource_classes:update", allow=ADMIN_OR_SERVICE,
    load=collection, since="1.7",
)  # fmt: skip
def ensure_class(ctx: Context, name: str) -> Reply:
    """Create a custom resource class; 204 when it exists."""
    if not is_custom(name):
        raise BadRequest(
            f"Invalid resource class {name[:255]}: it must match {CUSTOM} and have at most 255 characters."
        )
    return answer(ctx, None, status=201 if _insert(ctx, name) else 204, location=_path(name))


@PLACEMENT.op(
    "DELETE", "/resource_classes/{name}", rule="placement:resource_classes:delete", allow=ADMIN_OR_SERVICE,
    load=load_class, ok=204, since="1.2",
)  # fmt: skip
def delete_class(ctx: Context, name: str) -> Reply:
    """Delete a custom resource class that no inventory has."""
    if not is_custom(name):
        raise BadRequest(f"Error in delete resource class: Cannot delete standard resource class {name}.")
    if INVENTORIES.count(ctx.tx, resource_class=name):
        raise Conflicted(f"Error in delete resource class: {name} is in use in inventory.")
    ctx.tx.run("delete from custom_resource_classes where name = ?", name)
    return Reply()
