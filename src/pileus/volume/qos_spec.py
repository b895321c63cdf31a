"""QoS specs: named sets of limits that volume types may refer to.

They are kept and shown; no driver of this cloud throttles yet (`QoS_support` of every pool is false).
Source: Block Storage API reference, "Quality of service (QoS) specifications (qos-specs)".
"""

from typing import Any

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_id
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Query
from pileus.db.connect import Conflict
from pileus.db.rows import Table
from pileus.volume.listing import Lister
from pileus.volume.service import ADMIN, action, envelope, links, missing, op
from pileus.volume.volume_type import TYPES

RULE = "volume_extension:qos_specs_manage:"
CONSUMERS = ("front-end", "back-end", "both")
_links = links("qos-specs")
PAIRS = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-zA-Z0-9-_:. /]{1,255}$"},
    "additionalProperties": {"type": ["string", "null"], "maxLength": 255},
}
CREATE = {**PAIRS, "required": ["name"], "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 255,
                                                                   "format": "name"}}}  # fmt: skip


class QosSpec(Struct, kw_only=True):
    """Limits, and who is to keep them."""

    id: str
    name: str
    consumer: str = "back-end"
    specs: dict[str, str] = {}
    created_at: float


SPECS = Table(QosSpec, "qos_specs")
SPEC = Fields(
    "qos_specs", "qos_specs",
    (Field("id", "rqs"), Field("name", "rqs"), Field("consumer", "rqs"), Field("specs", "r"),
     Field("created_at", "s")),
)  # fmt: skip
LISTER = Lister(SPEC, SPECS, "qos-specs", strict=False, links="qos_specs_links")


def load_spec(ctx: Context, qos_id: str) -> QosSpec:
    """QoS specs belong to the administrator; raises NotFound."""
    found = SPECS.get(ctx.tx, id=qos_id)
    if found is None:
        raise missing("No such qos_specs", qos_id)
    return found


def _shown(ctx: Context, spec: QosSpec) -> Reply:
    return Reply({"qos_specs": SPEC.render(spec, ctx), "links": _links(spec.id, ctx)})


def _consumer(given: dict[str, Any], default: str) -> str:
    consumer = given.pop("consumer", None) or default
    if consumer not in CONSUMERS:
        raise BadRequest(f"Invalid qos specs: consumer must be one of {', '.join(CONSUMERS)}.")
    return str(consumer)


@op("GET", "/qos-specs", rule=RULE + "get_all", allow=ADMIN, load=collection, gives=Many(SPEC))
def list_specs(ctx: Context, query: Query) -> Page:
    """List QoS specs."""
    return LISTER.page(ctx, query)


@op("GET", "/qos-specs/{qos_id}", rule=RULE + "get", allow=ADMIN, load=load_spec)
def get_spec(ctx: Context, spec: QosSpec) -> Reply:
    """Show one."""
    return _shown(ctx, spec)


@op("POST", "/qos-specs", rule=RULE + "create", allow=ADMIN, load=collection, takes=envelope("qos_specs", CREATE))
def create(ctx: Context, body: dict[str, Any]) -> Reply:
    """Create one."""
    given = {k: v for k, v in body["qos_specs"].items() if v is not None}
    name, consumer = given.pop("name").strip(), _consumer(given, "back-end")
    spec = QosSpec(id=new_id(), name=name, consumer=consumer, specs=given, created_at=ctx.now)
    try:
        SPECS.insert(ctx.tx, spec)
    except Conflict:
        raise Conflicted(f"QoS Specs {name} already exists.") from None
    return _shown(ctx, spec)


@op("PUT", "/qos-specs/{qos_id}", rule=RULE + "update", allow=ADMIN, load=load_spec, takes=action("qos_specs", PAIRS))
def update(ctx: Context, spec: QosSpec, body: dict[str, Any]) -> Reply:
    """Set some of its pairs."""
    given = {k: v for k, v in body["qos_specs"].items() if v is not None}
    consumer = _consumer(given, spec.consumer)
    SPECS.update(ctx.tx, {"specs": {**spec.specs, **given}, "consumer": consumer}, id=spec.id)
    return Reply({"qos_specs": body["qos_specs"]})


KEYS = action("keys", {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 255},
                       "uniqueItems": True, "maxItems": 1000})  # fmt: skip


@op("PUT", "/qos-specs/{qos_id}/delete_keys", rule=RULE + "delete", allow=ADMIN, load=load_spec, takes=KEYS, ok=202)
def delete_keys(ctx: Context, spec: QosSpec, body: dict[str, Any]) -> Reply:
    """Remove some of its pairs."""
    for key in body["keys"]:
        if key not in spec.specs:
            raise NotFound(f"QoS spec {spec.id} has no spec with key {key}.")
    SPECS.update(ctx.tx, {"specs": {k: v for k, v in spec.specs.items() if k not in body["keys"]}}, id=spec.id)
    return Reply()


@op("DELETE", "/qos-specs/{qos_id}", rule=RULE + "delete", allow=ADMIN, load=load_spec, ok=202)
def delete(ctx: Context, spec: QosSpec, query: Query) -> Reply:
    """Delete one; `force` takes it away from the types that refer to it."""
    if query.truth("force"):
        TYPES.update(ctx.tx, {"qos_specs_id": None}, qos_specs_id=spec.id)
    if TYPES.count(ctx.tx, qos_specs_id=spec.id):
        raise BadRequest(f"Qos specs still in use: volume types refer to {spec.id}.")
    SPECS.delete(ctx.tx, id=spec.id)
    return Reply()


@op("GET", "/qos-specs/{qos_id}/associations", rule=RULE + "get_all", allow=ADMIN, load=load_spec)
def list_associations(ctx: Context, spec: QosSpec) -> Reply:
    """List the types that refer to it."""
    found = TYPES.all(ctx.tx, order="volume_types.name", qos_specs_id=spec.id)
    return Reply({
        "qos_associations": [{"association_type": "volume_type", "id": t.id, "name": t.name} for t in found]
    })  # fmt: skip


def _type_id(ctx: Context, query: Query) -> str:
    type_id = query.one("vol_type_id")
    if not type_id:
        raise BadRequest("Volume Type id must not be None: give vol_type_id.")
    if TYPES.get(ctx.tx, id=type_id) is None:
        raise missing("Volume type", type_id)
    return type_id


# These three change something though they are GET: the API is so, and only the administrator may.
def associate(ctx: Context, spec: QosSpec, query: Query) -> Reply:
    """Let a type refer to it."""
    TYPES.update(ctx.tx, {"qos_specs_id": spec.id}, id=_type_id(ctx, query))
    return Reply()


def disassociate(ctx: Context, spec: QosSpec, query: Query) -> Reply:
    """Let a type refer to it no more."""
    TYPES.update(ctx.tx, {"qos_specs_id": None}, id=_type_id(ctx, query), qos_specs_id=spec.id)
    return Reply()


def disassociate_all(ctx: Context, spec: QosSpec) -> Reply:
    """Let no type refer to it."""
    TYPES.update(ctx.tx, {"qos_specs_id": None}, qos_specs_id=spec.id)
    return Reply()


for _name, _run in (("associate", associate), ("disassociate", disassociate), ("disassociate_all", disassociate_all)):
    op("GET", f"/qos-specs/{{qos_id}}/{_name}", rule=RULE + "update", allow=ADMIN, load=load_spec, ok=202,
       writes=True)(_run)  # fmt: skip
