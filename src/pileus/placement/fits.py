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


class Stock(Inventory, frozen=True, gc=False):
    """One resource class of one provider: what there is, and what of it consumers have."""

    used: int = 0


def holds(stocks: Mapping[str, Stock], wanted: Mapping[str, int]) -> bool:
    """Whether all of it can be taken at once; `misfit` says why not."""
    for name, amount in wanted.items():
        stock = stocks.get(name)
        if stock is None or stock.used + amount > stock.capacity or amount % stock.step_size:
            return False
        if not stock.min_unit <= amount <= stock.max_unit:
            return False
    return True


def misfit(amount: int, stock: Stock | None) -> str | None:
    """Why this amount cannot be taken, or None when it can."""
    if stock is None:
        return f"{amount} wanted, none offered"
    capacity = stock.capacity
    if stock.used + amount > capacity:
        return f"{amount} wanted, {max(capacity - stock.used, 0)} of {capacity} free"
    if not stock.min_unit <= amount <= stock.max_unit:
        return f"{amount} wanted, only {stock.min_unit} to {stock.max_unit} may be taken at once"
    if amount % stock.step_size:
        return f"{amount} wanted, only multiples of {stock.step_size} may be taken"
    return None


def free_share(wanted: Mapping[str, int], stocks: Mapping[str, Stock]) -> float:
    """The smallest share that would stay free of any wanted class; what schedulers spread by."""
    least = 1.0
    for name, amount in wanted.items():
        stock = stocks[name]
        capacity = stock.capacity
        least = min(least, (capacity - stock.used - amount) / max(capacity, 1))
    return least
