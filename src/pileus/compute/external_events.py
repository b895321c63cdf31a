"""Events that other services tell compute of: the server that each is about looks again.

Source: Compute API reference, "Create external events".
"""

from typing import Any

from pileus.compute.service import COMPUTE, SERVICE_OR_ADMIN
from pileus.core.context import Context
from pileus.core.op import Reply, collection
from pileus.core.reconcile import poke
from pileus.core.schema import Schema

_FIRST = ("network-changed", "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted")
_SINCE = (("2.1", _FIRST), ("2.51", ("volume-extended",)), ("2.76", ("power-update",)),
          ("2.82", ("accelerator-request-bound",)), ("2.93", ("volume-reimaged",)))  # fmt: skip
_NEED_A_TAG = ("volume-extended", "power-update", "accelerator-request-bound")


def create_events(ctx: Context, body: dict[str, Any]) -> Reply:
    """Create external events; 207 when some were not accepted, each with its own code."""
    events = [_take(ctx, event) for event in body["events"]]
    return Reply({"events": events}, status=200 if all(event["code"] == 200 for event in events) else 207)


def _take(ctx: Context, event: dict[str, Any]) -> dict[str, Any]:
    """An event with what became of it."""
    row = ctx.tx.one("select node_id from servers where id = ? and deleted = 0", event["server_uuid"].lower())
    if row is None:
        return {**event, "status": "failed", "code": 404}
    if event["name"] in _NEED_A_TAG and event.get("tag") is None:
        return {**event, "status": "failed", "code": 400}
    if row[0] is None:
        return {**event, "status": "failed", "code": 422}
    poke(ctx.tx, "server", event["server_uuid"].lower(), ctx.now)
    return {**event, "status": "completed", "code": 200}


def _schema(names: list[str]) -> Schema:
    event = {
        "type": "object",
        "properties": {
            "server_uuid": {"type": "string", "format": "uuid"},
            "name": {"type": "string", "enum": names},
            "status": {"type": "string", "enum": ["failed", "completed", "in-progress"]},
            "tag": {"type": "string", "maxLength": 255},
        },
        "required": ["server_uuid", "name"],
        "additionalProperties": False,
    }
    return {
        "type": "object", "properties": {"events": {"type": "array", "minItems": 1, "maxItems": 1000, "items": event}},
        "required": ["events"], "additionalProperties": False,
    }  # fmt: skip


_known: list[str] = []
for _number, (_since, _names) in enumerate(_SINCE):
    _known += _names
    _next = _SINCE[_number + 1][0] if _number + 1 < len(_SINCE) else ""
    _until = f"2.{int(_next.partition('.')[2]) - 1}" if _next else ""
    COMPUTE.op(
        "POST", "/os-server-external-events", rule="os_compute_api:os-server-external-events:create",
        allow=SERVICE_OR_ADMIN, load=collection, takes=_schema(list(_known)), since=_since, until=_until,
    )(create_events)  # fmt: skip
