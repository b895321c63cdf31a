"""What other services may ask of placement: providers of nodes, where something fits, claims.

All of it is database work in the caller's transaction and without policy.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct, structs

from pileus.core.errors import Conflicted
from pileus.core.ids import is_uuid
from pileus.db.connect import Tx
from pileus.placement import (  # noqa: F401 (operations register when their module is read)
    aggregate,
    allocation,
    allocation_candidate,
    claims,
    inventory,
    provider,
    reshaper,
    resource_class,
    root,
    trait,
    usage,
)
from pileus.placement.claims import Claim, NoRoom
from pileus.placement.fits import Inventory, free_share, holds, misfit
from pileus.placement.rows import (
    ALLOCATIONS,
    INVENTORIES,
    PROVIDERS,
    InventoryRow,
    Provider,
    allocations_of,
    names,
    stocks,
    touch,
)
from pileus.placement.service import PLACEMENT as SERVICE

__all__ = [
    "SERVICE",
    "Inventory",
    "NoRoom",
    "Usage",
    "Wanted",
    "allocations",
    "candidates",
    "claim",
    "consumers",
    "ensure_provider",
    "inconsistencies",
    "misfits",
    "move",
    "release",
    "remove_provider",
    "set_aggregates",
    "usages",
]


class Wanted(Struct, frozen=True, kw_only=True):
    """What one provider must give, all at once."""

    resources: Mapping[str, int]  # class → amount
    required: frozenset[str] = frozenset()  # traits that it must have
    forbidden: frozenset[str] = frozenset()  # and must not have


class Usage(Struct, frozen=True):
    """One resource class of one provider."""

    total: int
    used: int
    capacity: int
    reserved: int


def ensure_provider(
    tx: Tx, *, provider_id: str, name: str, inventories: Mapping[str, Inventory], traits: Iterable[str], now: float
) -> None:
    """Have a root provider as a node reports itself; writes only what changed.

    An operator's own ratios, reservations, inventories and traits stay: what the report says of ratio and
    reservation holds for new inventories only.
    """
    stored = PROVIDERS.get(tx, id=provider_id)
    if stored is None:
        stored = PROVIDERS.insert(
            tx, Provider(id=provider_id, name=name, root_id=provider_id, created_at=now, updated_at=now)
        )
    changed = _report_inventories(tx, provider_id, inventories, now)
    reported = sorted(set(traits))
    if stored.name != name or stored.reported_traits != reported:
        own = set(stored.traits) - set(stored.reported_traits)
        changes = {"name": name, "traits": sorted(own | set(reported)), "reported_traits": reported, "updated_at": now}
        PROVIDERS.update(tx, changes, id=provider_id)
        changed = True
    if changed:
        touch(tx, [provider_id])


def _report_inventories(tx: Tx, provider_id: str, inventories: Mapping[str, Inventory], now: float) -> bool:
    """Write what a report changes; what is no longer reported goes as soon as nobody uses it."""
    stored = {row.resource_class: row for row in INVENTORIES.all(tx, provider_id=provider_id)}
    changed = False
    for name, there in inventories.items():
        row = stored.pop(name, None)
        if row is None:
            new = InventoryRow(
                provider_id=provider_id, resource_class=name, amounts=there, updated_at=now, reported=True
            )
            INVENTORIES.insert(tx, new)
            changed = True
            continue
        own = row.amounts
        amounts = structs.replace(there, reserved=own.reserved, allocation_ratio=own.allocation_ratio)
        if amounts != own or not row.reported:
            changes = {"amounts": amounts, "reported": True, "updated_at": now}
            INVENTORIES.update(tx, changes, provider_id=provider_id, resource_class=name)
            changed = True
    for name, row in stored.items():
        if row.reported and not ALLOCATIONS.count(tx, provider_id=provider_id, resource_class=name):
            INVENTORIES.delete(tx, provider_id=provider_id, resource_class=name)
            changed = True
    return changed


def remove_provider(tx: Tx, provider_id: str) -> None:
    """Forget a provider; raises Conflicted while somebody has allocations of it or providers stand below it."""
    if ALLOCATIONS.count(tx, provider_id=provider_id):
        raise Conflicted(f"Resource provider {provider_id} is in use: move or delete its consumers first.")
    if PROVIDERS.count(tx, parent_id=provider_id):
        raise Conflicted(f"Resource provider {provider_id} has providers below it: delete them first.")
    INVENTORIES.delete(tx, provider_id=provider_id)
    PROVIDERS.delete(tx, id=provider_id)


def set_aggregates(tx: Tx, provider_id: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
    """Put a provider into aggregates and take it out of others; nothing to do for one that is not known."""
    stored = PROVIDERS.get(tx, id=provider_id)
    if stored is None:
        return
    gone = set(remove)
    wanted = [one for one in dict.fromkeys([*stored.aggregates, *add]) if one not in gone]
    if wanted != stored.aggregates:
        PROVIDERS.update(tx, {"aggregates": wanted}, id=provider_id)
        touch(tx, [provider_id])


def candidates(tx: Tx, wanted: Wanted) -> list[str]:
    """Ids of the providers that could give all of it alone, the one with the largest share left free first."""
    there = stocks(tx, classes=list(wanted.resources))
    found = []
    for provider_id, traits in _traits(tx):
        own = there.get(provider_id, {})
        if wanted.required - traits or wanted.forbidden & traits:
            continue
        if holds(own, wanted.resources):
            found.append((-free_share(wanted.resources, own), provider_id))
    return [provider_id for _, provider_id in sorted(found)]


def misfits(tx: Tx, wanted: Wanted) -> dict[str, list[str]]:
    """For each root provider by name, one line for each thing that is missing; empty where it would fit."""
    there = stocks(tx)
    found = {}
    for row in PROVIDERS.all(tx, order="resource_providers.name", parent_id=None):
        own, traits = there.get(row.id, {}), set(row.traits)
        lines = [
            f"{name}: {why}" for name, amount in wanted.resources.items() if (why := misfit(amount, own.get(name)))
        ]
        lines += [f"trait {name}: required, not present" for name in sorted(wanted.required - traits)]
        lines += [f"trait {name}: present, not allowed" for name in sorted(wanted.forbidden & traits)]
        found[row.name] = lines
    return found


def _traits(tx: Tx) -> list[tuple[str, frozenset[str]]]:
    return [(row[0], names(row[1])) for row in tx.all("select id, traits from resource_providers order by id")]


def claim(
    tx: Tx,
    *,
    consumer_id: str,
    provider_id: str,
    resources: Mapping[str, int],
    project_id: str,
    user_id: str,
    consumer_type: str = "INSTANCE",
    now: float,
) -> None:
    """Give a consumer exactly these resources of one provider, whatever it had; raises NoRoom with the reasons."""
    given = {provider_id: {name: amount for name, amount in resources.items() if amount > 0}}
    one = Claim(
        consumer_id=consumer_id, resources=given, project_id=project_id, user_id=user_id, consumer_type=consumer_type
    )
    try:
        claims.replace(tx, [one], now)
    except LookupError as error:
        raise NoRoom(str(error)) from None


def move(tx: Tx, from_consumer: str, to_consumer: str, now: float) -> None:
    """Hand a consumer's allocations over to another that has none; nothing to do when there are none."""
    claims.move(tx, from_consumer, to_consumer, now)


