"""The kinds of networking that live, for the workers."""

from typing import Any, Protocol

from pileus.core.reconcile import Kind, Lease
from pileus.db.connect import Database
from pileus.network.drivers import Switch


class Hub(Protocol):
    """What lives need of the outside: the switch of each node."""

    def switch(self, node_id: str, lease: Lease | None = None) -> Switch: ...


def kinds(db: Database, hub: Hub) -> list[Kind[Any]]:
    """Everything of networking that lives."""
    return []
