"""Transfers: a volume, with its snapshots, changes hands by an id and a secret key.

Source: Block Storage API reference, "Volume transfers (volume-transfers)" (3.55; history 3.57; pages 3.59),
"Volume transfer" (os-volume-transfer).
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from pileus.core.clock import iso_micro
from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.events import record_request
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_id
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Query
from pileus.core.schema import truth
from pileus.db.rows import Table
from pileus.volume import quota
from pileus.volume.listing import Lister
from pileus.volume.service import FLAG, MEMBER, READER, SHORT, action, fields_of, links, missing, op, sees
from pileus.volume.snapshot.rows import SNAPSHOTS
from pileus.volume.volume.create import current_status, load_volume
from pileus.volume.volume.rows import VOLUMES, Volume, edit
from pileus.volume.volume_type import TYPES, usable


class Transfer(Struct, frozen=True, kw_only=True):
    """An offer; its key is kept as a salted digest only."""

    id: str
    volume_id: str
    project_id: str
    name: str | None = None
    salt: str
    key_hash: str
    no_snapshots: bool = False
    created_at: float


@dataclass
class Offered:
    """A new transfer with its key, which is shown this once."""

    transfer: Transfer
    auth_key: str


TRANSFERS = Table(Transfer, "volume_transfers")
_links = links("volume-transfers")
_BRIEF = (
    Field("id", "rs"),
    Field("volume_id", "Crq", {"type": "string", "format": "uuid"}),
    Field("name", "crqs", SHORT),
    Field("links", "r", get=lambda t, ctx: _links(t.id, ctx)),
)
BRIEF = Fields("transfer", "transfers", _BRIEF)
_DETAIL = (
    *_BRIEF,
    Field("created_at", "rs", get=lambda t, _: iso_micro(t.created_at)),
    Field("no_snapshots", "cr", FLAG, since="3.55"),
    Field("source_project_id", "r", since="3.57", get="project_id"),
    Field("destination_project_id", "r", since="3.57", get=lambda _t, _c: None),
    Field("accepted", "r", since="3.57", get=lambda _t, _c: False),
)
DETAILED = Fields("transfer", "transfers", _DETAIL)
LISTER = Lister(DETAILED, TRANSFERS, "volume-transfers", strict=False)


class OfferedFields(Fields):
    """As detailed, and the key."""

    def render(self, row: Offered, ctx: Context) -> dict[str, Any]:
        """The transfer and its key."""
        return {**super().render(row.transfer, ctx), "auth_key": row.auth_key}


OFFERED = OfferedFields("transfer", "transfers", _DETAIL)


def digest(salt: str, key: str) -> str:
    """Keys have 128 random bits, so a plain keyed digest is enough."""
    return hmac.new(salt.encode(), key.encode(), hashlib.sha256).hexdigest()


def load_transfer(ctx: Context, transfer_id: str) -> Transfer:
    """A transfer that the caller's project offers; raises NotFound."""
    found = TRANSFERS.get(ctx.tx, id=transfer_id)
    if found is None or not sees(ctx, found.project_id):
        raise missing("Transfer", transfer_id)
    return found


def list_transfers(ctx: Context, query: Query) -> Page:
    """List what the project offers."""
    return LISTER.page(ctx, query)


def get_transfer(transfer: Transfer) -> Transfer:
    """Show an offer."""
    return transfer


def create(ctx: Context, body: dict[str, Any]) -> Offered:
    """Offer a volume; until it is taken or the offer withdrawn, nothing else can be done to it."""
    volume = load_volume(ctx, body["volume_id"])
    ctx.enforce("volume:create_transfer", volume)
    if (seen := current_status(ctx, volume)) != "available":
        raise BadRequest(f"Invalid volume: status must be available to be transferred, it is {seen}.")
    no_snapshots = truth(body.get("no_snapshots", False))
    bad = [s.id for s in SNAPSHOTS.all(ctx.tx, volume_id=volume.id) if s.status != "available"]
    if bad and not no_snapshots:
        raise BadRequest(f"Invalid snapshot: snapshot {bad[0]} of volume {volume.id} is not available.")
    salt, key = secrets.token_hex(8), secrets.token_hex(16)
    transfer = Transfer(
        id=new_id(), volume_id=volume.id, project_id=volume.project_id, name=body.get("name"), salt=salt,
        key_hash=digest(salt, key), no_snapshots=no_snapshots, created_at=ctx.now,
    )  # fmt: skip
    TRANSFERS.insert(ctx.tx, transfer)
    edit(ctx.tx, volume, ctx.now, transferring=True)
    record_request(ctx, "volume", volume.id, "transfer", transfer_id=transfer.id)
    return Offered(transfer, key)


