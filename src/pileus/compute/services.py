"""Compute services: one of each host, and those of the controller.  Source: Compute API reference, "Compute services".

The controller's scheduler and conductor are its workers: they are up while no work waits for longer than a minute.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from pileus.compute.aggregate import leave_all
from pileus.compute.host import Host, hosts
from pileus.compute.service import ADMIN, COMPUTE, HOST, refuse_unknown
from pileus.core.clock import iso_micro
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.fields import Field, Fields
from pileus.core.ids import derived_id, is_uuid
from pileus.core.nodes import NODES
from pileus.core.op import Many, Reply, collection
from pileus.core.paging import Query
from pileus.core.schema import LOOSE_BOOLEAN, Schema, truth
from pileus.db.connect import Tx
from pileus.placement import facade as placement

_RULE = "os_compute_api:os-services"
COMPUTE_BINARY = "nova-compute"
LATE_SECONDS = 60.0


class Running(Struct, frozen=True, kw_only=True):
    """A service as it is shown."""

    id: str
    number: int
    binary: str
    host: str
    zone: str
    status: str
    state: str
    updated_at: str | None
    disabled_reason: str | None = None
    forced_down: bool = False
    node: Host | None = None


SERVICE = Fields(
    "service",
    "services",
    (
        Field("id", get="number", until="2.52"),
        Field("id", since="2.53"),
        Field("binary"),
        Field("host"),
        Field("zone"),
        Field("status"),
        Field("state"),
        Field("updated_at"),
        Field("disabled_reason"),
        Field("forced_down", since="2.11"),
    ),
)


def running(ctx: Context) -> list[Running]:
    """All services."""
    return [*_controller(ctx), *(_of(host) for host in hosts(ctx.tx, ctx.now))]


def _of(host: Host) -> Running:
    return Running(
        id=host.id, number=host.number, binary=COMPUTE_BINARY, host=host.name, zone=host.zone, status=host.status,
        state=host.state, updated_at=host.seen, disabled_reason=host.node.disabled_reason,
        forced_down=host.forced_down, node=host,
    )  # fmt: skip


def _controller(ctx: Context) -> list[Running]:
    now = ctx.now
    late = ctx.tx.one("select 1 from work where due < ? and lease < ?", now - LATE_SECONDS, now)
    host = ctx.settings.config.node_name
    return [
        Running(
            id=derived_id(host, binary), number=number, binary=binary, host=host, zone="internal", status="enabled",
            state="down" if late else "up", updated_at=iso_micro(now),
        )
        for number, binary in ((0x10000001, "nova-scheduler"), (0x10000002, "nova-conductor"))
    ]  # fmt: skip


@COMPUTE.op("GET", "/os-services", rule=f"{_RULE}:list", allow=ADMIN, load=collection, gives=Many(SERVICE))
def list_services(ctx: Context, query: Query) -> list[Running]:
    """List compute services."""
    refuse_unknown(ctx, query, "host", "binary", since="2.75")
    host, binary = query.one("host"), query.one("binary")
    return [
        service
        for service in running(ctx)
        if (not host or service.host == host) and (not binary or service.binary == binary)
    ]


def _named(ctx: Context, host: str, binary: str) -> Host:
    """A host's service by both names, as before 2.53; raises BadRequest, NotFound."""
    if binary != COMPUTE_BINARY:
        raise BadRequest(
            f"Updating a {binary[:255]} service is not supported. Only nova-compute services can be updated."
        )
    for found in hosts(ctx.tx, ctx.now):
        if found.name == host:
            return found
    raise NotFound(f"Could not find binary {binary} on host {host}.")


def disable(tx: Tx, host: Host, reason: str | None) -> None:
    """No new servers on a host."""
    NODES.update(tx, {"disabled": True, "disabled_reason": reason}, id=host.id)


def enable(tx: Tx, host: Host) -> None:
    """New servers may come again."""
    NODES.update(tx, {"disabled": False, "disabled_reason": None}, id=host.id)


def force_down(tx: Tx, host: Host, now: float, *, down: bool) -> None:
    """Have a host counted as down although it reports, or no longer."""
    tx.run("delete from forced_down where node_id = ?", host.id)
    if down:
        tx.run("insert into forced_down (node_id, at) values (?, ?)", host.id, now)


_BINARY: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_REASON: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^(?!\s)[^\n]*(?<!\s)$"}


def _old(*required: str, **more: Schema) -> Schema:
    return {
        "type": "object", "properties": {"host": HOST, "binary": _BINARY, "disabled_reason": _REASON, **more},
        "required": ["host", "binary", *required], "additionalProperties": False,
    }  # fmt: skip


