"""Lists of servers: filters, order and pages.  Source: Compute API reference, "List Servers".

Everything is filtered in SQL but what is derived (states, addresses): that is compared in chunks of rows,
until a page is full.
"""

import json
from collections.abc import Callable
from typing import Any

from pileus.compute.server.fields import Shown, present
from pileus.compute.server.patterns import Pattern
from pileus.compute.server.rows import SERVERS, Server
from pileus.compute.server.states import STATUSES
from pileus.compute.service import ADMIN, COMPUTE, next_link, page_limit, refuse_unknown
from pileus.core.clock import parse_iso
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden
from pileus.core.ids import is_uuid
from pileus.core.op import Page
from pileus.core.paging import Listing, Query, Sort

ALL_FILTERS = COMPUTE.rule("os_compute_api:servers:allow_all_filters", ADMIN)
_JOINED = ("block_device_mapping", "services", "metadata", "system_metadata", "info_cache", "security_groups",
           "pci_devices")  # fmt: skip
_EXACT = {
    "user_id": "user_id", "project_id": "project_id", "image": "image_id", "image_ref": "image_id",
    "key_name": "key_name", "host": "node_name", "node": "node_name", "reservation_id": "reservation_id",
    "availability_zone": "node_zone", "access_ip_v4": "access_ip_v4", "access_ip_v6": "access_ip_v6",
    "auto_disk_config": "disk_config", "uuid": "id", "launch_index": "launch_index",
}  # fmt: skip
_PATTERNS = {"name": "name", "display_name": "name", "description": "description", "hostname": "hostname",
             "display_description": "description"}  # fmt: skip
_EVERYBODY = frozenset({
    "name", "status", "flavor", "image", "image_ref", "changes-since", "changes-before", "all_tenants", "ip", "ip6",
    "reservation_id", "tags", "tags-any", "not-tags", "not-tags-any", "availability_zone", "config_drive", "key_name",
    "created_at", "launched_at", "terminated_at", "power_state", "task_state", "vm_state", "progress", "user_id",
    "host_status",
})  # fmt: skip
_NOT_BEFORE_275 = frozenset({
    "availability_zone", "config_drive", "key_name", "created_at", "launched_at", "terminated_at", "power_state",
    "task_state", "vm_state", "progress", "user_id",
})  # fmt: skip
_OTHERS = frozenset({*_EXACT, *_PATTERNS, *_JOINED, "limit", "marker", "sort_key", "sort_dir", "deleted", "locked",
                     "soft_deleted", "tenant_id", "locked_by", "kernel_id", "ramdisk_id",
                     "root_device_name"})  # fmt: skip
_SORT = {
    "access_ip_v4": "access_ip_v4", "access_ip_v6": "access_ip_v6", "auto_disk_config": "disk_config",
    "availability_zone": "node_zone", "config_drive": "config_drive", "created_at": "created_at",
    "display_description": "description", "display_name": "name", "host": "node_name", "hostname": "hostname",
    "image_ref": "image_id", "instance_type_id": "vcpus", "key_name": "key_name", "launch_index": "launch_index",
    "launched_at": "launched_at", "locked": "locked", "locked_by": "locked", "node": "node_name",
    "power_state": "power", "project_id": "project_id", "task_state": "task", "updated_at": "moved_at",
    "user_id": "user_id", "uuid": "id", "vm_state": "power", "kernel_id": "id", "progress": "id",
    "ramdisk_id": "id", "root_device_name": "id", "terminated_at": "id",
}  # fmt: skip
_IGNORED_SORT = frozenset({
    "architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device", "deleted",
    "deleted_at", "disable_terminate", "ephemeral_gb", "ephemeral_key_uuid", "id", "key_data", "launched_on",
    "memory_mb", "os_type", "reservation_id", "root_gb", "shutdown_terminate", "user_data", "vcpus", "vm_mode",
})  # fmt: skip
_TAGGED = "(select count(*) from server_tags t where t.server_id = servers.id and t.tag in ({marks}))"
_POWER = {"0": "", "1": "on", "3": "paused", "4": "off", "6": "crashed", "7": "suspended"}
_CHUNK = 200


def find(ctx: Context, query: Query, path: str, *, detail: bool, all_tenants: str) -> Page:
    """One page of servers as the query asks for."""
    _refuse(ctx, query)
    listing = Listing(SERVERS)
    wide = ctx.allows(ALL_FILTERS, {"project_id": ctx.caller.project_id})
    _scope(ctx, query, listing, all_tenants)
    keep = _filter(ctx, query, listing, wide=wide)
    limit = page_limit(query)
    servers, more = _pages(ctx, listing, _sort(ctx, query, wide=wide), _marker(ctx, query), limit, keep)
    rows = present(ctx, servers, brief=not detail)
    beside = next_link(ctx, path, query, servers, servers[-1].id) if servers and more else {}
    return Page(rows, beside)


