"""Host aggregates: sets of hosts with metadata, one key of which is their availability zone.

Source: Compute API reference, "Host aggregates".  Placement knows them too, so that claims can be narrowed to one.
"""

from typing import Any

from msgspec import Struct, structs

from pileus.compute.host import hosts, named, zones_by_node
from pileus.compute.service import ADMIN, COMPUTE, HOST, NAME, envelope, next_number, refuse_unknown
from pileus.core.clock import iso_micro
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_id
from pileus.core.op import Many, Reply, collection
from pileus.core.paging import Query
from pileus.core.schema import Schema
from pileus.db.connect import Conflict, Tx
from pileus.db.rows import Table
from pileus.placement import facade as placement

_RULE = "os_compute_api:os-aggregates"
ZONE = "availability_zone"


class Aggregate(Struct, frozen=True, kw_only=True):
    """A set of hosts."""

    number: int
    id: str
    name: str
    metadata: dict[str, str]
    created_at: float
    updated_at: float | None = None


class Seen(Struct, frozen=True, kw_only=True):
    """An aggregate with the names of its hosts, as it is shown."""

    aggregate: Aggregate
    hosts: list[str]


AGGREGATES = Table(Aggregate, "aggregates", key=("number",))
_BRIEF = (
    Field("id", get="aggregate.number"),
    Field("uuid", get="aggregate.id", since="2.41"),
    Field("name", get="aggregate.name"),
    Field("availability_zone", get=lambda seen, _ctx: seen.aggregate.metadata.get(ZONE)),
    Field("created_at", get=lambda seen, _ctx: iso_micro(seen.aggregate.created_at)),
    Field("updated_at", get=lambda seen, _ctx: iso_micro(seen.aggregate.updated_at)),
    Field("deleted", get=lambda _seen, _ctx: False),
    Field("deleted_at", get=lambda _seen, _ctx: None),
)
BRIEF = Fields("aggregate", "aggregates", _BRIEF)
AGGREGATE = Fields("aggregate", "aggregates", (*_BRIEF, Field("hosts"), Field("metadata", get="aggregate.metadata")))
_ZONE: Schema = {**NAME, "type": ["string", "null"], "pattern": r"^(?!\s)[^\n:]*(?<!\s)$"}


def load_aggregate(ctx: Context, aggregate_id: str) -> Aggregate:
    """An aggregate by its number; raises BadRequest, NotFound."""
    if not (aggregate_id.isascii() and aggregate_id.removeprefix("-").isdigit()):
        raise BadRequest(f"Invalid input received: id: {aggregate_id[:80]!r} is not an integer")
    number = int(aggregate_id[:12])
    found = AGGREGATES.get(ctx.tx, number=number)
    if found is None:
        raise NotFound(f"Aggregate {number} could not be found.")
    return found


def _seen(tx: Tx, aggregates: list[Aggregate]) -> list[Seen]:
    rows = tx.all(
        "select h.aggregate_id, n.name from aggregate_hosts h join nodes n on n.id = h.node_id order by n.name"
    )
    return [Seen(aggregate=a, hosts=[name for owner, name in rows if owner == a.id]) for a in aggregates]


def _show(ctx: Context, aggregate: Aggregate) -> Seen:
    return _seen(ctx.tx, [aggregate])[0]


@COMPUTE.op("GET", "/os-aggregates", rule=f"{_RULE}:index", allow=ADMIN, load=collection, gives=Many(AGGREGATE))
def list_aggregates(ctx: Context, query: Query) -> list[Seen]:
    """List aggregates."""
    refuse_unknown(ctx, query)
    return _seen(ctx.tx, AGGREGATES.all(ctx.tx, order="aggregates.number"))


@COMPUTE.op(
    "GET", "/os-aggregates/{aggregate_id}", rule=f"{_RULE}:show", allow=ADMIN, load=load_aggregate, gives=AGGREGATE
)
def show_aggregate(ctx: Context, aggregate: Aggregate, query: Query) -> Seen:
    """Show aggregate details."""
    refuse_unknown(ctx, query)
    return _show(ctx, aggregate)


