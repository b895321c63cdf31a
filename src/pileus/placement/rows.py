"""Providers, inventories, consumers and allocations as the store has them, and the queries over them."""

import functools
from collections import defaultdict
from collections.abc import Collection, Mapping

import msgspec
from msgspec import Struct

from pileus.core.errors import NotFound
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.placement.fits import Inventory, Stock

Resources = Mapping[str, int]  # resource class → amount


class Provider(Struct, frozen=True, kw_only=True):
    """Something that has resources; providers form trees (a node, its devices)."""

    id: str
    name: str
    root_id: str
    created_at: float
    updated_at: float
    generation: int = 0  # raised by every change of inventories, traits, aggregates and allocations
    parent_id: str | None = None
    traits: list[str] = []  # sorted
    reported_traits: list[str] = []  # those of them that the provider itself reported
    aggregates: list[str] = []


class InventoryRow(Struct, frozen=True, kw_only=True):
    """One resource class of one provider."""

    provider_id: str
    resource_class: str
    amounts: Inventory
    updated_at: float
    reported: bool = False  # by the provider itself, not by an operator


class Consumer(Struct, frozen=True, kw_only=True):
    """Who takes resources: a server, a migration."""

    id: str
    project_id: str
    user_id: str
    created_at: float
    updated_at: float
    type: str | None = None
    generation: int = 0


class Allocation(Struct, frozen=True, kw_only=True):
    """What one consumer has of one resource class of one provider."""

    consumer_id: str
    provider_id: str
    resource_class: str
    used: int
    updated_at: float


PROVIDERS = Table(Provider, "resource_providers")
INVENTORIES = Table(InventoryRow, "inventories", key=("provider_id", "resource_class"))
CONSUMERS = Table(Consumer, "consumers")
ALLOCATIONS = Table(Allocation, "allocations", key=("consumer_id", "provider_id", "resource_class"))


def get_provider(tx: Tx, provider_id: str) -> Provider:
    """A provider by id; raises NotFound."""
    provider = PROVIDERS.get(tx, id=provider_id.lower())
    if provider is None:
        raise NotFound(
            f"No resource provider with uuid {provider_id} found", code="placement.resource_provider.not_found"
        )
    return provider


def touch(tx: Tx, provider_ids: Collection[str]) -> None:
    """Raise the generation of providers, in one order so that writers do not deadlock."""
    for provider_id in sorted(provider_ids):
        tx.run("update resource_providers set generation = generation + 1 where id = ?", provider_id)


def stocks(
    tx: Tx, *, providers: Collection[str] = (), classes: Collection[str] = (), without: Collection[str] = ()
) -> dict[str, dict[str, Stock]]:
    """What each provider has and what of it is used: provider → class → stock.

    `providers` and `classes` narrow it (empty: all); allocations of the consumers in `without` do not count.
    """
    narrow, params = _narrow({"provider_id": providers, "resource_class": classes})
    others = f" and a.consumer_id not in ({_marks(without)})" if without else ""
    rows = tx.all(
        "select provider_id, resource_class, amounts, coalesce((select cast(sum(a.used) as bigint) from allocations a"
        " where a.provider_id = inventories.provider_id and a.resource_class = inventories.resource_class"
        f"{others}), 0) from inventories where 1 = 1{narrow} order by provider_id, resource_class",
        *without, *params,
    )  # fmt: skip
    found: dict[str, dict[str, Stock]] = defaultdict(dict)
    for provider_id, name, text, used in rows:
        inventory, capacity = _amounts(text)
        found[provider_id][name] = Stock(inventory, capacity, used)
    return found


@functools.lru_cache(maxsize=4096)
def _amounts(text: str) -> tuple[Inventory, int]:
    """The inventory that a JSON text in the store holds, and its capacity; nodes alike have the same."""
    inventory = msgspec.json.decode(text, type=Inventory)
    return inventory, inventory.capacity


def usage(tx: Tx, provider_id: str) -> dict[str, int]:
    """What is used of each class that a provider has an inventory of."""
    return {name: stock.used for name, stock in stocks(tx, providers=[provider_id]).get(provider_id, {}).items()}


def allocations_of(tx: Tx, consumer_id: str) -> dict[str, dict[str, int]]:
    """A consumer's allocations: provider → class → amount."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for row in ALLOCATIONS.all(tx, order="provider_id, resource_class", consumer_id=consumer_id):
        found[row.provider_id][row.resource_class] = row.used
    return dict(found)


@functools.lru_cache(maxsize=4096)
def names(text: str) -> frozenset[str]:
    """The set that a JSON list in the store holds; nodes alike have the same list, so this is mostly one look-up."""
    return frozenset(msgspec.json.decode(text, type=list[str]))


def _narrow(columns: Mapping[str, Collection[str]]) -> tuple[str, list[str]]:
    """SQL that narrows columns to the values given, and its parameters."""
    given = [(column, values) for column, values in columns.items() if values]
    sql = "".join(f" and {column} in ({_marks(values)})" for column, values in given)
    return sql, [value for _, values in given for value in values]


def _marks(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))