def _refuse(ctx: Context, query: Query) -> None:
    for name in query.values:
        if name in _JOINED or name.startswith("_"):
            raise BadRequest(f"Invalid filter field: {name[:80]}.")
    refuse_unknown(ctx, query, *sorted(_EVERYBODY | _OTHERS), since="2.75")


def _scope(ctx: Context, query: Query, listing: Listing[Server], all_tenants: str) -> None:
    """Whose servers: the caller's project's, or everybody's."""
    given = query.one("all_tenants")
    every = given is not None and query.truth("all_tenants")
    if every:
        ctx.enforce(all_tenants, {"project_id": ctx.caller.project_id})
        project = query.one("project_id") or query.one("tenant_id")
        if project:
            listing.equals("project_id", [project])
    else:
        listing.equals("project_id", [ctx.project_id])
    if query.one("deleted") is not None and query.truth("deleted"):
        listing.where("1 = 0")  # a deleted server leaves no row; its history stays


Keep = Callable[[Shown], bool]


def _filter(ctx: Context, query: Query, listing: Listing[Server], *, wide: bool) -> Keep | None:
    """Add what SQL can compare; what it cannot comes back as a function, None when there is nothing of it."""
    allowed = _EVERYBODY if ctx.version >= (2, 75) else _EVERYBODY - _NOT_BEFORE_275
    names = {name for name in query.values if wide or name in allowed}
    for name in names & set(_EXACT) - {"project_id"}:
        _exact(listing, name, query.all(name))
    for name in names & set(_PATTERNS):
        _narrow(listing, _PATTERNS[name], Pattern(query.one(name) or "").literal)
    if "flavor" in names:
        _flavor(listing, query.one("flavor") or "")
    if "locked" in query and ctx.version >= (2, 73):
        listing.where("servers.locked <> ''" if query.truth("locked") else "servers.locked = ''")
    if "config_drive" in names:
        listing.equals("config_drive", [query.truth("config_drive")])
    _times(query, listing, ctx)
    _tags(query, listing)
    return _derived(ctx, query, names, listing)


def _exact(listing: Listing[Server], name: str, values: list[str]) -> None:
    if name == "launch_index":
        listing.equals("launch_index", [int(v) for v in values if v.isdigit() and len(v) < 10])
    else:
        listing.equals(_EXACT[name], values)


def _narrow(listing: Listing[Server], column: str, part: str) -> None:
    """Let the database leave out what cannot fit."""
    if part:
        escaped = part.replace("!", "!!").replace("%", "!%").replace("_", "!_")
        listing.where(f"servers.{column} like ? escape '!'", f"%{escaped}%")


def _pattern(column: str, text: str) -> Keep | None:
    """What the database could not compare; None when it could."""
    pattern = Pattern(text)
    return None if pattern.plain else lambda row: pattern.found_in(getattr(row.server, column) or "")


def _flavor(listing: Listing[Server], reference: str) -> None:
    """The flavor is part of the row's document, where `"id":"…"` comes first."""
    flavor_id = reference.rstrip("/").rpartition("/")[2]
    start = json.dumps({"id": flavor_id}, separators=(",", ":"), ensure_ascii=False)[:-1]
    escaped = start.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    listing.where("servers.flavor like ? escape '!'", escaped + ",%")


def _times(query: Query, listing: Listing[Server], ctx: Context) -> None:
    changed = "case when servers.moved_at > servers.changed_at then servers.moved_at else servers.changed_at end"
    bounds: dict[str, float] = {}
    for name, sign in (("changes-since", ">="), ("changes-before", "<=")):
        if name not in query or (name == "changes-before" and ctx.version < (2, 66)):
            continue
        try:
            bounds[name] = parse_iso(query.one(name) or "")
        except ValueError:
            raise BadRequest(
                f"Invalid input for query parameters {name}. Value: {query.one(name)}. It is no date-time."
            ) from None
        listing.where(f"{changed} {sign} ?", bounds[name])
    if bounds.get("changes-since", 0.0) > bounds.get("changes-before", float("inf")):
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")


