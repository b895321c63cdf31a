"""Taking and giving back resources; no claim ever passes a capacity, whoever races.

All that is checked and written here happens in the caller's transaction: on SQLite it is alone, on
PostgreSQL a lost race is retried by the store.
"""

from collections import defaultdict
from collections.abc import Mapping

from msgspec import Struct, structs

from pileus.core.errors import Conflicted
from pileus.db.connect import Conflict, Tx
from pileus.placement.fits import misfit
from pileus.placement.rows import (
    ALLOCATIONS,
    CONSUMERS,
    PROVIDERS,
    Allocation,
    Consumer,
    Resources,
    allocations_of,
    stocks,
    touch,
)
from pileus.placement.service import CONCURRENT_UPDATE


class NoRoom(Conflicted):
    """A provider lacks what was to be taken; the text has one line for each thing missing."""


class Claim(Struct, frozen=True, kw_only=True):
    """What one consumer is to have afterwards, whatever it had; empty `resources`: nothing."""

    consumer_id: str
    resources: Mapping[str, Resources]  # provider → class → amount
    project_id: str
    user_id: str
    consumer_type: str | None = None  # None: as it was


def replace(tx: Tx, claims: list[Claim], now: float) -> None:
    """Give each consumer exactly what its claim says, all or none; raises NoRoom, LookupError (no such provider)."""
    claims = [structs.replace(c, resources={p: r for p, r in c.resources.items() if r}) for c in claims]
    mine = [claim.consumer_id for claim in claims]
    before = {provider for consumer in mine for provider in allocations_of(tx, consumer)}
    after = {provider for claim in claims for provider in claim.resources}
    _check(tx, claims, after)
    for consumer_id in mine:
        ALLOCATIONS.delete(tx, consumer_id=consumer_id)
    for claim in claims:
        _write(tx, claim, now)
    touch(tx, before | after)


def _check(tx: Tx, claims: list[Claim], providers: set[str]) -> None:
    """Raise NoRoom unless everything fits together, beside what the other consumers have."""
    known = {provider.id: provider.name for provider in PROVIDERS.all(tx, id=providers)}
    if unknown := sorted(providers - set(known)):
        raise LookupError(f"Allocation for resource provider '{unknown[0]}' that does not exist.")
    there = stocks(tx, providers=sorted(providers), without=[c.consumer_id for c in claims]) if providers else {}
    taken: dict[tuple[str, str], int] = defaultdict(int)
    missing = []
    for claim in claims:
        for provider_id, resources in claim.resources.items():
            for name, amount in resources.items():
                stock = there.get(provider_id, {}).get(name)
                if stock is not None:
                    stock = structs.replace(stock, used=stock.used + taken[provider_id, name])
                taken[provider_id, name] += amount
                if why := misfit(amount, stock):
                    missing.append(f"{known[provider_id]}: {name}: {why}")
    if missing:
        raise NoRoom("\n".join(missing))


def _write(tx: Tx, claim: Claim, now: float) -> None:
    """The consumer and its allocations; a consumer without any goes."""
    if not claim.resources:
        CONSUMERS.delete(tx, id=claim.consumer_id)
        return
    changed = tx.run(
        "update consumers set generation = generation + 1, project_id = ?, user_id = ?, type = coalesce(?, type),"
        " updated_at = ? where id = ?",
        claim.project_id, claim.user_id, claim.consumer_type, now, claim.consumer_id,
    )  # fmt: skip
    if not changed:
        _insert(tx, claim.consumer_id, claim.project_id, claim.user_id, claim.consumer_type, now)
    for provider_id, resources in claim.resources.items():
        for name, amount in resources.items():
            row = Allocation(
                consumer_id=claim.consumer_id, provider_id=provider_id, resource_class=name, used=amount, updated_at=now
            )  # fmt: skip
            ALLOCATIONS.insert(tx, row)


def _insert(tx: Tx, consumer_id: str, project_id: str, user_id: str, kind: str | None, now: float) -> None:
    """A new consumer; raises Conflicted when another claim for it came first."""
    row = Consumer(
        id=consumer_id, project_id=project_id, user_id=user_id, type=kind, generation=1, created_at=now, updated_at=now
    )  # fmt: skip
    try:
        CONSUMERS.insert(tx, row)
    except Conflict:
        raise Conflicted(f"Consumer {consumer_id} came to be meanwhile.", code=CONCURRENT_UPDATE) from None


def release(tx: Tx, consumer_id: str) -> bool:
    """Give back all that a consumer has; whether it had anything."""
    had = allocations_of(tx, consumer_id)
    ALLOCATIONS.delete(tx, consumer_id=consumer_id)
    CONSUMERS.delete(tx, id=consumer_id)
    touch(tx, list(had))
    return bool(had)


def move(tx: Tx, from_consumer: str, to_consumer: str, now: float) -> None:
    """Hand all allocations of one consumer over to another, which must have none; usage stays as it is."""
    row = CONSUMERS.get(tx, id=from_consumer)
    if row is None:
        return
    _insert(tx, to_consumer, row.project_id, row.user_id, row.type, now)
    providers = list(allocations_of(tx, from_consumer))
    ALLOCATIONS.update(tx, {"consumer_id": to_consumer, "updated_at": now}, consumer_id=from_consumer)
    CONSUMERS.delete(tx, id=from_consumer)
    touch(tx, providers)
