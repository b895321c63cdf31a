"""What all collections of this API share: bulk creation, lists, pages, selected fields, tags, revisions.

Source: Networking API reference, "General API information" (filtering, sorting, pagination, bulk).
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from pileus.core.clock import iso
from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound, PreconditionFailed
from pileus.core.fields import Field, Fields, Getter
from pileus.core.op import Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import NAME_OR_EMPTY, TEXT, Schema
from pileus.network.service import NETWORK

BULK_LIMIT = 1000  # resources in one request
PAGE_LIMIT = 10_000  # rows in one answer, asked for or not
ID: Schema = {"type": "string", "maxLength": 255}
PROJECT: Schema = {"type": ["string", "null"], "maxLength": 255, "pattern": r"^[A-Za-z0-9_.\-]*$"}
Filter = Callable[[Listing[Any], list[str]], object]
_PAGING = {"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"}
_TAG_FILTERS = {"tags", "tags-any", "not-tags", "not-tags-any"}


def identity_fields() -> tuple[Field, ...]:
    """id, project_id and its older name, name, description."""
    return (
        Field("id", "rqs"),
        Field("project_id", "crqs", PROJECT),
        Field("tenant_id", "crqs", PROJECT, get="project_id"),
        Field("name", "cruqs", NAME_OR_EMPTY, default=""),
        Field("description", "cruqs", TEXT, default=""),
    )


def standard_fields() -> tuple[Field, ...]:
    """tags, times and the revision."""
    return (
        Field("tags", "r"),
        Field("created_at", "rs", get=time_of("created_at")),
        Field("updated_at", "rs", get=time_of("updated_at")),
        Field("revision_number", "rqs", get="revision"),
    )


def time_of(name: str) -> Getter:
    """The getter that shows a time of the row."""
    return lambda row, _ctx: iso(getattr(row, name))


def body_of(fields: Fields) -> Schema:
    """The schema of a creation: one resource under its name, or many under the plural."""
    one = fields.body_schema("c", (0, 0))["properties"][fields.key]
    many = {"type": "array", "items": one, "minItems": 1, "maxItems": BULK_LIMIT}
    return {
        "type": "object",
        "properties": {fields.key: one, fields.plural: many},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def created(ctx: Context, fields: Fields, body: Mapping[str, Any], create: Callable[[dict[str, Any]], Any]) -> Reply:
    """Create what the body asks for, all or nothing, and answer in the same form."""
    if fields.plural in body:
        rows = [create(dict(one)) for one in body[fields.plural]]
        return Reply({fields.plural: [fields.render(row, ctx) for row in rows]})
    return Reply({fields.key: fields.render(create(dict(body[fields.key])), ctx)})


def project_of(ctx: Context, rule: str, body: Mapping[str, Any]) -> str:
    """The project that a new resource shall belong to; somebody else's needs the rule for it."""
    given = body.get("project_id") or body.get("tenant_id")
    if not given or given == ctx.caller.project_id:
        return ctx.project_id
    ctx.enforce(rule, {"project_id": given})
    return str(given)


def enforce_attributes(ctx: Context, action: str, fields: Fields, given: Mapping[str, Any], target: object) -> None:
    """Check the rules of single attributes ("create_network:shared") that the body gives a value of its own."""
    defaults = fields.defaults() if action.startswith("create") else {}
    for name, value in given.items():
        rule = f"{action}:{name}"
        if rule in NETWORK.rules and not (name in defaults and value == defaults[name]):
            ctx.enforce(rule, target)


def check_revision(ctx: Context, row: Any) -> None:
    """Honour If-Match: revision_number=N (networking guide, "Resource revisions")."""
    if not ctx.if_match:
        return
    name, _, number = ctx.if_match.strip().strip('"').partition("=")
    if name != "revision_number" or not number.isdigit():
        raise BadRequest(f"Bad If-Match header {ctx.if_match[:80]!r}: expected revision_number=N.")
    if int(number[:18]) != row.revision:
        raise PreconditionFailed(
            f"Constrained to {number[:18]}, but current revision is {row.revision}.",
            kind="RevisionNumberConstraintFailed",
        )


def changes_of(ctx: Context, row: Any, **changed: Any) -> dict[str, Any]:
    """The columns to write for an update: what changed, and the revision and time that follow from it."""
    return {**changed, "revision": row.revision + 1, "updated_at": ctx.now}


def shown(ctx: Context, fields: Fields, row: Any, query: Query) -> dict[str, Any]:
    """One resource, or those fields of it that the query asks for."""
    return {fields.key: _select(fields.render(row, ctx), query)}


def _select(rendered: dict[str, Any], query: Query) -> dict[str, Any]:
    wanted = {name for value in query.all("fields") for name in value.split(",") if name}
    return {k: v for k, v in rendered.items() if k in wanted} if wanted else rendered


