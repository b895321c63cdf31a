"""Usage of projects over a time: server hours, and what they had.  Source: Compute API reference, "Usage reports".

Servers that live are read as they are; of those that are gone, `end` keeps a line.
"""

from datetime import datetime
from typing import Any

from msgspec import Struct, structs

from pileus.compute.server.rows import SERVERS, Server
from pileus.compute.server.states import shown
from pileus.compute.service import ADMIN, COMPUTE, PAGE_LIMIT, READER, next_link, page_limit, refuse_unknown
from pileus.core.clock import iso_micro, parse_iso
from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.op import collection
from pileus.core.paging import Query
from pileus.db.connect import Tx
from pileus.db.rows import Table

_RULE = "os_compute_api:os-simple-tenant-usage"
NOW = 0.001  # seconds: without times, the period is the present moment
KEPT_SECONDS = 366 * 86400.0  # that lines of servers that are gone stay


class EndedServer(Struct, frozen=True, kw_only=True):
    """A server that is gone: what it had, and how long."""

    id: str
    project_id: str
    name: str
    flavor: str
    vcpus: int
    ram_mib: int
    disk_gib: int
    started_at: float
    ended_at: float


ENDED = Table(EndedServer, "ended_servers")


def end(tx: Tx, server: EndedServer) -> None:
    """Keep the line of a server that goes now; a repeated step changes nothing."""
    ENDED.delete(tx, id=server.id)
    ENDED.insert(tx, server)
    tx.run("delete from ended_servers where ended_at < ?", server.ended_at - KEPT_SECONDS)


class Span(Struct, frozen=True, kw_only=True):
    """One server within the period."""

    id: str
    project_id: str
    name: str
    flavor: str
    vcpus: int
    ram_mib: int
    disk_gib: int
    started_at: float
    ended_at: float | None
    state: str

    def hours(self, start: float, stop: float) -> float:
        """How long it ran within the period."""
        until = stop if self.ended_at is None else min(self.ended_at, stop)
        return max(until - max(self.started_at, start), 0.0) / 3600.0


class Period(Struct, frozen=True, kw_only=True):
    """What a request asks for."""

    start: float
    stop: float
    detailed: bool


def _period(ctx: Context, query: Query) -> Period:
    """The times of a request, `end` being at most now; raises BadRequest."""
    refuse_unknown(ctx, query, "start", "end", "detailed", "limit", "marker", since="2.75")
    start, stop = _time(query.one("start"), ctx.now - NOW), _time(query.one("end"), ctx.now)
    if start >= stop:
        raise BadRequest("Invalid start time. The start time cannot occur after the end time.")
    return Period(start=start, stop=min(stop, ctx.now), detailed=query.one("detailed") == "1")


def _time(text: str | None, now: float) -> float:
    if not text:
        return now
    try:
        at = parse_iso(text)
        datetime.fromtimestamp(at)  # noqa: DTZ006 (only whether it is one)
    except (ValueError, OverflowError, OSError):
        raise BadRequest(f"Datetime is in invalid format: {text[:80]!r}") from None
    return at


def _spans(tx: Tx, period: Period, project_id: str | None) -> list[Span]:
    """The servers that ran within the period, oldest first."""
    who, params = ("", []) if project_id is None else (" and project_id = ?", [project_id])
    living = SERVERS.query(tx, f"where launched_at is not null and launched_at < ?{who}", period.stop, *params)
    gone = ENDED.query(tx, f"where ended_at > ? and started_at < ?{who}", period.start, period.stop, *params)
    spans = [_living(server) for server in living] + [
        Span(**structs.asdict(server), state="terminated") for server in gone
    ]
    return sorted(spans, key=lambda span: (span.started_at, span.id))


def _living(server: Server) -> Span:
    return Span(
        id=server.id, project_id=server.project_id, name=server.name, flavor=server.flavor.name, vcpus=server.vcpus,
        ram_mib=server.ram_mib, disk_gib=server.disk_gib, started_at=server.launched_at or server.created_at,
        ended_at=None, state=shown(server).vm_state,
    )  # fmt: skip


