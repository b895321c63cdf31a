"""Volume types: what a user chooses a back end by.

Source: Block Storage API reference, "Volume types (types)".
"""

from typing import Any

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.ids import is_uuid
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.volume.service import missing

DEFAULT_ID = "6a6f0e5c-38a1-5c0b-9d53-0f2f5f0d7c11"  # __DEFAULT__, made by the migration; it cannot be deleted


class VolumeType(Struct, kw_only=True):
    """A volume type; `extra_specs` says which pools may hold its volumes."""

    id: str
    name: str
    description: str | None = None
    is_public: bool = True
    extra_specs: dict[str, str] = {}
    qos_specs_id: str | None = None
    created_at: float
    updated_at: float | None = None


TYPES = Table(VolumeType, "volume_types")


def usable(tx: Tx, type_: VolumeType, project_id: str | None) -> bool:
    """Whether a project may use this type: it is public, or the project was given access."""
    if type_.is_public:
        return True
    sql = "select 1 from volume_type_access where volume_type_id = ? and project_id = ?"
    return tx.one(sql, type_.id, project_id or "") is not None


def find_type(ctx: Context, name_or_id: str) -> VolumeType:
    """A type that the caller may use, by id or name; raises NotFound."""
    found = (TYPES.get(ctx.tx, id=name_or_id) if is_uuid(name_or_id) else None) or TYPES.get(ctx.tx, name=name_or_id)
    if found is None or not (usable(ctx.tx, found, ctx.caller.project_id) or ctx.allows("context_is_admin")):
        raise missing("Volume type", name_or_id)
    return found


def default_type(tx: Tx, project_id: str | None) -> VolumeType:
    """The type of volumes that name none: the project's own default, else the cloud's."""
    row = tx.one("select volume_type_id from default_volume_types where project_id = ?", project_id or "")
    found = TYPES.get(tx, id=row[0] if row else DEFAULT_ID)
    if found is None:
        raise BadRequest("There is no default volume type: name one, or ask the administrator to set a default.")
    return found


def is_encrypted(tx: Tx, type_id: str) -> bool:
    """Whether volumes of this type would have to be encrypted."""
    return tx.one("select 1 from volume_type_encryptions where volume_type_id = ?", type_id) is not None


def allows_multiattach(type_: VolumeType) -> bool:
    """Whether volumes of this type may be attached to several servers at once."""
    return type_.extra_specs.get("multiattach", "").lower() == "<is> true"


def names(tx: Tx, type_ids: set[str]) -> dict[str, str]:
    """The names of some types."""
    if not type_ids:
        return {}
    marks = ", ".join("?" * len(type_ids))
    found: list[Any] = tx.all(f"select id, name from volume_types where id in ({marks})", *type_ids)
    return dict(found)