def release(tx: Tx, consumer_id: str) -> None:
    """Give back all that a consumer has; nothing to do when it has nothing."""
    claims.release(tx, consumer_id)


def allocations(tx: Tx, consumer_id: str) -> dict[str, dict[str, int]]:
    """Provider → class → amount of one consumer."""
    return allocations_of(tx, consumer_id)


def consumers(tx: Tx) -> set[str]:
    """Ids of all who have allocations."""
    return {row[0] for row in tx.all("select id from consumers")}


def usages(tx: Tx, provider_ids: Iterable[str]) -> dict[str, dict[str, Usage]]:
    """What each of these providers has and what is used of it: provider → class → usage."""
    wanted = list(provider_ids)
    found = stocks(tx, providers=wanted) if wanted else {}
    return {
        provider_id: {
            name: Usage(stock.inventory.total, stock.used, stock.capacity, stock.inventory.reserved)
            for name, stock in own.items()
        }
        for provider_id, own in found.items()
    }


def inconsistencies(tx: Tx) -> list[str]:
    """What should not be, one line each; nothing when all is well."""
    found = [
        f"consumer {row[0]} has no allocations"
        for row in tx.all("select id from consumers where id not in (select consumer_id from allocations)")
    ]
    found += [
        f"consumer {row[0]} has {row[2]} of provider {row[1]}, which has no such inventory"
        for row in tx.all(
            "select a.consumer_id, a.provider_id, a.resource_class from allocations a left join inventories i"
            " on i.provider_id = a.provider_id and i.resource_class = a.resource_class where i.amounts is null"
        )
    ]
    found += [f"consumer {consumer} has no UUID" for consumer in sorted(consumers(tx)) if not is_uuid(consumer)]
    return found
