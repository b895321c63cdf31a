"""Migrations: changes of size or place.  Source: Compute API reference, "Migrations", "Server migrations"."""

from typing import Any

from pileus.compute.server.access import load_server
from pileus.compute.server.rows import MIGRATIONS, Migration, Server
from pileus.compute.service import ADMIN, COMPUTE, MANAGER, next_link, page_limit, refuse_unknown
from pileus.core.clock import iso_micro, parse_iso
from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.fields import Field, Fields
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Listing, Query

_RULE = "os_compute_api:os-migrations:index"
ALL_PROJECTS = COMPUTE.rule(f"{_RULE}:all_projects", ADMIN)
HOSTS = COMPUTE.rule("os_compute_api:os-migrations:index:host", ADMIN)
_STATUS = {"queued": "pre-migrating", "migrating": "migrating", "finished": "finished", "reverting": "reverting"}


def status_of(row: Migration) -> str:
    """Upstream's word for the state of a migration."""
    if row.state == "finished" and row.wish:
        return "confirming" if row.wish == "confirm" else "reverting"
    return _STATUS.get(row.state, row.state)


def _host(column: str) -> Any:
    return lambda row, ctx: getattr(row, column) if ctx.allows(HOSTS, row) else None


MIGRATION = Fields(
    "migration",
    "migrations",
    (
        Field("id", "r", get="number"),
        Field("uuid", "r", get="id", since="2.59"),
        Field("status", "r", get=lambda row, _ctx: status_of(row)),
        Field("instance_uuid", "r", get="server_id"),
        Field("source_node", "r", get=_host("source_name")),
        Field("source_compute", "r", get=_host("source_name")),
        Field("dest_node", "r", get=_host("dest_name")),
        Field("dest_compute", "r", get=_host("dest_name")),
        Field("dest_host", "r", get=lambda _row, _ctx: None),
        Field("old_instance_type_id", "r", get=lambda _row, _ctx: None),
        Field("new_instance_type_id", "r", get=lambda _row, _ctx: None),
        Field("migration_type", "r", get="type", since="2.23"),
        Field("created_at", "r", get=lambda row, _ctx: iso_micro(row.created_at)),
        Field("updated_at", "r", get=lambda row, _ctx: iso_micro(row.updated_at)),
        Field("user_id", "r", since="2.80"),
        Field("project_id", "r", since="2.80"),
    ),
)
_STATES = {word: state for state, word in _STATUS.items()}
_FILTERS = ("hidden", "host", "instance_uuid", "source_compute", "status", "migration_type", "limit", "marker",
            "changes-since", "changes-before", "user_id", "project_id")  # fmt: skip


@COMPUTE.op("GET", "/os-migrations", rule=_RULE, allow=MANAGER, load=collection, gives=Many(MIGRATION))
def list_migrations(ctx: Context, query: Query) -> Page:
    """List migrations: of all projects for administrators, of its own for a manager who names it."""
    refuse_unknown(ctx, query, *_FILTERS, since="2.59")
    listing = Listing(MIGRATIONS)
    project = query.one("project_id") if ctx.version >= (2, 80) else None
    if project is None or project != ctx.caller.project_id:
        ctx.enforce(ALL_PROJECTS)
    if project is not None:
        listing.equals("project_id", [project])
    _filter(query, listing)
    marker = query.one("marker")
    row = MIGRATIONS.get(ctx.tx, id=marker) if marker else None
    if marker and row is None:
        raise BadRequest(f"Marker {marker[:80]} could not be found.")
    rows = listing.page(ctx.tx, sort=[("number", True)], limit=page_limit(query), marker=row)
    paged = ctx.version >= (2, 59) and rows
    return Page(rows, next_link(ctx, "os-migrations", query, rows, rows[-1].id) if paged else {})


def _filter(query: Query, listing: Listing[Migration]) -> None:
    for name, column in (("instance_uuid", "server_id"), ("source_compute", "source_name"), ("migration_type", "type"),
                         ("user_id", "user_id")):  # fmt: skip
        if name in query:
            listing.equals(column, query.all(name))
    if "status" in query:
        listing.equals("state", [_STATES.get(status, status) for status in query.all("status")])
    if host := query.one("host"):
        listing.where("server_migrations.source_name = ? or server_migrations.dest_name = ?", host, host)
    times = []
    for name, sign in (("changes-since", ">="), ("changes-before", "<=")):
        if name in query:
            try:
                times.append(parse_iso(query.one(name) or ""))
            except ValueError:
                raise BadRequest(f"Invalid input for query parameters {name}. It is no date-time.") from None
            listing.where(f"coalesce(server_migrations.updated_at, server_migrations.created_at) {sign} ?", times[-1])
    if len(times) == 2 and times[0] > times[1]:
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")


_SERVER_RULE = "os_compute_api:servers:migrations"
_PATH = "/servers/{server_id}/migrations"


@COMPUTE.op("GET", _PATH, rule=f"{_SERVER_RULE}:index", allow=MANAGER, load=load_server, since="2.23")
def list_server_migrations(server: Server) -> Reply:
    """List live migrations under way: there are none."""
    return Reply({"migrations": []})


@COMPUTE.op("GET", f"{_PATH}/{{number}}", rule=f"{_SERVER_RULE}:show", allow=ADMIN, load=load_server, since="2.23")
def show_server_migration(server: Server, number: str) -> Reply:
    """Show a live migration under way: there are none."""
    raise NotFound(f"Migration {number[:40]} for server {server.id} is not found or not in progress.")


@COMPUTE.op(
    "DELETE", f"{_PATH}/{{number}}", rule=f"{_SERVER_RULE}:delete", allow=MANAGER, load=load_server, ok=202,
    since="2.24",
)  # fmt: skip
def abort_server_migration(server: Server, number: str) -> Reply:
    """Abort a live migration: there are none."""
    raise NotFound(f"Migration {number[:40]} for server {server.id} is not found or not in progress.")


@COMPUTE.op(
    "POST", f"{_PATH}/{{number}}/action", rule=f"{_SERVER_RULE}:force_complete", allow=MANAGER, load=load_server,
    action="force_complete", ok=202, since="2.22",
)  # fmt: skip
def force_complete(server: Server, number: str) -> Reply:
    """Let a live migration end: there are none."""
    raise BadRequest(f"Migration {number[:40]} for server {server.id} is not in progress.")
