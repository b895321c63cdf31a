"""Services and hosts: each node's back ends as the API names them, and the operator's switch on each.

Source: Block Storage API reference, "Services (os-services)", "Hosts extension (os-hosts)".
"""

from typing import Any

from pileus.core.clock import iso_micro
from pileus.core.context import Context
from pileus.core.errors import BadRequest, NotFound
from pileus.core.op import Reply, collection
from pileus.core.paging import Query
from pileus.volume.pools import PoolSeen, all_pools
from pileus.volume.service import ADMIN, fields_of, missing, op

HOST = {"type": ["string", "null"], "maxLength": 255, "pattern": "^[a-zA-Z0-9-._#@:/+\\[\\]]*$"}
WORD = {"type": "string", "minLength": 1, "maxLength": 255}
CHOICE = fields_of(binary=WORD, service=WORD, host=HOST, cluster=HOST)
CHOICE_WITH_REASON = fields_of(("disabled_reason",), binary=WORD, service=WORD, host=HOST, cluster=HOST,
                               disabled_reason=WORD)  # fmt: skip
RULE = "volume_extension:services:"


def _rows(ctx: Context) -> list[dict[str, Any]]:
    """A scheduler for each node with storage, a volume service for each of its back ends."""
    switches = {
        row[0]: row[1:] for row in ctx.tx.all("select host, disabled, disabled_reason, frozen from volume_services")
    }
    rows, seen = [], set()
    for pool in all_pools(ctx.tx, ctx.now):
        for binary, host in (("cinder-scheduler", pool.node_name), ("cinder-volume", pool.host)):
            if (binary, host) not in seen:
                seen.add((binary, host))
                rows.append(_row(binary, host, pool, switches.get(host, (0, None, 0))))
    return sorted(rows, key=lambda r: (r["binary"], r["host"]))


def _row(binary: str, host: str, pool: PoolSeen, switch: tuple[Any, ...]) -> dict[str, Any]:
    row = {
        "binary": binary, "host": host, "zone": pool.zone, "status": "disabled" if switch[0] else "enabled",
        "state": "up" if pool.alive else "down", "updated_at": iso_micro(pool.seen_at), "disabled_reason": switch[1],
    }  # fmt: skip
    if binary == "cinder-volume":
        row |= {"replication_status": "not-capable", "active_backend_id": None, "frozen": bool(switch[2])}
    return row


@op("GET", "/os-services", rule=RULE + "index", allow=ADMIN, load=collection)
def list_services(ctx: Context, query: Query) -> Reply:
    """List services with their state."""
    rows = _rows(ctx)
    host, binary = query.one("host"), query.one("binary") or query.one("service")
    if host:
        rows = [r for r in rows if r["host"] == host or r["host"].partition("@")[0] == host]
    if binary:
        rows = [r for r in rows if r["binary"] == binary]
    for row in rows:
        if ctx.version >= (3, 7):
            row["cluster"] = None
        if ctx.version >= (3, 49) and row["binary"] == "cinder-volume":
            row["backend_state"] = row["state"]
    return Reply({"services": rows})


def _chosen(ctx: Context, body: dict[str, Any]) -> tuple[str, str]:
    """The binary and host that a body names; raises BadRequest, NotFound."""
    binary = body.get("binary") or body.get("service")
    if not binary:
        raise BadRequest("Invalid input for field/attribute binary: binary or service must be given.")
    host = body.get("host")
    if not host:
        raise BadRequest("Invalid input for field/attribute host: it must be given.")
    if not any((r["binary"], r["host"]) == (binary, host) for r in _rows(ctx)):
        raise missing(f"Service {binary} on host", host)
    return binary, host


def _switch(ctx: Context, host: str, **columns: Any) -> None:
    ctx.tx.run(
        "insert into volume_services (host, disabled, disabled_reason, frozen) values (?, 0, null, 0)"
        " on conflict (host) do nothing",
        host,
    )
    for column, value in columns.items():
        ctx.tx.run(f"update volume_services set {column} = ? where host = ?", value, host)


def _answer(binary: str, host: str, *, disabled: bool, **more: Any) -> Reply:
    status = "disabled" if disabled else "enabled"
    return Reply({"disabled": disabled, "status": status, "host": host, "service": binary, "binary": binary, **more})


@op("PUT", "/os-services/enable", rule=RULE + "update", allow=ADMIN, load=collection, takes=CHOICE)
def enable(ctx: Context, body: dict[str, Any]) -> Reply:
    """Let a back end take new volumes again."""
    binary, host = _chosen(ctx, body)
    _switch(ctx, host, disabled=0, disabled_reason=None)
    return _answer(binary, host, disabled=False, disabled_reason=None)