def delete(ctx: Context, transfer: Transfer) -> Reply:
    """Withdraw an offer."""
    volume = VOLUMES.get(ctx.tx, id=transfer.volume_id)
    TRANSFERS.delete(ctx.tx, id=transfer.id)
    if volume is not None:
        edit(ctx.tx, volume, ctx.now, transferring=False)
    return Reply()


def accept(ctx: Context, transfer_id: str, body: dict[str, Any]) -> Transfer:
    """Take a volume over; its key proves that it was offered to the caller."""
    transfer = TRANSFERS.get(ctx.tx, id=transfer_id)
    if transfer is None:
        raise missing("Transfer", transfer_id)
    if not hmac.compare_digest(digest(transfer.salt, str(body["accept"]["auth_key"])), transfer.key_hash):
        raise BadRequest(f"Invalid auth key: Attempt to transfer {transfer_id} with invalid auth key.")
    volume = VOLUMES.get(ctx.tx, id=transfer.volume_id)
    assert volume is not None
    if (seen := current_status(ctx, volume)) != "awaiting-transfer":
        raise BadRequest(f"Invalid volume: its status must be awaiting-transfer, it is {seen}.")
    _take_over(ctx, volume, transfer)
    return transfer


def _take_over(ctx: Context, volume: Volume, transfer: Transfer) -> None:
    type_ = TYPES.get(ctx.tx, id=volume.volume_type_id)
    assert type_ is not None
    if not usable(ctx.tx, type_, ctx.project_id):
        raise BadRequest(f"Invalid volume type: your project may not use the type of volume {volume.id}.")
    snapshots = [] if transfer.no_snapshots else SNAPSHOTS.all(ctx.tx, volume_id=volume.id)
    if ctx.project_id != volume.project_id:
        more = volume.wanted_gib + sum(s.size_gib for s in snapshots)
        quota.take(ctx, ctx.project_id, (type_.id, type_.name), volumes=1, snapshots=len(snapshots), gigabytes=more)
    new = {"project_id": ctx.project_id, "user_id": ctx.user_id}
    for snapshot in snapshots:
        SNAPSHOTS.update(ctx.tx, {**new, "updated_at": ctx.now}, id=snapshot.id)
    TRANSFERS.delete(ctx.tx, id=transfer.id)
    edit(ctx.tx, volume, ctx.now, transferring=False, **new)
    record_request(ctx, "volume", volume.id, "accept_transfer", "success", transfer_id=transfer.id)


def own(ctx: Context, transfer_id: str) -> dict[str, Any]:
    """Loader of acceptance: whoever has the key may, so the target is the caller's own project."""
    return {"project_id": ctx.caller.project_id, "user_id": ctx.caller.user_id}


ACCEPT = action("accept", fields_of(
    ("auth_key",), auth_key={"type": ["string", "integer"], "maxLength": 255}))  # fmt: skip


def register(base: str, since: str) -> None:
    """The same operations under the old and the new name."""
    rules = {"since": since}
    one = f"{base}/{{transfer_id}}"
    op("GET", base, rule="volume:get_all_transfers", allow=READER, load=collection, gives=Many(BRIEF),
       **rules)(list_transfers)  # fmt: skip
    op("GET", f"{base}/detail", rule="volume:get_all_transfers", allow=READER, load=collection,
       gives=Many(DETAILED), **rules)(list_transfers)  # fmt: skip
    op("GET", one, rule="volume:get_transfer", allow=READER, load=load_transfer, gives=DETAILED,
       **rules)(get_transfer)  # fmt: skip
    op("POST", base, rule="volume:create_transfer", allow=MEMBER, load=collection, takes=OFFERED, gives=OFFERED,
       ok=202, **rules)(create)  # fmt: skip
    op("DELETE", one, rule="volume:delete_transfer", allow=MEMBER, load=load_transfer, ok=202, **rules)(delete)
    op("POST", f"{one}/accept", rule="volume:accept_transfer", allow=MEMBER, load=own, takes=ACCEPT, gives=BRIEF,
       ok=202, **rules)(accept)  # fmt: skip


register("/os-volume-transfer", "3.0")
register("/volume-transfers", "3.55")
