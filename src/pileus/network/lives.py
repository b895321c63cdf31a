"""The kinds of networking that live, for the workers."""

import time
from collections.abc import Callable
from typing import Any

from pileus.core.reconcile import Kind
from pileus.db.connect import Database
from pileus.network.network import world as network
from pileus.network.port import world as port
from pileus.network.reach import Hub
from pileus.network.router import world as router
from pileus.network.security_group import world as security_group


def kinds(db: Database, hub: Hub, clock: Callable[[], float] = time.time) -> list[Kind[Any]]:
    """Everything of networking that lives."""
    return [module.kind(db, hub, clock) for module in (network, port, security_group, router)]
