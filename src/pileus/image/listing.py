"""The query language of image lists.  Source: Image API reference v2, "List images"."""

import re
from urllib.parse import urlencode

from pileus.core.clock import parse_iso
from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.paging import Listing, Query
from pileus.image.access import load_image, sees_all
from pileus.image.fields import COLUMNS, IMAGE_FIELDS, MEMBER_STATUSES, VISIBILITIES
from pileus.image.rows import IMAGES, Image

LIMIT, MOST = 25, 1000
_SORTS = {**IMAGE_FIELDS.columns("s"), "owner": "project_id"}
_TEXTS = ("id", "name", "status", "disk_format", "container_format", "checksum")
_COMPARED = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_OWN_WORDS = frozenset({
    "limit", "marker", "sort", "sort_key", "sort_dir", "visibility", "member_status", "owner", "tag", "size_min",
    "size_max", "size", "min_disk", "min_ram", "protected", "os_hidden", "os_hash_value", "created_at", "updated_at",
    *_TEXTS,
})  # fmt: skip


def find(ctx: Context, query: Query) -> tuple[list[Image], int]:
    """The images that a query asks for, and the limit that it was answered with; raises BadRequest."""
    listing = Listing(IMAGES).where("images.deleting = 0")
    _limit_to_visible(ctx, listing, query)
    _filter_columns(listing, query)
    _filter_tags_and_properties(listing, query)
    limit = min(MOST, query.number("limit", LIMIT))
    marker = _marker(ctx, query)
    return listing.page(ctx.tx, sort=_sort(query), limit=limit, marker=marker), limit


def next_link(query: Query, rows: list[Image], limit: int) -> str | None:
    """Where the next page is, None after the last."""
    if not rows or len(rows) < limit:
        return None
    kept = [(name, value) for name in query.values if name != "marker" for value in query.all(name)]
    return "/v2/images?" + urlencode([*kept, ("marker", rows[-1].id)])


def first_link(query: Query) -> str:
    """Where the first page is."""
    kept = [(name, value) for name in query.values if name != "marker" for value in query.all(name)]
    return "/v2/images" + ("?" + urlencode(kept) if kept else "")


def _limit_to_visible(ctx: Context, listing: Listing[Image], query: Query) -> None:
    """Own, public and accepted images; others as `visibility` and `member_status` ask for."""
    status = query.one("member_status", "accepted") or ""
    if status not in (*MEMBER_STATUSES, "all"):
        raise BadRequest(f"Invalid status: {status[:40]}; it must be one of {', '.join(MEMBER_STATUSES)}, all.")
    visibility = query.one("visibility")
    if visibility is not None and visibility not in (*VISIBILITIES, "all"):
        raise BadRequest(f"Invalid visibility value: {visibility[:40]}; it must be one of {', '.join(VISIBILITIES)}.")
    if visibility not in (None, "all"):
        listing.where("images.visibility = ?", visibility)
    hidden = query.truth("os_hidden")
    listing.where("images.hidden = ?", int(hidden))
    if sees_all(ctx) and "member_status" not in query:
        return
    project = ctx.caller.project_id or ""
    shared = "select 1 from image_members m where m.image_id = images.id and m.member_id = ?"
    params: list[str] = [project, project]
    if status != "all":
        shared += " and m.status = ?"
        params.append(status)
    terms = [
        "images.project_id = ?",
        f"(images.visibility = 'shared' and exists ({shared}))",
        "images.visibility = 'public'",
    ]
    if visibility in ("community", "all"):
        terms.append("images.visibility = 'community'")
    listing.where(" or ".join(terms), *params)


def _filter_columns(listing: Listing[Image], query: Query) -> None:
    for name in (*_TEXTS, "owner", "os_hash_value"):
        for value in query.all(name):
            column = {**COLUMNS, "os_hash_value": "hash_value"}.get(name, name)
            listing.equals(column, _words(value, name))
    for name, column, operator in (
        ("size", "size", "="), ("size_min", "size", ">="), ("size_max", "size", "<="),
        ("min_disk", "min_disk", "="), ("min_ram", "min_ram", "="),
    ):  # fmt: skip
        if name in query:
            listing.where(f"images.{column} {operator} ?", query.number(name, 0, most=1 << 62))
    if "protected" in query:
        listing.where("images.protected = ?", int(query.truth("protected")))
    for name in ("created_at", "updated_at"):
        for value in query.all(name):
            operator, at = _moment(name, value)
            listing.where(f"images.{name} {operator} ?", at)


