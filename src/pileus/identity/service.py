"""The identity API (Keystone v3): its place, its error body, its shared rules and list conventions.

Source: Identity API reference, v3.14.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden, NotFound, Problem
from pileus.core.fields import LATEST, Fields
from pileus.core.op import Page, Service
from pileus.core.paging import Listing, Query

R = TypeVar("R")


def problem(error: Problem, _request_id: str) -> dict[str, Any]:
    """Identity's error body."""
    return {"error": {"code": error.status, "message": error.message, "title": error.title}}


IDENTITY = Service("identity", "keystone", "/identity", "/v3", problem=problem, ends_with_tokens=True)
IDENTITY.rule("admin_required", "role:admin")
IDENTITY.rule("reader_required", "role:reader")
IDENTITY.rule("owner", "user_id:%(user_id)s")

ADMIN = "rule:admin_required"
SYSTEM_READER = "(role:reader and system_scope:all)"
READER = f"{ADMIN} or {SYSTEM_READER}"
# Rules on what lies in a domain; `domain_id` of the target is that domain.
DOMAIN_READER = f"{READER} or (role:reader and domain_id:%(domain_id)s)"
DOMAIN_MANAGER = f"{ADMIN} or (role:manager and domain_id:%(domain_id)s)"

LIST_LIMIT = 1000
_TEXT_COMPARISONS = ("contains", "startswith", "endswith", "icontains", "istartswith", "iendswith")
_RESERVED = frozenset(("id", "links", "domain_id", "parent_id", "is_domain"))


class OpenFields(Fields):
    """Fields of a resource that also keeps, and shows, attributes that the API does not define."""

    def __init__(self, key: str, plural: str, fields: Any):
        super().__init__(key, plural, fields, extra=True)
        self._known = frozenset(f.name for f in self.fields)

    def render(self, row: Any, ctx: Context) -> dict[str, Any]:
        return {**row.extra, **super().render(row, ctx)}

    def extra_of(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a body holds beyond the table."""
        return {k: v for k, v in body.items() if k not in self._known and k not in _RESERVED}

    def changes(self, row: Any, body: Mapping[str, Any]) -> dict[str, Any]:
        """The columns that an update body changes; extra attributes are merged, null removes one."""
        columns = {f.name for f in self.at("u", LATEST)} & set(row.__struct_fields__)
        found = {k: v for k, v in body.items() if k in columns}
        if extra := self.extra_of(body):
            merged = {**row.extra, **extra}
            found["extra"] = {k: v for k, v in merged.items() if v is not None}
        return found


def own_domain(ctx: Context, **_path: str) -> Mapping[str, Any]:
    """Loader of lists and creations: the target is the domain of the caller's scope, if it is one."""
    return {} if ctx.caller.domain_id is None else {"domain_id": ctx.caller.domain_id}


def seen(ctx: Context, rule: str, kind: str, identifier: str, row: R | None, target: object = None) -> R:
    """The row, if the caller may see it; `target` is what the rule looks at, the row itself unless given.

    Who may not see it is refused (403) whether it exists or not; who may see everything gets NotFound
    for what does not exist.
    """
    if not ctx.allows(rule, target if target is not None else {} if row is None else row):
        raise Forbidden(f"Policy doesn't allow {rule} to be performed.")
    if row is None:
        raise NotFound(f"Could not find {kind}: {identifier}.")
    return row


def of_user(ctx: Context, user_id: str, **_path: str) -> Mapping[str, Any]:
    """Loader of what belongs to the user in the path, as rules see it."""
    return {"user_id": user_id}


def listed(ctx: Context, fields: Fields, listing: Listing[Any], query: Query, *, path: str = "") -> Page:
    """One page of a list as identity gives it: filters by field, `name__contains` and its like, sort, `links`."""
    filters(fields, listing, query)
    marker_id, limit = query.one("marker"), None
    if "limit" in query:
        limit = min(query.number("limit", LIST_LIMIT, least=1), LIST_LIMIT)
    marker = listing.table.get(ctx.tx, id=marker_id) if marker_id else None
    if marker_id and marker is None:
        raise BadRequest(f"The marker {marker_id[:80]!r} is not in the list.")
    rows = listing.page(ctx.tx, sort=sort_of(fields, query), limit=limit, marker=marker)
    here = f"{ctx.url}/v3{path or '/' + fields.plural}"
    following = None
    if limit is not None and len(rows) == limit:
        kept = {k: v for k, v in query.values.items() if k not in ("limit", "marker")}
        following = f"{here}?{urlencode({**kept, 'limit': limit, 'marker': rows[-1].id}, doseq=True)}"
    return Page(rows, {"links": {"self": here, "previous": None, "next": following}})


def filters(fields: Fields, listing: Listing[Any], query: Query) -> None:
    """Conditions from the query string; what is no filter of this list is ignored, as upstream does."""
    columns = fields.columns("q")
    hints = listing.table.row.__annotations__
    for given in query.values:
        name, _, comparison = given.partition("__")
        if name not in columns:
            continue
        column, value = f"{listing.table.name}.{columns[name]}", query.one(given) or ""
        if hints.get(columns[name]) is bool:
            listing.where(f"{column} = ?", int(value.lower() not in ("false", "0", "no", "off")))
        elif comparison == "iexact":
            listing.where(f"lower({column}) = lower(?)", value)
        elif comparison in _TEXT_COMPARISONS:
            fold = ("lower(", ")") if comparison.startswith("i") else ("", "")
            pattern = like(comparison, value)
            listing.where(f"{fold[0]}{column}{fold[1]} like {fold[0]}?{fold[1]} escape '!'", pattern)
        elif not comparison:
            listing.where(f"{column} = ?", value)


def sort_of(fields: Fields, query: Query) -> list[tuple[str, bool]]:
    """(column, descending) of `sort_key` and `sort_dir`, ending in the id."""
    key = query.one("sort_key")
    if key is None or key == "id":
        return [("id", query.one("sort_dir") == "desc")]
    columns = fields.columns("s")
    if key not in columns:
        raise BadRequest(f"Invalid input for query parameter sort_key: {key[:80]!r}; one of {sorted(columns)}.")
    down = query.one("sort_dir") == "desc"
    return [(columns[key], down), ("id", down)]


def like(comparison: str, value: str) -> str:
    """The LIKE pattern of contains, startswith, endswith; the user's own % and _ are literal."""
    escaped = value.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    before = "%" if comparison.lstrip("i") in ("contains", "endswith") else ""
    after = "%" if comparison.lstrip("i") in ("contains", "startswith") else ""
    return f"{before}{escaped}{after}"


def self_link(plural: str) -> Callable[[Any, Context], dict[str, str]]:
    """The getter of `links` for a resource of this plural name."""
    return lambda row, ctx: {"self": f"{ctx.url}/v3/{plural}/{row.id}"}


def links_beside(ctx: Context, path: str) -> dict[str, Any]:
    """The `links` of a list that is never paged."""
    return {"links": {"self": f"{ctx.url}/v3{path}", "previous": None, "next": None}}


def check_immutable(options: Mapping[str, Any], changes: Mapping[str, Any] | None, kind: str) -> None:
    """Refuse to delete (`changes` is None) or change what is immutable, unless the change ends that."""
    if options.get("immutable") is not True:
        return
    if changes is not None and changes.get("options", {}).get("immutable", True) is not True:
        return
    raise Forbidden(f"This {kind} is immutable: set its option immutable to false first.")


def merged_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Options after an update; null takes one away."""
    return {k: v for k, v in {**old, **new}.items() if v is not None}
