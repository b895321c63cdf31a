"""Allocations.  Source: Placement API reference, "Allocations" and "Resource provider allocations"."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.fields import parse_version
from pileus.core.ids import is_uuid
from pileus.core.op import Reply, collection
from pileus.core.schema import Schema
from pileus.placement import claims
from pileus.placement.claims import Claim, NoRoom
from pileus.placement.fits import MOST
from pileus.placement.inventory import CLASS_NAME
from pileus.placement.names import check_classes
from pileus.placement.provider import canonical, load
from pileus.placement.rows import ALLOCATIONS, CONSUMERS, PROVIDERS, Provider
from pileus.placement.service import ADMIN_OR_SERVICE, CONCURRENT_UPDATE, PLACEMENT, answer

UPDATE = PLACEMENT.rule("placement:allocations:update", ADMIN_OR_SERVICE)
_UUID_KEY = "^[0-9a-fA-F-]{36}$"
_NOBODY = "00000000-0000-0000-0000-000000000000"  # owner of claims that named none (before 1.8)
_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_RESOURCES: Schema = {
    "type": "object",
    "minProperties": 1,
    "patternProperties": {CLASS_NAME: {"type": "integer", "minimum": 1, "maximum": MOST}},
    "additionalProperties": False,
}
_LIST: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "resource_provider": {
                "type": "object",
                "properties": {"uuid": {"type": "string", "format": "uuid"}},
                "required": ["uuid"],
                "additionalProperties": False,
            },
            "resources": _RESOURCES,
        },
        "required": ["resource_provider", "resources"],
        "additionalProperties": False,
    },
}
_MAPPINGS: Schema = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "uuid"}},
}


def _by_provider(least: int) -> Schema:
    """Allocations keyed by provider (from 1.12)."""
    one = {
        "type": "object",
        "properties": {"generation": {"type": "integer"}, "resources": _RESOURCES},
        "required": ["resources"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "minProperties": least,
        "patternProperties": {_UUID_KEY: one},
        "additionalProperties": False,
    }


def claim_schema(since: str, *, least: int) -> Schema:
    """What one consumer's claim holds from a version on; `least` providers."""
    version = parse_version(since)
    properties: dict[str, Schema] = {"allocations": _by_provider(least) if version >= (1, 12) else _LIST}
    required = ["allocations"]
    if version >= (1, 8):
        properties |= {"project_id": _ID, "user_id": _ID}
        required += ["project_id", "user_id"]
    if version >= (1, 28):
        properties["consumer_generation"] = {"type": ["integer", "null"]}
        required.append("consumer_generation")
    if version >= (1, 34):
        properties["mappings"] = _MAPPINGS
    if version >= (1, 38):
        properties["consumer_type"] = {**_ID, "pattern": "^[A-Z0-9_]+$"}
        required.append("consumer_type")
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def claims_schema(since: str, *, least: int = 1) -> Schema:
    """Claims of many consumers, keyed by consumer."""
    return {
        "type": "object",
        "minProperties": least,
        "patternProperties": {_UUID_KEY: claim_schema(since, least=0)},
        "additionalProperties": False,
    }


def read(ctx: Context, consumer_id: str, body: Mapping[str, Any]) -> Claim:
    """A claim from a checked body; raises Conflicted when the consumer is not as the caller saw it last."""
    if not is_uuid(consumer_id):
        raise BadRequest(f"Malformed consumer_uuid: {consumer_id[:80]}")
    consumer_id = canonical(consumer_id)
    known = CONSUMERS.get(ctx.tx, id=consumer_id)
    if "consumer_generation" in body:
        have, given = known.generation if known else None, body["consumer_generation"]
        if have != given:
            raise Conflicted(
                f"consumer generation conflict - expected {'null' if have is None else have} but got {given}",
                code=CONCURRENT_UPDATE,
            )
    given_allocations = body["allocations"]
    if isinstance(given_allocations, list):
        given_allocations = {a["resource_provider"]["uuid"]: a for a in given_allocations}
    return Claim(
        consumer_id=consumer_id,
        resources={canonical(provider): a["resources"] for provider, a in given_allocations.items()},
        project_id=body.get("project_id", known.project_id if known else _NOBODY),
        user_id=body.get("user_id", known.user_id if known else _NOBODY),
        consumer_type=body.get("consumer_type"),
    )