def _words(value: str, name: str) -> list[str]:
    """One value, or the several of `in:a,"b,c"`."""
    if not value.startswith("in:") or name not in ("id", "name", "status", "disk_format", "container_format"):
        return [value]
    rest = value.removeprefix("in:")
    if not re.fullmatch(r'("[^"]*"|[^",]*)(,("[^"]*"|[^",]*))*', rest):
        raise BadRequest(f"Invalid filter value {value[:80]}: quotes must enclose whole values.")
    return [word.strip('"') for word in re.findall(r'"[^"]*"|[^",]+', rest)]


def _moment(name: str, value: str) -> tuple[str, float]:
    """`gt:2026-01-01T00:00:00Z`; without an operator the moment itself."""
    operator, colon, rest = value.partition(":")
    if not colon or operator not in _COMPARED:
        operator, rest = "eq", value
    try:
        return _COMPARED[operator], parse_iso(rest)
    except ValueError:
        raise BadRequest(f"Invalid time for {name}: {value[:80]}. Expected OPERATOR:YYYY-MM-DDTHH:MM:SSZ.") from None


def _filter_tags_and_properties(listing: Listing[Image], query: Query) -> None:
    """Both are JSON text; an unescaped quote begins a string only after `[`, `{` or `,`, so this is exact."""
    for tag in query.all("tag"):
        _holds(listing, "tags", "[", _quoted(tag))
    for name in query.values:
        if name not in _OWN_WORDS:
            for value in query.all(name):
                _holds(listing, "properties", "{", f"{_quoted(name)}:{_quoted(value)}")


def _holds(listing: Listing[Image], column: str, bracket: str, text: str) -> None:
    """Whether a text occurs in a column, as `replace` tells on every engine and in either case."""
    term = f"replace(images.{column}, ?, '') <> images.{column}"
    listing.where(f"{term} or {term}", bracket + text, "," + text)


def _quoted(text: str) -> str:
    return IMAGES.value("tags", [text])[1:-1]  # type: ignore[no-any-return]  # `value` gives text for a list


def _sort(query: Query) -> list[tuple[str, bool]]:
    """`sort=name:asc,size` or repeated sort_key and sort_dir; newest first without either."""
    if "sort" in query:
        if "sort_key" in query or "sort_dir" in query:
            raise BadRequest("Old and new sorting syntax cannot be combined.")
        pairs = [part.strip().partition(":")[::2] for part in (query.one("sort") or "").split(",")]
    else:
        keys, directions = query.all("sort_key"), query.all("sort_dir")
        if len(directions) > max(1, len(keys)):
            raise BadRequest("Number of sort dirs does not match the number of sort keys.")
        given = dict(enumerate(directions))
        last = directions[0] if len(directions) == 1 else ""
        pairs = [(key, given.get(i, last)) for i, key in enumerate(keys or ["created_at"])]
    chosen = [(_sort_key(key), _is_down(direction)) for key, direction in pairs]
    down = chosen[0][1] if chosen else True
    rest = [(name, down) for name in ("created_at", "id") if name not in [key for key, _ in chosen]]
    return [*chosen, *rest]


def _sort_key(key: str) -> str:
    if key not in _SORTS:
        raise BadRequest(f"Invalid sort key: {key[:40]}. It must be one of {', '.join(sorted(_SORTS))}.")
    return _SORTS[key]


def _is_down(direction: str) -> bool:
    if direction not in ("", "asc", "desc"):
        raise BadRequest(f"Invalid sort direction: {direction[:40]}. It must be asc or desc.")
    return direction != "asc"


def _marker(ctx: Context, query: Query) -> Image | None:
    marker = query.one("marker")
    if marker is None:
        return None
    try:
        return load_image(ctx, marker)
    except NotFound:
        raise BadRequest(f"No image found with ID {marker[:80]}: it cannot be the marker.") from None