@op("PUT", "/os-services/disable", rule=RULE + "update", allow=ADMIN, load=collection, takes=CHOICE)
def disable(ctx: Context, body: dict[str, Any]) -> Reply:
    """Let a back end take no new volumes."""
    binary, host = _chosen(ctx, body)
    _switch(ctx, host, disabled=1)
    return _answer(binary, host, disabled=True)


@op("PUT", "/os-services/disable-log-reason", rule=RULE + "update", allow=ADMIN, load=collection,
    takes=CHOICE_WITH_REASON)  # fmt: skip
def disable_with_reason(ctx: Context, body: dict[str, Any]) -> Reply:
    """The same, and say why."""
    binary, host = _chosen(ctx, body)
    reason = body["disabled_reason"].strip()
    if not reason:
        raise BadRequest("Invalid input for field/attribute disabled_reason: it must not be blank.")
    _switch(ctx, host, disabled=1, disabled_reason=reason)
    return _answer(binary, host, disabled=True, disabled_reason=reason)


def _freeze(ctx: Context, body: dict[str, Any], frozen: int) -> Reply:
    try:
        _, host = _chosen(ctx, {"binary": "cinder-volume", **body})
    except NotFound as error:
        raise BadRequest(f"Invalid input received: {error.message}") from None
    _switch(ctx, host, frozen=frozen)
    return Reply()


@op("PUT", "/os-services/freeze", rule="volume:freeze_host", allow=ADMIN, load=collection,
    takes=fields_of(host=HOST, cluster=HOST))  # fmt: skip
def freeze(ctx: Context, body: dict[str, Any]) -> Reply:
    """Keep a back end as it is: no new volumes."""
    return _freeze(ctx, body, 1)


@op("PUT", "/os-services/thaw", rule="volume:thaw_host", allow=ADMIN, load=collection,
    takes=fields_of(host=HOST, cluster=HOST))  # fmt: skip
def thaw(ctx: Context, body: dict[str, Any]) -> Reply:
    """Take that back."""
    return _freeze(ctx, body, 0)


@op("GET", "/os-hosts", rule="volume_extension:hosts", allow=ADMIN, load=collection)
def list_hosts(ctx: Context) -> Reply:
    """List the hosts of the services."""
    hosts = [
        {
            "service-status": "available" if r["state"] == "up" else "unavailable", "service": r["binary"],
            "zone": r["zone"], "service-state": r["status"], "host_name": r["host"], "last-update": r["updated_at"],
        }
        for r in _rows(ctx)
    ]  # fmt: skip
    return Reply({"hosts": hosts})


def load_host(ctx: Context, host_name: str) -> dict[str, str]:
    """The name of a host that there is; raises NotFound."""
    if not any(r["host"] == host_name for r in _rows(ctx)):
        raise missing("Host", host_name[:80])
    return {"host": host_name}


@op("GET", "/os-hosts/{host_name}", rule="volume_extension:hosts", allow=ADMIN, load=load_host)
def get_host(ctx: Context, host_name: str) -> Reply:
    """Show how much of a host is used, in all and by each project."""
    pools = [p for p in all_pools(ctx.tx, ctx.now) if host_name in (p.host, p.node_name)]
    sums: dict[str, list[int]] = {"(total)": [0, 0, 0, 0]}
    for pool in pools:
        for project_id, *numbers in ctx.tx.all(_USAGE, pool.node_id, pool.name, pool.node_id, pool.name):
            mine = sums.setdefault(project_id, [0, 0, 0, 0])
            for row in (mine, sums["(total)"]):
                row[:] = [a + int(b) for a, b in zip(row, numbers, strict=True)]
    return Reply({"host": [{"resource": _usage(host_name, name, *row)} for name, row in sums.items()]})


_USAGE = (
    "select project_id, sum(volumes), sum(gib), sum(snapshots), sum(snapshot_gib) from ("
    " select project_id, 1 as volumes, wanted_gib as gib, 0 as snapshots, 0 as snapshot_gib"
    " from volumes where node_id = ? and pool = ?"
    " union all select s.project_id, 0, 0, 1, s.size_gib from volume_snapshots s join volumes v on v.id = s.volume_id"
    " where v.node_id = ? and v.pool = ?) as used group by project_id order by project_id"
)


def _usage(host: str, project: str, volumes: int, gib: int, snapshots: int, snapshot_gib: int) -> dict[str, str]:
    return {
        "host": host, "project": project, "volume_count": str(volumes), "total_volume_gb": str(gib),
        "snapshot_count": str(snapshots), "total_snapshot_gb": str(snapshot_gib),
    }  # fmt: skip
