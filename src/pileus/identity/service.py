"""The identity API (Keystone v3): its place, its error body, its shared rules and list conventions.

Source: Identity API reference, v3.14.
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import Problem
from pileus.core.fields import Fields
from pileus.core.op import Page, Service
from pileus.core.paging import Listing, Query


def problem(error: Problem, _request_id: str) -> dict[str, Any]:
    """Identity's error body."""
    return {"error": {"code": error.status, "message": error.message, "title": error.title}}


IDENTITY = Service("identity", "keystone", "/identity", "/v3", problem=problem)
IDENTITY.rule("admin_required", "role:admin")
IDENTITY.rule("reader_required", "role:reader")

ADMIN = "rule:admin_required"
READER = "role:reader and system_scope:all or rule:admin_required"

LIST_LIMIT = 1000


def listed(ctx: Context, fields: Fields, listing: Listing[Any], query: Query) -> Page:
    """One page of a list as identity gives it: filters by field, `name__contains` and its like, `links`."""
    columns = fields.columns("q")
    for given in query.values:
        name, _, comparison = given.partition("__")
        if name not in columns:
            continue
        column = f"{listing.table.name}.{columns[name]}"
        value: Any = query.one(given)
        if name == "enabled":
            listing.where(f"{column} = ?", int(value.lower() not in ("false", "0", "no", "off")))
        elif comparison in ("", "iexact"):
            fold = ("lower(", ")") if comparison else ("", "")
            listing.where(f"{fold[0]}{column}{fold[1]} = {fold[0]}?{fold[1]}", value)
        else:
            listing.where(f"{column} like ? escape '!'", like(comparison, value))
    marker_id = query.one("marker")
    marker = listing.table.get(ctx.tx, id=marker_id) if marker_id else None
    limit = query.number("limit", LIST_LIMIT, least=1) if "limit" in query else None
    rows = listing.page(ctx.tx, sort=[("id", False)], limit=limit, marker=marker)
    here = f"{ctx.url}/v3/{fields.plural}"
    following = f"{here}?limit={limit}&marker={rows[-1].id}" if limit is not None and len(rows) == limit else None
    return Page(rows, {"links": {"self": here, "previous": None, "next": following}})


def like(comparison: str, value: str) -> str:
    """The LIKE pattern of contains, startswith, endswith; the user's own % and _ are literal."""
    escaped = value.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    before = "%" if comparison.lstrip("i") in ("contains", "endswith") else ""
    after = "%" if comparison.lstrip("i") in ("contains", "startswith") else ""
    return f"{before}{escaped}{after}"


def self_link(plural: str) -> Any:
    """The getter of `links` for a resource of this plural name."""
    return lambda row, ctx: {"self": f"{ctx.url}/v3/{plural}/{row.id}"}
