"""Keypairs: public keys of a user, put into servers.  Source: Compute API reference, "Keypairs"."""

from typing import Any

from msgspec import Struct

from pileus.compute.keys import fingerprint, generate, one_line
from pileus.compute.quota import COMPUTE_QUOTA
from pileus.compute.service import ADMIN, COMPUTE, NAME, envelope, next_link, next_number, page_limit, refuse_unknown
from pileus.core.clock import iso_micro
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden, NotFound
from pileus.core.fields import Field, Fields
from pileus.core.op import Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.schema import Schema
from pileus.db.connect import Conflict, Tx
from pileus.db.rows import Table


class Keypair(Struct, frozen=True, kw_only=True):
    """A public key; the private half is shown once, when we made it, and never kept."""

    number: int
    user_id: str
    name: str
    type: str  # "ssh" | "x509"
    fingerprint: str
    public_key: str
    created_at: float


KEYPAIRS = Table(Keypair, "keypairs", key=("number",))
OWN = f"({ADMIN}) or user_id:%(user_id)s"
_OWNED = "os_compute_api:os-keypairs"

_BRIEF = (
    Field("name"),
    Field("public_key"),
    Field("fingerprint"),
    Field("type", since="2.2"),
)
BRIEF = Fields("keypair", "keypairs", _BRIEF)
MADE = Fields("keypair", "keypairs", (*_BRIEF, Field("user_id")))
KEYPAIR = Fields(
    "keypair",
    "keypairs",
    (
        *_BRIEF,
        Field("user_id"),
        Field("created_at", get=lambda keypair, _ctx: iso_micro(keypair.created_at)),
        Field("deleted", get=lambda _keypair, _ctx: False),
        Field("deleted_at", get=lambda _keypair, _ctx: None),
        Field("updated_at", get=lambda _keypair, _ctx: None),
        Field("id", get="number"),
    ),
)


def find_keypair(tx: Tx, user_id: str, name: str) -> Keypair | None:
    """A user's keypair by name."""
    return KEYPAIRS.get(tx, user_id=user_id, name=name)


def _owner(ctx: Context, query: Query, rule: str) -> str:
    """The user whose keypairs are meant; another than the caller needs the rule (from 2.10)."""
    assert ctx.project_id, "compute answers to tokens with a project alone"
    refuse_unknown(ctx, query, "user_id", "limit", "marker", since="2.75")
    user_id = query.one("user_id") if ctx.version >= (2, 10) else None
    ctx.enforce(rule, {"user_id": user_id or ctx.user_id})
    return user_id or ctx.user_id


def _get(ctx: Context, user_id: str, name: str) -> Keypair:
    found = find_keypair(ctx.tx, user_id, name)
    if found is None:
        raise NotFound(f"Keypair {name[:255]} not found for user {user_id}")
    return found


@COMPUTE.op("GET", "/os-keypairs", rule=f"{_OWNED}:index", allow=OWN, load=collection, until="2.34")
def list_all_keypairs(ctx: Context, query: Query) -> dict[str, Any]:
    """List keypairs."""
    user_id = _owner(ctx, query, f"{_OWNED}:index")
    rows = KEYPAIRS.all(ctx.tx, order="keypairs.name", user_id=user_id)
    return {"keypairs": [{"keypair": BRIEF.render(row, ctx)} for row in rows]}


@COMPUTE.op("GET", "/os-keypairs", rule=f"{_OWNED}:index", allow=OWN, load=collection, since="2.35")
def list_keypairs(ctx: Context, query: Query) -> dict[str, Any]:
    """List keypairs in pages."""
    user_id = _owner(ctx, query, f"{_OWNED}:index")
    marker = query.one("marker")
    row = find_keypair(ctx.tx, user_id, marker) if marker is not None else None
    if marker is not None and row is None:
        raise BadRequest(f"marker [{marker[:80]}] not found")
    listing = Listing(KEYPAIRS).equals("user_id", [user_id])
    rows = listing.page(ctx.tx, sort=[("name", False)], limit=page_limit(query), marker=row)
    following = next_link(ctx, "os-keypairs", query, rows, rows[-1].name if rows else "")
    return {"keypairs": [{"keypair": BRIEF.render(row, ctx)} for row in rows], **following}


