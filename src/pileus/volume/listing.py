"""Lists as block storage gives them: filters by field, `sort`, `limit`, `marker`, `offset`, links to the next page.

Source: Block Storage API reference, "Filtering and sorting"; microversions 3.31 (unknown filters are refused),
3.34 (`name~`), 3.45 (`with_count`), 3.60 (time comparison).
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from pileus.core.clock import parse_iso
from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.fields import Fields
from pileus.core.op import Page
from pileus.core.paging import Listing, Query
from pileus.db.rows import Table
from pileus.volume.service import sees

MOST = 1000  # rows of one page (osapi_max_limit)
_OUR_OWN = frozenset((
    "limit", "marker", "offset", "sort", "sort_key", "sort_dir", "with_count", "all_tenants", "project_id",
    "is_public", "changes-since",
))  # fmt: skip
_OLD_NAMES = {"display_name": "name", "display_description": "description"}  # of sort keys, as before v2
_COMPARISONS = {"gt": ">", "gte": ">=", "eq": "=", "neq": "<>", "lt": "<", "lte": "<="}


@dataclass(frozen=True)
class Lister:
    """How one resource is listed."""

    fields: Fields
    table: Table[Any]
    collection: str  # in URLs
    columns: Mapping[str, str] = field(default_factory=dict)  # names whose column the fields do not say
    expressions: Mapping[str, str] = field(default_factory=dict)  # filters by SQL that is no column
    json: frozenset[str] = frozenset()  # filters by pairs of a JSON column
    times: frozenset[str] = frozenset()  # filters by comparison of times (3.60)
    likes: frozenset[str] = frozenset()  # filters with ~ for "contains" (3.34)
    strict: bool = True  # unknown filters are refused, from 3.31 on, to who is not administrator
    links: str = ""  # name of the page links; "": none are given

    def filters(self) -> list[str]:
        """The names that lists of this resource can be filtered by."""
        plain = {*self.fields.columns("q"), *self.expressions, *self.json, *self.times}
        return sorted(plain | {f"{name}~" for name in self.likes})

    def page(self, ctx: Context, query: Query, listing: Listing[Any] | None = None, *, below: str = "") -> Page:
        """One page of what the caller may see; `below` is where in the collection it stands ("/detail")."""
        found = listing or Listing(self.table)
        if "project_id" in self.table.columns:
            self._scope(ctx, query, found)
        for name in query.values:
            self._filter(ctx, name, query.values[name][-1], found)
        limit = query.number("limit", MOST)
        offset = query.number("offset", 0)
        marker = self._marker(ctx, query.one("marker"))
        size = min(limit, MOST)
        rows = found.page(ctx.tx, sort=self._sort(query), limit=size, marker=marker, offset=offset)
        beside: dict[str, Any] = {}
        if self.links and rows and len(rows) == size:
            beside[self.links] = [{"rel": "next", "href": self._next(ctx, query, rows[-1].id, below)}]
        if ctx.version >= (3, 45) and query.truth("with_count"):
            beside["count"] = found.count(ctx.tx)
        return Page(rows, beside)

    def _scope(self, ctx: Context, query: Query, found: Listing[Any]) -> None:
        """The caller's own project, unless an administrator asks for all or for one."""
        admin = ctx.allows("context_is_admin")
        if admin and query.one("project_id"):
            found.equals("project_id", [query.one("project_id")])
        elif not (admin and query.truth("all_tenants")):
            found.equals("project_id", [ctx.project_id])

    def _filter(self, ctx: Context, name: str, value: str, found: Listing[Any]) -> None:
        like = name.endswith("~")
        bare = name.removesuffix("~")
        columns = {**self.fields.columns("q"), **self.columns}
        if bare in self.json:
            self._pairs(found, columns.get(bare, bare), value)
        elif bare in self.times and ctx.version >= (3, 60):
            self._compare(found, columns.get(bare, bare), value)
        elif bare in self.expressions:
            found.where(f"({self.expressions[bare]}) = ?", value.lower())
        elif like and bare in self.likes and ctx.version >= (3, 34):
            escaped = value.replace("!", "!!").replace("%", "!%").replace("_", "!_")
            found.where(f"{self.table.name}.{columns[bare]} like ? escape '!'", f"%{escaped}%")
        elif bare in self.fields.columns("q") and not like:
            self._equal(found, columns[bare], value)
        elif bare not in _OUR_OWN and self.strict and ctx.version >= (3, 31) and not ctx.allows("context_is_admin"):
            raise BadRequest(f"Invalid filters {name[:80]} are found in query options.")

    def _equal(self, found: Listing[Any], column: str, value: str) -> None:
        hint = str(self.table.row.__annotations__.get(column, ""))
        if "bool" in hint:
            found.equals(column, [value.lower() in ("true", "1", "yes", "on", "t", "y")])
        elif "int" in hint:
            found.equals(column, [int(value)] if value.isascii() and value.isdigit() and len(value) < 10 else [])
        elif "float" in hint:
            try:
                found.equals(column, [parse_iso(value)])
            except ValueError:
                found.equals(column, [])  # no time is no time of any row
        else:
            found.equals(column, [value])

    def _pairs(self, found: Listing[Any], column: str, text: str) -> None:
        """A stored document is exact, so a pair is a substring of it."""
        for key, value in pairs_of(column, text).items():
            stored = self.table.value(column, {key: value})[1:-1]
            found.where(f"replace({self.table.name}.{column}, ?, '') <> {self.table.name}.{column}", stored)

    def _compare(self, found: Listing[Any], column: str, text: str) -> None:
        """`gt:2026-01-01T00:00:00,lt:…`"""
        for part in text.split(","):
            word, _, when = part.partition(":")
            try:
                found.where(f"{self.table.name}.{column} {_COMPARISONS[word]} ?", parse_iso(when))
            except (KeyError, ValueError):
                raise BadRequest(
                    f"Invalid value of the filter {column}: expected one of gt, gte, eq, neq, lt, lte, a colon and"
                    " an ISO 8601 time."
                ) from None

    def _marker(self, ctx: Context, marker: str | None) -> Any:
        if marker is None:
            return None
        row = self.table.get(ctx.tx, id=marker)
        if row is None or ("project_id" in self.table.columns and not sees(ctx, row.project_id)):
            raise NotFound(f"marker {marker[:80]} could not be found.")
        return row

    def _sort(self, query: Query) -> list[tuple[str, bool]]:
        """`sort=key:dir,key:dir`, or the older `sort_key` and `sort_dir`; newest first unless said otherwise."""
        known = {**self.fields.columns("s"), **{k: v for k, v in self.columns.items() if self._sorts(k)}}
        asked = query.one("sort")
        pairs = [p.partition(":") for p in asked.split(",")] if asked else []
        keys = [(k.strip(), d.strip() or "desc") for k, _, d in pairs]
        if not keys:
            keys = [(query.one("sort_key") or "created_at", query.one("sort_dir") or "desc")]
        sort = []
        for asked_key, direction in keys:
            key = _OLD_NAMES.get(asked_key, asked_key)
            if key not in known:
                raise BadRequest(f"Invalid sort key: {key[:80]}. Choose from: {', '.join(sorted(known))}.")
            if direction not in ("asc", "desc"):
                raise BadRequest(f"Invalid sort direction: {direction[:80]}. Choose asc or desc.")
            sort.append((known[key], direction == "desc"))
        return sort if sort[-1][0] == "id" else [*sort, ("id", sort[-1][1])]

    def _sorts(self, name: str) -> bool:
        return any(f.name == name and "s" in f.on for f in self.fields.fields)

    def _next(self, ctx: Context, query: Query, last: str, below: str) -> str:
        asked = [(k, v) for k, values in query.values.items() if k not in ("marker", "offset") for v in values]
        return f"{ctx.url}/v3/{self.collection}{below}?{urlencode([*asked, ('marker', last)])}"


def pairs_of(name: str, text: str) -> dict[str, str]:
    """Pairs as Python or JSON writes them, from a query; raises BadRequest."""
    try:
        pairs = ast.literal_eval(text) if len(text) <= 8192 else None
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        pairs = None
    if not isinstance(pairs, dict):
        raise BadRequest(f"Invalid value of the filter {name}: expected {{'key': 'value'}}.")
    return {str(key): str(value) for key, value in pairs.items()}