@COMPUTE.op(
    "POST", "/os-aggregates", rule=f"{_RULE}:create", allow=ADMIN, load=collection, gives=BRIEF,
    takes=envelope({"name": NAME, ZONE: _ZONE}, "aggregate", "name"),
)  # fmt: skip
def create_aggregate(ctx: Context, body: dict[str, Any]) -> Seen:
    """Create an aggregate."""
    given = body["aggregate"]
    zone = given.get(ZONE)
    aggregate = Aggregate(
        number=next_number(ctx.tx, "aggregate"), id=new_id(), name=given["name"],
        metadata={ZONE: zone} if zone else {}, created_at=ctx.now,
    )  # fmt: skip
    try:
        AGGREGATES.insert(ctx.tx, aggregate)
    except Conflict:
        raise Conflicted(f"Aggregate {given['name']} already exists.") from None
    return Seen(aggregate=aggregate, hosts=[])


@COMPUTE.op(
    "PUT", "/os-aggregates/{aggregate_id}", rule=f"{_RULE}:update", allow=ADMIN, load=load_aggregate, gives=AGGREGATE,
    takes=envelope({"name": NAME, ZONE: _ZONE}, "aggregate"),
)  # fmt: skip
def update_aggregate(ctx: Context, aggregate: Aggregate, body: dict[str, Any]) -> Seen:
    """Update an aggregate's name or availability zone."""
    given = body["aggregate"]
    if not given:
        raise BadRequest("Invalid input for field/attribute aggregate: name or availability_zone must be given.")
    metadata = _with(ctx, aggregate, {ZONE: given[ZONE]}) if ZONE in given else aggregate.metadata
    return _change(ctx, aggregate, name=given.get("name", aggregate.name), metadata=metadata)


def _change(ctx: Context, aggregate: Aggregate, *, name: str, metadata: dict[str, str]) -> Seen:
    changes = {"name": name, "metadata": metadata, "updated_at": ctx.now}
    try:
        AGGREGATES.update(ctx.tx, changes, number=aggregate.number)
    except Conflict:
        raise Conflicted(f"Aggregate {name} already exists.") from None
    return _show(ctx, structs.replace(aggregate, **changes))


def _with(ctx: Context, aggregate: Aggregate, items: dict[str, str | None]) -> dict[str, str]:
    """The metadata after a change (None removes a key); raises BadRequest for a zone that servers cannot follow."""
    if ZONE in items:
        _check_zone(ctx, aggregate, items[ZONE])
    merged: dict[str, str | None] = {**aggregate.metadata, **items}
    return {key: value for key, value in merged.items() if value is not None}


def _check_zone(ctx: Context, aggregate: Aggregate, zone: str | None) -> None:
    if not zone:
        raise BadRequest(f"Aggregate {aggregate.name} does not support empty named availability zone")
    if zone == aggregate.metadata.get(ZONE):
        return
    for node_id in _members(ctx.tx, aggregate):
        if _other_zone(ctx.tx, node_id, aggregate) not in (None, zone):
            raise BadRequest("One or more hosts already in different availability zone(s)")
        if _is_used(ctx.tx, node_id):
            raise BadRequest("One or more hosts contain instances in this zone")


def _members(tx: Tx, aggregate: Aggregate) -> list[str]:
    return [row[0] for row in tx.all("select node_id from aggregate_hosts where aggregate_id = ?", aggregate.id)]


def _other_zone(tx: Tx, node_id: str, aggregate: Aggregate) -> str | None:
    """The zone that another aggregate puts the node into."""
    for other in AGGREGATES.query(
        tx, "join aggregate_hosts h on h.aggregate_id = aggregates.id where h.node_id = ? and aggregates.id <> ?",
        node_id, aggregate.id,
    ):  # fmt: skip
        if other.metadata.get(ZONE):
            return other.metadata[ZONE]
    return None


@COMPUTE.op("DELETE", "/os-aggregates/{aggregate_id}", rule=f"{_RULE}:delete", allow=ADMIN, load=load_aggregate)
def delete_aggregate(ctx: Context, aggregate: Aggregate) -> Reply:
    """Delete an aggregate that has no hosts."""
    if _members(ctx.tx, aggregate):
        raise BadRequest(f"Cannot delete aggregate {aggregate.number}: host aggregate is not empty")
    AGGREGATES.delete(ctx.tx, number=aggregate.number)
    return Reply()


