"""Moving inventories between providers together with what is allocated of them, at once.

Source: Placement API reference, "Reshaper".
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted
from pileus.core.op import Reply, collection
from pileus.placement import claims
from pileus.placement.allocation import claims_schema, read
from pileus.placement.claims import NoRoom
from pileus.placement.inventory import ALL, build, check_generation
from pileus.placement.names import check_classes
from pileus.placement.provider import canonical
from pileus.placement.rows import INVENTORIES, PROVIDERS, touch
from pileus.placement.service import INVENTORY_IN_USE, PLACEMENT, SERVICE


def reshape(ctx: Context, body: dict[str, Any]) -> Reply:
    """Reshape: set inventories and allocations together; an inventory in use may go when its allocations do."""
    wanted = [read(ctx, consumer_id, one) for consumer_id, one in body["allocations"].items()]
    providers = [_add(ctx, provider_id, given) for provider_id, given in body["inventories"].items()]
    try:
        claims.replace(ctx.tx, wanted, ctx.now)
    except LookupError as error:
        raise BadRequest(str(error)) from None
    except NoRoom as missing:
        raise Conflicted(f"Unable to allocate inventory: {missing.message}") from None
    for provider_id, kept in providers:
        _drop(ctx, provider_id, kept)
    touch(ctx.tx, [provider_id for provider_id, _ in providers])
    return Reply()


def _add(ctx: Context, provider_id: str, given: dict[str, Any]) -> tuple[str, set[str]]:
    """Write the new inventories of a provider, leaving the old ones; its id and what is to be kept."""
    provider = PROVIDERS.get(ctx.tx, id=canonical(provider_id))
    if provider is None:
        raise BadRequest(f"Resource provider {provider_id} named in inventories does not exist.")
    check_generation(provider, given["resource_provider_generation"])
    check_classes(ctx.tx, given["inventories"], "")
    for name, amounts in given["inventories"].items():
        INVENTORIES.delete(ctx.tx, provider_id=provider.id, resource_class=name)
        INVENTORIES.insert(ctx.tx, build(ctx, provider, name, amounts))
    return provider.id, set(given["inventories"])


def _drop(ctx: Context, provider_id: str, kept: set[str]) -> None:
    """Delete the inventories that are not to be kept; raises Conflicted for one that is still used."""
    rest = ctx.tx.all("select distinct resource_class from allocations where provider_id = ?", provider_id)
    if left := sorted({row[0] for row in rest} - kept):
        raise Conflicted(
            f"Inventory for '{', '.join(left)}' on resource provider '{provider_id}' in use.", code=INVENTORY_IN_USE
        )
    for row in INVENTORIES.all(ctx.tx, provider_id=provider_id):
        if row.resource_class not in kept:
            INVENTORIES.delete(ctx.tx, provider_id=provider_id, resource_class=row.resource_class)


for _since, _until in (("1.30", "1.33"), ("1.34", "1.37"), ("1.38", "")):
    PLACEMENT.op(
        "POST", "/reshaper", rule="placement:reshaper:reshape", allow=SERVICE, load=collection, ok=204,
        since=_since, until=_until,
        takes={
            "type": "object",
            "properties": {
                "inventories": {
                    "type": "object", "minProperties": 1, "patternProperties": {"^[0-9a-fA-F-]{36}$": ALL},
                    "additionalProperties": False,
                },
                "allocations": claims_schema(_since, least=0),
            },
            "required": ["inventories", "allocations"],
            "additionalProperties": False,
        },
    )(reshape)  # fmt: skip
