"""The default volume type of a project, instead of the cloud's.

Source: Block Storage API reference, "Default volume types (default-types)" (3.62).
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.op import Reply, collection
from pileus.volume.service import ADMIN, envelope, fields_of, op
from pileus.volume.volume_type import find_type

RULE = "volume_extension:default_"
BODY = envelope("default_type", fields_of(("volume_type",), volume_type={"type": "string", "maxLength": 255}))


def _target(ctx: Context, of_project_id: str) -> dict[str, str]:
    return {"project_id": of_project_id}


def _shown(project_id: str, type_id: str) -> dict[str, str]:
    return {"project_id": project_id, "volume_type_id": type_id}


@op("GET", "/default-types", rule=RULE + "get_all", allow=ADMIN, load=collection, since="3.62")
def list_default_types(ctx: Context) -> Reply:
    """List the projects that have a default of their own."""
    rows = ctx.tx.all("select project_id, volume_type_id from default_volume_types order by project_id")
    return Reply({"default_types": [_shown(*row) for row in rows]})


@op("GET", "/default-types/{of_project_id}", rule=RULE + "get", allow=ADMIN, load=_target, since="3.62")
def get_default_type(ctx: Context, of_project_id: str) -> Reply:
    """Show a project's own default."""
    sql = "select volume_type_id from default_volume_types where project_id = ?"
    row = ctx.tx.one(sql, of_project_id)
    if row is None:
        raise NotFound(f"Default type for project {of_project_id} not found.")
    return Reply({"default_type": _shown(of_project_id, row[0])})


@op("PUT", "/default-types/{of_project_id}", rule=RULE + "set_or_update", allow=ADMIN, load=_target, takes=BODY,
    since="3.62")  # fmt: skip
def set_default_type(ctx: Context, of_project_id: str, body: dict[str, Any]) -> Reply:
    """Set a project's own default."""
    try:
        type_ = find_type(ctx, body["default_type"]["volume_type"])
    except NotFound as error:
        raise BadRequest(error.message) from None
    ctx.tx.run(
        "insert into default_volume_types (project_id, volume_type_id) values (?, ?)"
        " on conflict (project_id) do update set volume_type_id = excluded.volume_type_id",
        of_project_id, type_.id,
    )  # fmt: skip
    return Reply({"default_type": _shown(of_project_id, type_.id)})


@op("DELETE", "/default-types/{of_project_id}", rule=RULE + "unset", allow=ADMIN, load=_target, ok=204, since="3.62")
def unset_default_type(ctx: Context, of_project_id: str) -> Reply:
    """Give a project the cloud's default again."""
    ctx.tx.run("delete from default_volume_types where project_id = ?", of_project_id)
    return Reply()