def listed(
    ctx: Context, fields: Fields, listing: Listing[Any], query: Query, special: Mapping[str, Filter] | None = None
) -> dict[str, Any]:
    """A page of a collection; `special` are filters that are more than "column equals one of these values"."""
    filtered(fields, listing, query, special or {})
    sort, backwards = _sort(fields, query), query.truth("page_reverse")
    limit = query.number("limit", 0) or None
    rows = listing.page(
        ctx.tx, sort=sort, limit=min(limit or PAGE_LIMIT, PAGE_LIMIT), marker=_marker(ctx, fields, listing, query),
        reverse=backwards,
    )  # fmt: skip
    body: dict[str, Any] = {fields.plural: [_select(fields.render(row, ctx), query) for row in rows]}
    if limit is not None:
        body[f"{fields.plural}_links"] = _links(ctx, fields, query, rows, limit, backwards=backwards)
    return body


def filtered(fields: Fields, listing: Listing[Any], query: Query, special: Mapping[str, Filter]) -> None:
    """Turn the query into conditions; an unknown name is refused (extension filter-validation)."""
    columns = fields.columns("q")
    for name, values in query.values.items():
        if name in _PAGING:
            continue
        if name in special:
            special[name](listing, values)
        elif name in _TAG_FILTERS and "tags" in listing.table.columns:
            _tag_filter(listing, name, [tag for value in values for tag in value.split(",")])
        elif name in columns:
            _column_filter(listing, fields, name, values)
        else:
            raise BadRequest(f"['{name[:80]}'] is invalid attribute for filtering")


def _column_filter(listing: Listing[Any], fields: Fields, name: str, values: list[str]) -> None:
    column = _column(fields, name)
    hint = listing.table.row.__annotations__[column]
    if hint in (bool, "bool"):
        listing.equals(column, [Query({name: [v]}).truth(name) for v in values])
    elif hint in (int, "int", int | None, "int | None"):
        listing.equals(column, [Query({name: [v]}).number(name, 0, most=1 << 40) for v in values])
    elif hint in (float, "float"):
        raise BadRequest(f"['{name}'] is invalid attribute for filtering")
    elif "" in values and "None" in str(hint):
        marks = ", ".join("?" * len(values))
        listing.where(f"coalesce({listing.table.name}.{column}, '') in ({marks})", *values)
    else:
        listing.equals(column, values)


def _column(fields: Fields, name: str) -> str:
    found = next(f for f in fields.fields if f.name == name)
    return found.column or (found.get if isinstance(found.get, str) else found.name)


def _tag_filter(listing: Listing[Any], name: str, tags: list[str]) -> None:
    """Tags stand as a JSON list in one column: a tag is in it when its JSON form is."""
    term = f"replace({listing.table.name}.tags, ?, '') <> {listing.table.name}.tags"
    word = " or " if name.endswith("any") else " and "
    sql = word.join([term] * len(tags))
    listing.where(f"not ({sql})" if name.startswith("not") else sql, *(msgspec.json.encode(t).decode() for t in tags))


def _sort(fields: Fields, query: Query) -> list[tuple[str, bool]]:
    keys, directions = query.all("sort_key"), query.all("sort_dir")
    if len(keys) != len(directions) and directions:
        raise BadRequest("The number of sort_keys and sort_dirs must be same")
    sortable = fields.columns("s")
    sort: list[tuple[str, bool]] = []
    for key, direction in zip(keys, directions or ["asc"] * len(keys), strict=True):
        if key not in sortable:
            raise BadRequest(f"['{key[:80]}'] is invalid attribute for sort_keys")
        if direction not in ("asc", "desc"):
            raise BadRequest(f"sort_dir {direction[:20]!r}: expected asc or desc")
        column = _column(fields, key)
        if column not in [c for c, _ in sort]:
            sort.append((column, direction == "desc"))
    return sort if any(column == "id" for column, _ in sort) else [*sort, ("id", False)]


def _marker(ctx: Context, fields: Fields, listing: Listing[Any], query: Query) -> Any:
    """The row that the page follows; it must be one that the caller sees."""
    marker_id = query.one("marker")
    if not marker_id:
        return None
    seen = Listing(listing.table, list(listing.terms), list(listing.params), listing.joins)
    rows = seen.equals("id", [marker_id]).page(ctx.tx, sort=[("id", False)], limit=1)
    if not rows:
        raise NotFound(f"The marker {marker_id[:80]} could not be found in the {fields.plural}.")
    return rows[0]


def _links(
    ctx: Context, fields: Fields, query: Query, rows: list[Any], limit: int, *, backwards: bool
) -> list[dict[str, str]]:
    full = len(rows) >= limit
    links = []
    if full or backwards:
        links.append({"rel": "next", "href": _page_url(ctx, fields, query, rows[-1:], back=False)})
    if full or not backwards:
        links.append({"rel": "previous", "href": _page_url(ctx, fields, query, rows[:1], back=True)})
    return links


def _page_url(ctx: Context, fields: Fields, query: Query, edge: list[Any], *, back: bool) -> str:
    kept = [(k, v) for k, values in query.values.items() if k not in ("marker", "page_reverse") for v in values]
    kept += [("marker", row.id) for row in edge] + ([("page_reverse", "True")] if back else [])
    return f"{ctx.url}/v2.0/{fields.plural.replace('_', '-')}?{urlencode(kept)}"