def _page(ctx: Context, query: Query, spans: list[Span]) -> list[Span]:
    """One page of the servers that the sums are made of (2.40)."""
    if ctx.version < (2, 40):
        return spans[:PAGE_LIMIT]
    marker = query.one("marker")
    if marker is not None:
        at = next((i for i, span in enumerate(spans) if span.id == marker), None)
        if at is None:
            raise BadRequest(f"marker [{marker[:80]}] not found")
        spans = spans[at + 1 :]
    return spans[: page_limit(query)]


def _links(ctx: Context, query: Query, page: list[Span], path: str, key: str) -> dict[str, Any]:
    if ctx.version < (2, 40):
        return {}
    found = next_link(ctx, path, query, page, page[-1].id if page else "")
    return dict(zip((key,), found.values(), strict=False))


def _summary(ctx: Context, period: Period, project_id: str, spans: list[Span], *, detailed: bool) -> dict[str, Any]:
    """The sums of one project's servers, and each of them when they are asked for."""
    hours = {span.id: span.hours(period.start, period.stop) for span in spans}
    summary: dict[str, Any] = {
        "tenant_id": project_id,
        "total_local_gb_usage": sum(span.disk_gib * hours[span.id] for span in spans),
        "total_vcpus_usage": sum(span.vcpus * hours[span.id] for span in spans),
        "total_memory_mb_usage": sum(span.ram_mib * hours[span.id] for span in spans),
        "total_hours": sum(hours.values()),
        "start": iso_micro(period.start),
        "stop": iso_micro(period.stop),
    }
    if detailed:
        summary["server_usages"] = [_detail(ctx, span, hours[span.id]) for span in spans]
    return summary


def _detail(ctx: Context, span: Span, hours: float) -> dict[str, Any]:
    until = ctx.now if span.ended_at is None else span.ended_at
    return {
        "instance_id": span.id, "name": span.name, "tenant_id": span.project_id, "flavor": span.flavor,
        "memory_mb": span.ram_mib, "local_gb": span.disk_gib, "vcpus": span.vcpus, "hours": hours,
        "started_at": iso_micro(span.started_at), "ended_at": iso_micro(span.ended_at),
        "uptime": int(until - span.started_at), "state": span.state,
    }  # fmt: skip


@COMPUTE.op("GET", "/os-simple-tenant-usage", rule=f"{_RULE}:list", allow=ADMIN, load=collection)
def list_usages(ctx: Context, query: Query) -> dict[str, Any]:
    """List tenant usage statistics for all tenants."""
    period = _period(ctx, query)
    page = _page(ctx, query, _spans(ctx.tx, period, None))
    by_project: dict[str, list[Span]] = {}
    for span in page:
        by_project.setdefault(span.project_id, []).append(span)
    found = [_summary(ctx, period, p, spans, detailed=period.detailed) for p, spans in by_project.items()]
    return {"tenant_usages": found, **_links(ctx, query, page, "os-simple-tenant-usage", "tenant_usages_links")}


def _project(ctx: Context, project_id: str) -> dict[str, str]:
    """Loader: the target is the project."""
    return {"project_id": project_id}


@COMPUTE.op("GET", "/os-simple-tenant-usage/{project_id}", rule=f"{_RULE}:show", allow=READER, load=_project)
def show_usage(ctx: Context, project_id: str, query: Query) -> dict[str, Any]:
    """Show usage statistics for a tenant; empty for one without servers."""
    period = _period(ctx, query)
    page = _page(ctx, query, _spans(ctx.tx, period, project_id))
    summary = _summary(ctx, period, project_id, page, detailed=True) if page else {}
    path = f"os-simple-tenant-usage/{project_id}"
    return {"tenant_usage": summary, **_links(ctx, query, page, path, "tenant_usage_links")}
