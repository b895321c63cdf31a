"""Inventories of a provider.  Source: Placement API reference, "Resource provider inventories"."""

from collections.abc import Mapping
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.op import Reply
from pileus.core.schema import Schema
from pileus.db.connect import Conflict, Tx
from pileus.placement.fits import MOST, Inventory
from pileus.placement.names import check_classes
from pileus.placement.provider import load, provider_path
from pileus.placement.rows import ALLOCATIONS, INVENTORIES, PROVIDERS, InventoryRow, Provider
from pileus.placement.service import ADMIN_OR_SERVICE, CONCURRENT_UPDATE, INVENTORY_IN_USE, PLACEMENT, answer

SHOWN = ("total", "reserved", "min_unit", "max_unit", "step_size", "allocation_ratio")
_COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": MOST}
_AMOUNTS: Schema = {
    "total": _COUNT,
    "reserved": {"type": "integer", "minimum": 0, "maximum": MOST},
    "min_unit": _COUNT,
    "max_unit": _COUNT,
    "step_size": _COUNT,
    "allocation_ratio": {"type": "number", "exclusiveMinimum": 0, "maximum": 3.40282e38},
}
GENERATION: Schema = {"type": "integer"}
CLASS_NAME = "^[A-Z0-9_]{1,255}$"


def record_schema(*required: str, **more: Schema) -> Schema:
    """The schema of one inventory."""
    return {
        "type": "object",
        "properties": {**_AMOUNTS, "resource_provider_generation": GENERATION, **more},
        "required": ["total", *required],
        "additionalProperties": False,
    }


ALL: Schema = {
    "type": "object",
    "properties": {
        "resource_provider_generation": GENERATION,
        "inventories": {
            "type": "object",
            "patternProperties": {CLASS_NAME: record_schema()},
            "additionalProperties": False,
        },
    },
    "required": ["resource_provider_generation", "inventories"],
    "additionalProperties": False,
}


def check_generation(provider: Provider, given: int) -> None:
    """Raise Conflicted when the caller has not seen the newest state of a provider."""
    if provider.generation != given:
        raise Conflicted(
            f"resource provider generation conflict: {given} was given, {provider.generation} is current. "
            "Please update the generation and try again.",
            code=CONCURRENT_UPDATE,
        )


def bump(tx: Tx, provider: Provider) -> int:
    """Raise a provider's generation by compare-and-swap; the new one, or raises Conflicted."""
    after = provider.generation + 1
    if not PROVIDERS.update(tx, {"generation": after}, id=provider.id, generation=provider.generation):
        raise Conflicted("The provider was changed by somebody else; read it again.", code=CONCURRENT_UPDATE)
    return after


def build(ctx: Context, provider: Provider, name: str, given: Mapping[str, Any]) -> InventoryRow:
    """A row from a checked body; raises BadRequest when nothing would be left to give."""
    amounts = Inventory(**{key: given[key] for key in SHOWN if key in given})
    least = 0 if ctx.version >= (1, 26) else 1
    if amounts.capacity < least:
        relation = "greater than" if least == 0 else "greater than or equal to"
        raise BadRequest(
            f"Invalid inventory for '{name}' on resource provider '{provider.id}'. "
            f"The reserved value is {relation} total."
        )
    return InventoryRow(provider_id=provider.id, resource_class=name, amounts=amounts, updated_at=ctx.now)


def shown(row: InventoryRow) -> dict[str, Any]:
    """One inventory as the API shows it."""
    return {name: getattr(row.amounts, name) for name in SHOWN}


def set_all(ctx: Context, provider: Provider, body: Mapping[str, Any]) -> list[InventoryRow]:
    """Replace all inventories of a provider; raises Conflicted for one in use that would go."""
    check_generation(provider, body["resource_provider_generation"])
    check_classes(
        ctx.tx, body["inventories"], f"Unknown resource class in inventory for resource provider {provider.id}: "
    )
    rows = [build(ctx, provider, name, given) for name, given in body["inventories"].items()]
    kept = {row.resource_class for row in rows}
    remove(ctx, provider, [r.resource_class for r in of(ctx.tx, provider) if r.resource_class not in kept])
    INVENTORIES.delete(ctx.tx, provider_id=provider.id)
    for row in rows:
        INVENTORIES.insert(ctx.tx, row)
    return rows


def of(tx: Tx, provider: Provider) -> list[InventoryRow]:
    """All inventories of a provider."""
    return INVENTORIES.all(tx, order="inventories.resource_class", provider_id=provider.id)


def remove(ctx: Context, provider: Provider, classes: list[str]) -> None:
    """Delete inventories that nobody uses; raises Conflicted."""
    used = sorted({a.resource_class for a in ALLOCATIONS.all(ctx.tx, provider_id=provider.id, resource_class=classes)})
    if used:
        raise Conflicted(
            f"update conflict: Inventory for '{', '.join(used)}' on resource provider '{provider.id}' in use.",
            code=INVENTORY_IN_USE,
        )
    INVENTORIES.delete(ctx.tx, provider_id=provider.id, resource_class=classes)