def write(ctx: Context, wanted: list[Claim]) -> Reply:
    """Put claims into force, all or none; raises BadRequest (no such provider, class), Conflicted (no room)."""
    classes = {name for one in wanted for resources in one.resources.values() for name in resources}
    check_classes(ctx.tx, classes, "Unable to allocate inventory: ")
    try:
        claims.replace(ctx.tx, wanted, ctx.now)
    except LookupError as error:
        raise BadRequest(str(error)) from None
    except NoRoom as missing:
        raise Conflicted(f"Unable to allocate inventory: {missing.message}") from None
    return Reply()


def set_allocations(ctx: Context, consumer_id: str, body: dict[str, Any]) -> Reply:
    """Update allocations: what one consumer has afterwards."""
    return write(ctx, [read(ctx, consumer_id, body)])


for _since, _until in (
    ("1.0", "1.7"),
    ("1.8", "1.11"),
    ("1.12", "1.27"),
    ("1.28", "1.33"),
    ("1.34", "1.37"),
    ("1.38", ""),
):
    PLACEMENT.op(
        "PUT", "/allocations/{consumer_id}", rule=UPDATE, load=collection, ok=204, since=_since, until=_until,
        takes=claim_schema(_since, least=0 if parse_version(_since) >= (1, 28) else 1),
    )(set_allocations)  # fmt: skip


def set_many_allocations(ctx: Context, body: dict[str, Any]) -> Reply:
    """Manage multiple allocations: what several consumers have afterwards, all or none."""
    return write(ctx, [read(ctx, consumer_id, one) for consumer_id, one in body.items()])


for _since, _until in (("1.13", "1.27"), ("1.28", "1.33"), ("1.34", "1.37"), ("1.38", "")):
    PLACEMENT.op(
        "POST", "/allocations", rule="placement:allocations:manage", allow=ADMIN_OR_SERVICE, load=collection, ok=204,
        since=_since, until=_until, takes=claims_schema(_since),
    )(set_many_allocations)  # fmt: skip


@PLACEMENT.op(
    "GET", "/allocations/{consumer_id}", rule="placement:allocations:list", allow=ADMIN_OR_SERVICE, load=collection
)
def list_allocations(ctx: Context, consumer_id: str) -> Reply:
    """List allocations of a consumer; empty for one that has none."""
    rows = ALLOCATIONS.all(ctx.tx, order="provider_id, resource_class", consumer_id=consumer_id.lower())
    found: dict[str, dict[str, Any]] = {}
    for provider in PROVIDERS.all(ctx.tx, id={row.provider_id for row in rows}):
        found[provider.id] = {"generation": provider.generation, "resources": {}}
    for row in rows:
        found[row.provider_id]["resources"][row.resource_class] = row.used
    body: dict[str, Any] = {"allocations": found}
    if (consumer := CONSUMERS.get(ctx.tx, id=consumer_id.lower())) and ctx.version >= (1, 12):
        body |= {"project_id": consumer.project_id, "user_id": consumer.user_id}
        body |= {"consumer_generation": consumer.generation} if ctx.version >= (1, 28) else {}
        body |= {"consumer_type": consumer.type or "unknown"} if ctx.version >= (1, 38) else {}
    return answer(ctx, body, at=max((row.updated_at for row in rows), default=ctx.now))


@PLACEMENT.op(
    "DELETE", "/allocations/{consumer_id}", rule="placement:allocations:delete", allow=ADMIN_OR_SERVICE,
    load=collection, ok=204,
)  # fmt: skip
def delete_allocations(ctx: Context, consumer_id: str) -> Reply:
    """Delete all allocations of a consumer."""
    if not claims.release(ctx.tx, consumer_id.lower()):
        raise NotFound(f"No allocations for consumer '{consumer_id[:80]}'")
    return Reply()


@PLACEMENT.op(
    "GET", "/resource_providers/{provider_id}/allocations", rule="placement:resource_providers:allocations:list",
    allow=ADMIN_OR_SERVICE, load=load,
)  # fmt: skip
def list_provider_allocations(ctx: Context, provider: Provider) -> Reply:
    """List resource provider allocations by consumer."""
    rows = ctx.tx.all(
        "select a.consumer_id, a.resource_class, a.used, c.generation from allocations a"
        " join consumers c on c.id = a.consumer_id where a.provider_id = ? order by 1, 2",
        provider.id,
    )
    found: dict[str, dict[str, Any]] = defaultdict(lambda: {"resources": {}})
    for consumer_id, name, used, generation in rows:
        found[consumer_id]["resources"][name] = used
        if ctx.version >= (1, 28):
            found[consumer_id]["consumer_generation"] = generation
    return answer(ctx, {"allocations": found, "resource_provider_generation": provider.generation})