def _old_op(action: str, schema: Schema, *, since: str = "2.1") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An operation as it was before services had UUIDs."""
    return COMPUTE.op(
        "PUT", f"/os-services/{action}", rule=f"{_RULE}:update", allow=ADMIN, load=collection, takes=schema,
        since=since, until="2.52",
    )  # fmt: skip


@_old_op("enable", _old())
def enable_by_name(ctx: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Enable scheduling for a compute service."""
    enable(ctx.tx, _named(ctx, body["host"], body["binary"]))
    return {"service": {"host": body["host"], "binary": body["binary"], "status": "enabled"}}


@_old_op("disable", _old())
def disable_by_name(ctx: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Disable scheduling for a compute service."""
    disable(ctx.tx, _named(ctx, body["host"], body["binary"]), None)
    return {"service": {"host": body["host"], "binary": body["binary"], "status": "disabled"}}


@_old_op("disable-log-reason", _old("disabled_reason"))
def disable_by_name_with_reason(ctx: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Disable scheduling for a compute service and say why."""
    disable(ctx.tx, _named(ctx, body["host"], body["binary"]), body["disabled_reason"])
    named = {"host": body["host"], "binary": body["binary"]}
    return {"service": {**named, "status": "disabled", "disabled_reason": body["disabled_reason"]}}


@_old_op("force-down", _old("forced_down", forced_down=LOOSE_BOOLEAN), since="2.11")
def force_down_by_name(ctx: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Update forced down of a compute service."""
    down = truth(body["forced_down"])
    force_down(ctx.tx, _named(ctx, body["host"], body["binary"]), ctx.now, down=down)
    return {"service": {"host": body["host"], "binary": body["binary"], "forced_down": down}}


def load_service(ctx: Context, service_id: str) -> Running:
    """A service by its id of this version; raises BadRequest, NotFound."""
    if ctx.version >= (2, 53):
        if not is_uuid(service_id):
            raise BadRequest(f"Invalid uuid {service_id[:80]}")
        found = next((s for s in running(ctx) if s.id == service_id.lower()), None)
    else:
        if not (service_id.isascii() and service_id.isdigit()):
            raise BadRequest(f"Invalid input received: id: {service_id[:80]!r} is not an integer")
        found = next((s for s in running(ctx) if str(s.number) == service_id), None)
    if found is None:
        raise NotFound(f"Service {service_id[:80]} not found.")
    return found


@COMPUTE.op(
    "PUT", "/os-services/{service_id}", rule=f"{_RULE}:update", allow=ADMIN, load=load_service, gives=SERVICE,
    since="2.53",
    takes={
        "type": "object",
        "properties": {
            "status": {"type": "string", "enum": ["enabled", "disabled"]},
            "disabled_reason": _REASON,
            "forced_down": LOOSE_BOOLEAN,
        },
        "additionalProperties": False,
    },
)  # fmt: skip
def update_service(ctx: Context, service: Running, body: dict[str, Any]) -> Running:
    """Update a compute service: its status with a reason, or whether it counts as down."""
    host, status, reason = service.node, body.get("status"), body.get("disabled_reason")
    if host is None:
        raise BadRequest(f"Updating a {service.binary} service is not supported. Only nova-compute services can be.")
    if not body:
        raise BadRequest("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    if reason is not None and status != "disabled":
        raise BadRequest("Specifying 'disabled_reason' when status is not 'disabled' is invalid.")
    if status == "disabled":
        disable(ctx.tx, host, reason)
    elif status == "enabled":
        enable(ctx.tx, host)
    if "forced_down" in body:
        force_down(ctx.tx, host, ctx.now, down=truth(body["forced_down"]))
    return load_service(ctx, service.id)


@COMPUTE.op("DELETE", "/os-services/{service_id}", rule=f"{_RULE}:delete", allow=ADMIN, load=load_service, ok=204)
def delete_service(ctx: Context, service: Running) -> Reply:
    """Delete a compute service: its host takes no servers any more, unless its agent reports again."""
    host = service.node
    if host is None:
        raise BadRequest(f"The {service.binary} service is a part of the controller and cannot be deleted.")
    if ctx.tx.one("select 1 from servers where node_id = ?", host.id):
        raise Conflicted(
            "Unable to delete compute service that is hosting instances. Migrate or delete the instances first."
        )
    leave_all(ctx.tx, host.id)
    force_down(ctx.tx, host, ctx.now, down=False)
    placement.remove_provider(ctx.tx, host.id)
    rest = [role for role in host.node.roles if role != "compute"]
    if rest:
        NODES.update(ctx.tx, {"roles": rest}, id=host.id)
    else:
        NODES.delete(ctx.tx, id=host.id)
    return Reply()