def _listed(ctx: Context, rows: list[InventoryRow], generation: int) -> Reply:
    body = {
        "resource_provider_generation": generation,
        "inventories": {row.resource_class: shown(row) for row in rows},
    }
    return answer(ctx, body, at=max((row.updated_at for row in rows), default=ctx.now))


@PLACEMENT.op(
    "GET", "/resource_providers/{provider_id}/inventories", rule="placement:resource_providers:inventories:list",
    allow=ADMIN_OR_SERVICE, load=load,
)  # fmt: skip
def list_inventories(ctx: Context, provider: Provider) -> Reply:
    """List resource provider inventories."""
    return _listed(ctx, of(ctx.tx, provider), provider.generation)


@PLACEMENT.op(
    "PUT", "/resource_providers/{provider_id}/inventories", rule="placement:resource_providers:inventories:update",
    allow=ADMIN_OR_SERVICE, load=load, takes=ALL,
)  # fmt: skip
def update_inventories(ctx: Context, provider: Provider, body: dict[str, Any]) -> Reply:
    """Update resource provider inventories: all of them at once."""
    return _listed(ctx, set_all(ctx, provider, body), bump(ctx.tx, provider))


@PLACEMENT.op(
    "POST", "/resource_providers/{provider_id}/inventories", rule="placement:resource_providers:inventories:create",
    allow=ADMIN_OR_SERVICE, load=load, ok=201,
    takes=record_schema("resource_class", resource_class={"type": "string", "pattern": CLASS_NAME}),
)  # fmt: skip
def create_inventory(ctx: Context, provider: Provider, body: dict[str, Any]) -> Reply:
    """Create a resource provider inventory."""
    name = body["resource_class"]
    check_classes(ctx.tx, [name], f"Unable to create inventory for resource provider {provider.id}: ")
    row = build(ctx, provider, name, body)
    try:
        INVENTORIES.insert(ctx.tx, row)
    except Conflict:
        raise Conflicted(f"Update conflict: {provider.id} has inventory of {name}.", code=CONCURRENT_UPDATE) from None
    generation = bump(ctx.tx, provider)
    return answer(
        ctx, {**shown(row), "resource_provider_generation": generation}, at=ctx.now,
        location=f"{provider_path(provider.id)}/inventories/{name}",
    )  # fmt: skip


@PLACEMENT.op(
    "DELETE", "/resource_providers/{provider_id}/inventories", since="1.5", ok=204,
    rule="placement:resource_providers:inventories:delete", allow=ADMIN_OR_SERVICE, load=load,
)  # fmt: skip
def delete_inventories(ctx: Context, provider: Provider) -> Reply:
    """Delete resource provider inventories."""
    remove(ctx, provider, [row.resource_class for row in of(ctx.tx, provider)])
    bump(ctx.tx, provider)
    return Reply()


def _one(ctx: Context, provider: Provider, name: str) -> InventoryRow:
    row = INVENTORIES.get(ctx.tx, provider_id=provider.id, resource_class=name)
    if row is None:
        raise NotFound(f"No inventory of class {name[:255]} for {provider.id}")
    return row


@PLACEMENT.op(
    "GET", "/resource_providers/{provider_id}/inventories/{resource_class}", load=lambda ctx, provider_id, **_: load(
        ctx, provider_id),
    rule="placement:resource_providers:inventories:show", allow=ADMIN_OR_SERVICE,
)  # fmt: skip
def show_inventory(ctx: Context, provider: Provider, resource_class: str) -> Reply:
    """Show a resource provider inventory."""
    row = _one(ctx, provider, resource_class)
    return answer(ctx, {**shown(row), "resource_provider_generation": provider.generation}, at=row.updated_at)


@PLACEMENT.op(
    "PUT", "/resource_providers/{provider_id}/inventories/{resource_class}", load=lambda ctx, provider_id, **_: load(
        ctx, provider_id),
    rule="placement:resource_providers:inventories:update", allow=ADMIN_OR_SERVICE,
    takes=record_schema("resource_provider_generation"),
)  # fmt: skip
def update_inventory(ctx: Context, provider: Provider, resource_class: str, body: dict[str, Any]) -> Reply:
    """Update a resource provider inventory."""
    check_generation(provider, body["resource_provider_generation"])
    row = build(ctx, provider, resource_class, body)
    changes = {"amounts": row.amounts, "updated_at": ctx.now}
    if not INVENTORIES.update(ctx.tx, changes, provider_id=provider.id, resource_class=resource_class):
        raise BadRequest(f"No inventory record with resource class {resource_class[:255]} for {provider.id}.")
    return answer(ctx, {**shown(row), "resource_provider_generation": bump(ctx.tx, provider)}, at=ctx.now)


@PLACEMENT.op(
    "DELETE", "/resource_providers/{provider_id}/inventories/{resource_class}", ok=204,
    load=lambda ctx, provider_id, **_: load(ctx, provider_id),
    rule="placement:resource_providers:inventories:delete", allow=ADMIN_OR_SERVICE,
)  # fmt: skip
def delete_inventory(ctx: Context, provider: Provider, resource_class: str) -> Reply:
    """Delete a resource provider inventory."""
    _one(ctx, provider, resource_class)
    remove(ctx, provider, [resource_class])
    bump(ctx.tx, provider)
    return Reply()