_ACTION = "/os-aggregates/{aggregate_id}/action"


@COMPUTE.op(
    "POST", _ACTION, action="add_host", rule=f"{_RULE}:add_host", allow=ADMIN, load=load_aggregate, gives=AGGREGATE,
    takes=envelope({"host": HOST}, "add_host", "host"),
)  # fmt: skip
def add_host(ctx: Context, aggregate: Aggregate, body: dict[str, Any]) -> Seen:
    """Add a host to an aggregate."""
    host = named(ctx.tx, ctx.now, body["host"])
    zone, other = aggregate.metadata.get(ZONE), _other_zone(ctx.tx, host.id, aggregate)
    if zone and other not in (None, zone):
        raise Conflicted(f"Cannot add host to aggregate {aggregate.number}: host is in availability zone {other}")
    if zone and zone != host.zone and _is_used(ctx.tx, host.id):
        raise Conflicted(
            f"Cannot add host to aggregate {aggregate.number}: host contains instances, which would change their zone"
        )
    try:
        ctx.tx.run("insert into aggregate_hosts (aggregate_id, node_id) values (?, ?)", aggregate.id, host.id)
    except Conflict:
        raise Conflicted(f"Aggregate {aggregate.number} already has host {host.name}.") from None
    placement.set_aggregates(ctx.tx, host.id, add=[aggregate.id])
    return _touch(ctx, aggregate)


def _is_used(tx: Tx, node_id: str) -> bool:
    return tx.one("select 1 from servers where node_id = ?", node_id) is not None


def _touch(ctx: Context, aggregate: Aggregate) -> Seen:
    AGGREGATES.update(ctx.tx, {"updated_at": ctx.now}, number=aggregate.number)
    return _show(ctx, structs.replace(aggregate, updated_at=ctx.now))


@COMPUTE.op(
    "POST", _ACTION, action="remove_host", rule=f"{_RULE}:remove_host", allow=ADMIN, load=load_aggregate,
    gives=AGGREGATE, takes=envelope({"host": HOST}, "remove_host", "host"),
)  # fmt: skip
def remove_host(ctx: Context, aggregate: Aggregate, body: dict[str, Any]) -> Seen:
    """Remove a host from an aggregate."""
    host = next((h for h in hosts(ctx.tx, ctx.now) if h.name == body["host"]), None)
    if host is None or host.id not in _members(ctx.tx, aggregate):
        raise NotFound(f"Cannot remove host {body['host']} in aggregate {aggregate.number}")
    zone = aggregate.metadata.get(ZONE)
    if zone and zones_by_node(ctx.tx).get(host.id) == zone and _is_used(ctx.tx, host.id):
        raise Conflicted(
            f"Cannot remove host from aggregate {aggregate.number}: host contains instances, which would change "
            "their zone"
        )
    leave(ctx.tx, host.id, aggregate.id)
    return _touch(ctx, aggregate)


def leave(tx: Tx, node_id: str, aggregate_id: str) -> None:
    """Take a node out of an aggregate, here and in placement."""
    tx.run("delete from aggregate_hosts where aggregate_id = ? and node_id = ?", aggregate_id, node_id)
    placement.set_aggregates(tx, node_id, remove=[aggregate_id])


def leave_all(tx: Tx, node_id: str) -> None:
    """Take a node that goes out of all aggregates."""
    for (aggregate_id,) in tx.all("select aggregate_id from aggregate_hosts where node_id = ?", node_id):
        leave(tx, node_id, aggregate_id)


@COMPUTE.op(
    "POST", _ACTION, action="set_metadata", rule=f"{_RULE}:set_metadata", allow=ADMIN, load=load_aggregate,
    gives=AGGREGATE,
    takes=envelope(
        {
            "metadata": {
                "type": "object",
                "patternProperties": {"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": ["string", "null"], "maxLength": 255}},
                "additionalProperties": False,
                "maxProperties": 128,
            }
        },
        "set_metadata", "metadata",
    ),
)  # fmt: skip
def set_metadata(ctx: Context, aggregate: Aggregate, body: dict[str, Any]) -> Seen:
    """Create or update aggregate metadata; null removes a key."""
    return _change(ctx, aggregate, name=aggregate.name, metadata=_with(ctx, aggregate, body["metadata"]))