@COMPUTE.op("GET", "/os-keypairs/{name}", rule=f"{_OWNED}:show", allow=OWN, load=collection, gives=KEYPAIR)
def show_keypair(ctx: Context, name: str, query: Query) -> Keypair:
    """Show keypair details."""
    return _get(ctx, _owner(ctx, query, f"{_OWNED}:show"), name)


@COMPUTE.op("DELETE", "/os-keypairs/{name}", rule=f"{_OWNED}:delete", allow=OWN, load=collection, ok=202, until="2.1")
@COMPUTE.op("DELETE", "/os-keypairs/{name}", rule=f"{_OWNED}:delete", allow=OWN, load=collection, ok=204, since="2.2")
def delete_keypair(ctx: Context, name: str, query: Query) -> Reply:
    """Delete a keypair; servers keep their copy of the key."""
    found = _get(ctx, _owner(ctx, query, f"{_OWNED}:delete"), name)
    KEYPAIRS.delete(ctx.tx, number=found.number)
    return Reply()


def _body(pattern: str, *required: str, **more: Schema) -> Schema:
    name = {**NAME, "pattern": rf"^(?!\s){pattern}(?<!\s)$"}
    fields: dict[str, Schema] = {"name": name, "public_key": {"type": "string", "maxLength": 65535}, **more}
    return envelope(fields, "keypair", "name", *required)


_TYPE: Schema = {"type": "string", "enum": ["ssh", "x509"]}
_USER: Schema = {"type": "string", "maxLength": 255}


def create_keypair(ctx: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Import a public key, or (until 2.91) create a keypair."""
    given = body["keypair"]
    user_id = given.get("user_id") or ctx.user_id
    ctx.enforce(f"{_OWNED}:create", {"user_id": user_id})
    name, kind = given["name"], given.get("type", "ssh")
    _check_room(ctx, user_id)
    public, private = (one_line(given["public_key"], kind), None) if "public_key" in given else generate(kind, user_id)
    keypair = Keypair(
        number=next_number(ctx.tx, "keypair"), user_id=user_id, name=name, type=kind, public_key=public,
        fingerprint=fingerprint(public, kind), created_at=ctx.now,
    )  # fmt: skip
    try:
        KEYPAIRS.insert(ctx.tx, keypair)
    except Conflict:
        raise Conflicted(f"Key pair '{name}' already exists.") from None
    return {"keypair": {**MADE.render(keypair, ctx), **({} if private is None else {"private_key": private})}}


def _check_room(ctx: Context, user_id: str) -> None:
    """Keypairs are counted by user, against the limit of the caller's project."""
    ctx.tx.lock(f"keypairs/{user_id}")
    limit = COMPUTE_QUOTA.limits(ctx.tx, ctx.project_id)["key_pairs"]
    if 0 <= limit <= KEYPAIRS.count(ctx.tx, user_id=user_id):
        raise Forbidden("Quota exceeded, too many key pairs.")


_PLAIN, _WIDE = r"[_\- a-zA-Z0-9]+", r"[_\-@. a-zA-Z0-9]+"
for _since, _until, _ok, _schema in (
    ("2.1", "2.1", 200, _body(_PLAIN)),
    ("2.2", "2.9", 201, _body(_PLAIN, type=_TYPE)),
    ("2.10", "2.91", 201, _body(_PLAIN, type=_TYPE, user_id=_USER)),
    ("2.92", "", 201, _body(_WIDE, "public_key", type=_TYPE, user_id=_USER)),
):
    COMPUTE.op(
        "POST", "/os-keypairs", rule=f"{_OWNED}:create", allow=OWN, load=collection, ok=_ok, takes=_schema,
        since=_since, until=_until,
    )(create_keypair)  # fmt: skip
