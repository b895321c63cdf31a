"""Whether an amount fits into an inventory, and what is missing when it does not.  Pure.

Source: Placement API reference, "Resource provider inventory".
"""

from collections.abc import Mapping

from msgspec import Struct

MOST = 0x7FFFFFFF


class Inventory(Struct, frozen=True, gc=False):
    """How much of one resource class a provider has."""

    total: int
    reserved: int = 0  # of it, not for consumers
    allocation_ratio: float = 1.0  # overcommitment: how often each unit may be given
    min_unit: int = 1  # least and most that one consumer may take
    max_unit: int = MOST
    step_size: int = 1  # what is taken must be a multiple of it

    @property
    def capacity(self) -> int:
        """All that consumers together may take."""
        return int((self.total - self.reserved) * self.allocation_ratio)


class Stock(Struct, frozen=True, gc=False):
    """One resource class of one provider: what there is, and what of it consumers have."""

    inventory: Inventory
    capacity: int  # the inventory's, counted once
    used: int

    @classmethod
    def of(cls, inventory: Inventory, used: int = 0) -> "Stock":
        """An inventory of which so much is used."""
        return cls(inventory, inventory.capacity, used)


def holds(stocks: Mapping[str, Stock], wanted: Mapping[str, int]) -> bool:
    """Whether all of it can be taken at once; `misfit` says why not."""
    for name, amount in wanted.items():
        stock = stocks.get(name)
        if stock is None or stock.used + amount > stock.capacity:
            return False
        have = stock.inventory
        if not have.min_unit <= amount <= have.max_unit or amount % have.step_size:
            return False
    return True


def misfit(amount: int, stock: Stock | None) -> str | None:
    """Why this amount cannot be taken, or None when it can."""
    if stock is None:
        return f"{amount} wanted, none offered"
    have, capacity = stock.inventory, stock.capacity
    if stock.used + amount > capacity:
        return f"{amount} wanted, {max(capacity - stock.used, 0)} of {capacity} free"
    if not have.min_unit <= amount <= have.max_unit:
        return f"{amount} wanted, only {have.min_unit} to {have.max_unit} may be taken at once"
    if amount % have.step_size:
        return f"{amount} wanted, only multiples of {have.step_size} may be taken"
    return None


def free_share(wanted: Mapping[str, int], stocks: Mapping[str, Stock]) -> float:
    """The smallest share that would stay free of any wanted class; what schedulers spread by."""
    least = 1.0
    for name, amount in wanted.items():
        stock = stocks[name]
        capacity = stock.capacity
        least = min(least, (capacity - stock.used - amount) / max(capacity, 1))
    return least
