"""The compute API (Nova v2.1): its place, error body, shared rules, links, pages and number formats.

Source: Compute API reference, "Faults", "Paginated collections", "Links and references".
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Problem
from pileus.core.fields import parse_version
from pileus.core.op import Page, Service
from pileus.core.paging import Listing, Query, Sort
from pileus.core.schema import Schema
from pileus.db.connect import Tx

R = TypeVar("R", bound=Struct)

_FAULTS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}


def problem(error: Problem, _request_id: str) -> dict[str, Any]:
    """Compute's error body: the name of the fault, then its code and message."""
    fault: dict[str, Any] = {"code": error.status, "message": error.message}
    if error.status in (413, 429):
        fault["retryAfter"] = error.headers.get("retry-after", "0")
    return {_FAULTS.get(error.status, "computeFault"): fault}


COMPUTE = Service(
    "compute",
    "nova",
    "/compute",
    "/v2.1",
    problem=problem,
    versions=("2.1", "2.104"),
    version_header="compute",
    legacy_header="x-openstack-nova-api-version",
    empty_ids=False,
)
COMPUTE.rule("context_is_admin", "role:admin")
COMPUTE.rule("admin_api", "role:admin")
COMPUTE.rule("service_api", "role:service")
COMPUTE.rule("project_reader_api", "role:reader and project_id:%(project_id)s")
COMPUTE.rule("project_member_api", "role:member and project_id:%(project_id)s")
COMPUTE.rule("project_manager_api", "role:manager and project_id:%(project_id)s")
COMPUTE.rule("project_reader_or_admin", "rule:project_reader_api or rule:context_is_admin")
COMPUTE.rule("project_member_or_admin", "rule:project_member_api or rule:context_is_admin")
COMPUTE.rule("project_manager_or_admin", "rule:project_manager_api or rule:context_is_admin")
COMPUTE.rule("service_or_admin", "rule:service_api or rule:context_is_admin")

ADMIN = "rule:context_is_admin"
READER = "rule:project_reader_or_admin"
MEMBER = "rule:project_member_or_admin"
MANAGER = "rule:project_manager_or_admin"
SERVICE_OR_ADMIN = "rule:service_or_admin"

PAGE_LIMIT = 1000  # the most that one page of a list holds

NAME: Schema = {
    "type": "string", "minLength": 1, "maxLength": 255, "format": "name", "pattern": r"^(?!\s)[^\n]*(?<!\s)$"
}  # fmt: skip
# Numbers may come as strings of digits; `int` reads both.
WHOLE: Schema = {"type": ["integer", "string"], "pattern": "^[0-9]{1,10}$", "minimum": 0, "maximum": 0x7FFFFFFF}
HOST: Schema = {"type": "string", "pattern": "^[a-zA-Z0-9-._]*$", "minLength": 1, "maxLength": 255}
PROJECT: Schema = {"type": "string", "pattern": "^[a-zA-Z0-9-]*$", "minLength": 1, "maxLength": 255}


def whole(value: int | str, field: str, *, least: int = 0) -> int:
    """The number that a WHOLE holds; raises BadRequest naming the field when it is out of range."""
    number = int(value)
    if not least <= number <= 0x7FFFFFFF:
        raise BadRequest(
            f"Invalid input for field/attribute {field}. Value: {number}. "
            f"{number} must be between {least} and {0x7FFFFFFF}."
        )
    return number


def envelope(inner: Mapping[str, Any], key: str, *required: str) -> Schema:
    """The schema of a body with one envelope, in which nothing unknown may stand."""
    body = {"type": "object", "properties": dict(inner), "required": list(required), "additionalProperties": False}
    return {"type": "object", "properties": {key: body}, "required": [key], "additionalProperties": False}


def links(ctx: Context, path: str) -> list[dict[str, str]]:
    """The self and bookmark links of a resource, `path` being such as "flavors/42"."""
    return [{"rel": "self", "href": f"{ctx.url}/v2.1/{path}"}, {"rel": "bookmark", "href": f"{ctx.url}/{path}"}]


def refuse_unknown(ctx: Context, query: Query, *known: str, since: str = "2.102") -> None:
    """Raise BadRequest for query parameters that an operation does not know, where its version is that strict.

    Source: microversions 2.75 (the operations that it names) and 2.102 (all others).
    """
    if ctx.version < parse_version(since):
        return
    for name in query.values:
        if name not in known:
            raise BadRequest(
                f"Additional query parameters are not allowed: {name[:80]!r} was unexpected. "
                f"Allowed here: {', '.join(known) or 'none'}."
            )


def page_limit(query: Query) -> int:
    """How many the client wants at most, capped by PAGE_LIMIT; raises BadRequest."""
    return min(query.number("limit", PAGE_LIMIT), PAGE_LIMIT)


def next_link(ctx: Context, path: str, query: Query, rows: Sequence[Any], marker: str) -> dict[str, Any]:
    """`{"flavors_links": [...]}`'s value under its key when the page is full, else nothing to add."""
    limit = page_limit(query)
    if not limit or len(rows) < limit:
        return {}
    kept = [(name, value) for name, values in query.values.items() if name != "marker" for value in values]
    href = f"{ctx.url}/v2.1/{path}?{urlencode([*kept, ('marker', marker)])}"
    return {f"{path.split('/')[0].removeprefix('os-').replace('-', '_')}_links": [{"rel": "next", "href": href}]}


def paged(
    ctx: Context, listing: Listing[R], query: Query, path: str, *, sort: Sort, key: str = "id", marker: R | None = None
) -> Page:
    """One page in order, with the link to the next; `marker` is the row that the client named."""
    limit = page_limit(query)
    rows = listing.page(ctx.tx, sort=sort, limit=limit, marker=marker)
    return Page(rows, next_link(ctx, path, query, rows, str(getattr(rows[-1], key)) if rows else ""))


def next_number(tx: Tx, what: str) -> int:
    """The next of the small integers that some resources are known by, counted by kind and never used again."""
    row = tx.one(
        "insert into facts (name, value) values (?, '1') on conflict (name) do update"
        " set value = cast(cast(facts.value as bigint) + 1 as text) returning value",
        f"compute/{what}",
    )
    assert row is not None, "an insert that returns gives a row"
    return int(row[0])
