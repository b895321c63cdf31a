"""History: what happened to which resource, written in the transaction in which it happened."""

import json
from typing import Any

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.ids import new_id
from pileus.db.connect import Tx
from pileus.db.rows import Table


class Event(Struct, frozen=True, kw_only=True):
    """One line of a resource's story."""

    id: str
    at: float
    kind: str  # "server", "port", …
    resource_id: str
    project_id: str | None
    user_id: str | None
    request_id: str | None
    action: str  # "create", "attach_volume", …
    phase: str  # "start" | "success" | "error" | "step" | "refused"
    message: str | None
    data: dict[str, Any]


EVENTS = Table(Event, "events")


def record(
    tx: Tx,
    *,
    now: float,
    kind: str,
    resource_id: str,
    action: str,
    phase: str,
    message: str | None = None,
    project_id: str | None = None,
    user_id: str | None = None,
    request_id: str | None = None,
    **data: Any,
) -> None:
    """Add a line to a resource's history."""
    tx.run(
        "insert into events (id, at, kind, resource_id, project_id, user_id, request_id, action, phase, message, data)"
        " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        new_id(), now, kind, resource_id, project_id, user_id, request_id, action, phase, message, json.dumps(data),
    )  # fmt: skip


def record_request(
    ctx: Context,
    kind: str,
    resource_id: str,
    action: str,
    phase: str = "start",
    message: str | None = None,
    **data: Any,
) -> None:
    """Add the line that says who asked for what, with the request's id."""
    record(
        ctx.tx, now=ctx.now, kind=kind, resource_id=resource_id, action=action, phase=phase, message=message,
        project_id=ctx.caller.project_id, user_id=ctx.caller.user_id, request_id=ctx.request_id, **data,
    )  # fmt: skip


def story(tx: Tx, kind: str, resource_id: str) -> list[Event]:
    """All that happened to one resource, oldest first."""
    return EVENTS.all(tx, order="events.at, events.id", kind=kind, resource_id=resource_id)


def last_request(tx: Tx, kind: str, resource_id: str) -> str:
    """The id of the request that last asked something of a resource; "" when none is known."""
    row = tx.one(
        "select request_id from events where kind = ? and resource_id = ? and request_id is not null"
        " order by at desc limit 1",
        kind, resource_id,
    )  # fmt: skip
    return str(row[0]) if row else ""