def _tags(query: Query, listing: Listing[Server]) -> None:
    for name, comparison in (("tags", "= {n}"), ("tags-any", "> 0"), ("not-tags", "< {n}"), ("not-tags-any", "= 0")):
        if name in query:
            wanted = list(dict.fromkeys((query.one(name) or "").split(",")))
            sql = _TAGGED.format(marks=", ".join("?" * len(wanted))) + " " + comparison.format(n=len(wanted))
            listing.where(sql, *wanted)


def _derived(ctx: Context, query: Query, names: set[str], listing: Listing[Server]) -> Keep | None:
    """Comparisons with what follows from several columns."""
    patterns = (_pattern(_PATTERNS[name], query.one(name) or "") for name in names & set(_PATTERNS))
    tests: list[Keep] = [test for test in patterns if test is not None]
    if "status" in query:
        statuses = {s.upper() for s in query.all("status")}
        if statuses & {"DELETED", "SOFT_DELETED"} and not ctx.allows("context_is_admin"):
            raise Forbidden("Only administrators may list deleted instances")
        if not statuses & (STATUSES | {"DELETED", "SOFT_DELETED"}) and ctx.version >= (2, 38):
            raise BadRequest("Invalid status value")
        tests.append(lambda row: row.state.status in statuses)
    for name in names & {"vm_state", "task_state"}:
        values = set(query.all(name))
        tests.append(lambda row, name=name, values=values: str(getattr(row.state, name)) in values)  # type: ignore[misc]  # defaults bind the loop's values, whose types mypy does not infer
    if "power_state" in names:
        powers = [_POWER.get(value, value) for value in query.all("power_state")]
        tests.append(lambda row: row.server.seen.power in powers)
    for name, version in (("ip", 4), ("ip6", 6)):
        if name in names:
            tests.append(_has_address(query.one(name) or "", version))
    return (lambda row: all(test(row) for test in tests)) if tests else None


def _has_address(text: str, version: int) -> Keep:
    """An address that holds the text or fits the expression, as upstream compares them."""
    pattern = Pattern(text)

    def test(row: Shown) -> bool:
        found = [ip for port in row.ports for ip in port.fixed_ips if (":" in ip) == (version == 6)]
        return any(pattern.found_in(ip) for ip in found)

    return test


def _sort(ctx: Context, query: Query, *, wide: bool) -> Sort:
    """Newest first, unless the query says otherwise; the id breaks ties."""
    keys, directions = query.all("sort_key"), query.all("sort_dir")
    ignored = _IGNORED_SORT | (frozenset() if ctx.version >= (2, 73) else {"locked"})
    found: list[tuple[str, bool]] = []
    for number, key in enumerate(keys):
        direction = directions[number] if number < len(directions) else directions[-1] if directions else "desc"
        if direction not in ("asc", "desc"):
            raise BadRequest(f"Invalid input for query parameters sort_dir. Value: {direction[:80]}.")
        if key in ignored and ctx.version < (2, 75):
            continue
        if key not in _SORT:
            raise BadRequest(f"Invalid input for query parameters sort_key. Value: {key[:80]}.")
        if key in ("host", "node") and not wide:
            raise Forbidden("Only administrators can sort servers by " + key)
        found.append((_SORT[key], direction == "desc"))
    found = found or [("created_at", True)]
    down = found[-1][1]
    return [*found, *([("id", down)] if all(column != "id" for column, _ in found) else [])]


def _marker(ctx: Context, query: Query) -> Server | None:
    marker = query.one("marker")
    if marker is None:
        return None
    row = SERVERS.get(ctx.tx, id=marker) if is_uuid(marker) else None
    if row is None or not (row.project_id == ctx.caller.project_id or ctx.allows("context_is_admin")):
        raise BadRequest(f"marker [{marker[:80]}] not found")
    return row


def _pages(
    ctx: Context, listing: Listing[Server], sort: Sort, marker: Server | None, limit: int, keep: Keep | None
) -> tuple[list[Server], bool]:
    """As many rows as the limit, and whether there may be more of them."""
    if keep is None:
        rows = listing.page(ctx.tx, sort=sort, limit=limit, marker=marker)
        return rows, len(rows) == limit
    found: list[Server] = []
    while len(found) < limit:
        chunk = listing.page(ctx.tx, sort=sort, limit=_CHUNK, marker=marker)
        found += [row.server for row in present(ctx, chunk) if keep(row)]
        if len(chunk) < _CHUNK:
            return found[:limit], len(found) >= limit
        marker = chunk[-1]
    return found[:limit], True


def columns() -> dict[str, Any]:
    """Query parameter → column of the filters that compare with one column (for the API reference)."""
    return dict(_EXACT)
