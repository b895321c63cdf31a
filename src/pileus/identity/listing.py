"""How identity's lists are asked: filters by field, `name__contains` and its like, sort, pages, `links`.

Source: Identity API reference, "Filtering and searching", "Inexact filtering" (v3.2).  What is no filter
of a list is ignored, as there; a value that means nothing is refused by the name of its parameter.
"""

from typing import Any, get_args
from urllib.parse import urlencode

from pileus.core.clock import parse_iso
from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.fields import Fields
from pileus.core.op import Page
from pileus.core.paging import Listing, Query

LIST_LIMIT = 1000
_TEXT_COMPARISONS = ("contains", "startswith", "endswith", "icontains", "istartswith", "iendswith", "iexact")
_TIME_COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "eq": "=", "neq": "<>"}
_PAGING = ("limit", "marker")


def listed(ctx: Context, fields: Fields, listing: Listing[Any], query: Query, *, path: str = "") -> Page:
    """One page of a list, or all of it; `truncated` where the operator allows no more without a `limit`."""
    filters(fields, listing, query)
    most = ctx.settings.config.identity.list_limit
    limit = min(query.number("limit", LIST_LIMIT, least=1), LIST_LIMIT) if "limit" in query else None
    marker_id = query.one("marker")
    marker = listing.table.get(ctx.tx, id=marker_id) if marker_id else None
    if marker_id and marker is None:
        raise BadRequest(f"The marker {marker_id[:80]!r} is not in the list.")
    asked = limit or (most + 1 if most else None)
    rows = listing.page(ctx.tx, sort=sort_of(fields, query), limit=asked, marker=marker)
    here = f"{ctx.url}/v3{path or '/' + fields.plural}"
    links = {"self": here, "previous": None, "next": None}
    if limit is None and 0 < most < len(rows):
        return Page(rows[:most], {"links": links, "truncated": True})
    if len(rows) == limit:
        kept = {k: v for k, v in query.values.items() if k not in _PAGING}
        links["next"] = f"{here}?{urlencode({**kept, 'limit': limit, 'marker': rows[-1].id}, doseq=True)}"
    return Page(rows, {"links": links})


def filters(fields: Fields, listing: Listing[Any], query: Query) -> None:
    """Conditions from the query string."""
    columns = fields.columns("q")
    for given in query.values:
        name, _, comparison = given.partition("__")
        if name not in columns:
            continue
        column, value = f"{listing.table.name}.{columns[name]}", query.one(given) or ""
        kind = listing.table.row.__annotations__.get(columns[name])
        if kind is bool:
            if not comparison:
                listing.where(f"{column} = ?", int(query.truth(given)))
        elif float in (kind, *get_args(kind)):
            if not comparison:
                compare_time(listing, column, name, value)
        else:
            compare_text(listing, column, comparison, value)


def compare_text(listing: Listing[Any], column: str, comparison: str, value: str) -> None:
    """The condition on a text: equal, or one of the inexact comparisons.

    Not by LIKE, which is blind for case in SQLite and not in PostgreSQL.
    """
    if not comparison:
        listing.where(f"{column} = ?", value)
    elif comparison in _TEXT_COMPARISONS and value:
        text = f"lower({column})" if comparison.startswith("i") else column
        value = value.lower() if comparison.startswith("i") else value
        kind, size = comparison.removeprefix("i"), len(value)
        if kind == "contains":
            listing.where(f"replace({text}, ?, '') <> {text}", value)
        elif kind == "startswith":
            listing.where(f"substr({text}, 1, {size}) = ?", value)
        elif kind == "endswith":
            listing.where(f"length({text}) >= {size} and substr({text}, length({text}) - {size - 1}) = ?", value)
        else:
            listing.where(f"{text} = ?", value)


def compare_time(listing: Listing[Any], column: str, name: str, value: str) -> None:
    """The condition on a time: `gt:2026-01-01T00:00:00Z`; raises BadRequest."""
    comparison, _, time = value.partition(":")
    try:
        at = parse_iso(time)
    except ValueError:
        at = None
    if at is None or comparison not in _TIME_COMPARISONS:
        raise BadRequest(
            f"Invalid input for query parameters {name}. Value: {value[:80]}. Expected one of"
            f" {', '.join(_TIME_COMPARISONS)}, a colon and a time."
        )
    listing.where(f"{column} {_TIME_COMPARISONS[comparison]} ?", at)


def sort_of(fields: Fields, query: Query) -> list[tuple[str, bool]]:
    """(column, descending) of `sort_key` and `sort_dir`, ending in the id; raises BadRequest."""
    direction = query.one("sort_dir", "asc")
    if direction not in ("asc", "desc"):
        raise BadRequest(f"Invalid input for query parameter sort_dir: {str(direction)[:80]!r}; asc or desc.")
    key, down = query.one("sort_key"), direction == "desc"
    if key is None or key == "id":
        return [("id", down)]
    columns = fields.columns("s")
    if key not in columns:
        raise BadRequest(f"Invalid input for query parameter sort_key: {key[:80]!r}; one of {sorted(columns)}.")
    return [(columns[key], down), ("id", down)]
