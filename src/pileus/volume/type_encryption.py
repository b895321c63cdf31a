"""What a volume type says about encryption.  It is kept; volumes of such a type are refused until it can be honoured.

Source: Block Storage API reference, "Volume types (types)": encryption.
"""

from typing import Any

from msgspec import Struct

from pileus.core.clock import iso_micro
from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.ids import new_id
from pileus.core.op import Reply
from pileus.db.rows import Table
from pileus.volume.service import ADMIN, envelope, op
from pileus.volume.volume_type import VolumeType
from pileus.volume.volume_types import load_type

RULE = "volume_extension:volume_type_encryption:"
KEY_SIZE = {"type": ["integer", "string", "null"], "minimum": 0, "maximum": 0x7FFFFFFF, "pattern": "^[0-9]{1,9}$"}
PROPERTIES = {
    "key_size": KEY_SIZE,
    "provider": {"type": "string", "maxLength": 255},
    "control_location": {"enum": ["front-end", "back-end"]},
    "cipher": {"type": ["string", "null"], "maxLength": 255},
}
CREATE = {"type": "object", "properties": PROPERTIES, "required": ["provider", "control_location"]}
UPDATE = {"type": "object", "properties": PROPERTIES}


class Encryption(Struct, frozen=True, kw_only=True):
    """How volumes of a type should be encrypted."""

    volume_type_id: str
    encryption_id: str
    provider: str
    control_location: str
    cipher: str | None = None
    key_size: int | None = None
    created_at: float
    updated_at: float | None = None


ENCRYPTIONS = Table(Encryption, "volume_type_encryptions", key=("volume_type_id",))


def show(found: Encryption) -> dict[str, Any]:
    """All of it, as the API gives it."""
    return {
        "volume_type_id": found.volume_type_id, "encryption_id": found.encryption_id, "provider": found.provider,
        "control_location": found.control_location, "cipher": found.cipher, "key_size": found.key_size,
        "deleted": False, "created_at": iso_micro(found.created_at), "updated_at": iso_micro(found.updated_at),
        "deleted_at": None,
    }  # fmt: skip


def _load(ctx: Context, type_id: str, key: str) -> VolumeType:
    return load_type(ctx, type_id)


def _unused(ctx: Context, type_: VolumeType) -> None:
    if ctx.tx.one("select 1 from volumes where volume_type_id = ?", type_.id):
        raise BadRequest(f"Encryption of volume type {type_.name} cannot change: volumes of this type exist.")


def _pairs(body: dict[str, Any]) -> dict[str, Any]:
    given = {k: v for k, v in body["encryption"].items() if k in PROPERTIES}
    if given.get("key_size") is not None:
        given["key_size"] = int(given["key_size"])
    return given


@op("GET", "/types/{type_id}/encryption", rule=RULE + "get", allow=ADMIN, load=load_type)
def get_encryption(ctx: Context, type_: VolumeType) -> Reply:
    """Show it; an empty object when there is none."""
    found = ENCRYPTIONS.get(ctx.tx, volume_type_id=type_.id)
    return Reply(show(found) if found else {})


@op("POST", "/types/{type_id}/encryption", rule=RULE + "create", allow=ADMIN, load=load_type,
    takes=envelope("encryption", CREATE))  # fmt: skip
def create(ctx: Context, type_: VolumeType, body: dict[str, Any]) -> Reply:
    """Ask that volumes of a type be encrypted."""
    _unused(ctx, type_)
    if ENCRYPTIONS.get(ctx.tx, volume_type_id=type_.id):
        raise BadRequest(f"Volume type encryption for type {type_.id} already exists.")
    given = _pairs(body)
    made = Encryption(volume_type_id=type_.id, encryption_id=new_id(), created_at=ctx.now, **given)
    ENCRYPTIONS.insert(ctx.tx, made)
    return Reply({"encryption": {**given, "volume_type_id": type_.id, "encryption_id": made.encryption_id}})


def _found(ctx: Context, type_: VolumeType) -> Encryption:
    found = ENCRYPTIONS.get(ctx.tx, volume_type_id=type_.id)
    if found is None:
        raise NotFound(f"Volume type encryption for type {type_.id} does not exist.")
    return found


@op("GET", "/types/{type_id}/encryption/{key}", rule=RULE + "get", allow=ADMIN, load=_load)
def get_item(ctx: Context, type_: VolumeType, key: str) -> Reply:
    """Show one attribute of it."""
    shown = show(_found(ctx, type_))
    if key not in shown:
        raise NotFound(f"Volume type encryption for type {type_.id} has no attribute {key[:80]}.")
    return Reply({key: shown[key]})


@op("PUT", "/types/{type_id}/encryption/{key}", rule=RULE + "update", allow=ADMIN, load=_load,
    takes=envelope("encryption", UPDATE))  # fmt: skip
def update(ctx: Context, type_: VolumeType, body: dict[str, Any]) -> Reply:
    """Change it, while no volume has the type."""
    _unused(ctx, type_)
    _found(ctx, type_)
    given = _pairs(body)
    ENCRYPTIONS.update(ctx.tx, {**given, "updated_at": ctx.now}, volume_type_id=type_.id)
    return Reply({"encryption": given})


@op("DELETE", "/types/{type_id}/encryption/{key}", rule=RULE + "delete", allow=ADMIN, load=_load, ok=202)
def delete(ctx: Context, type_: VolumeType) -> Reply:
    """Take it back, while no volume has the type."""
    _unused(ctx, type_)
    _found(ctx, type_)
    ENCRYPTIONS.delete(ctx.tx, volume_type_id=type_.id)
    return Reply()
