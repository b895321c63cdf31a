"""How the lives of networking reach nodes: what does not answer becomes a reason, never an end of the whole step.

A network or a group is on many nodes; one that is away must not hold up the others.
"""

from collections.abc import Callable
from typing import Protocol

from pileus.core.nodes import ALIVE_SECONDS, NODES, Node
from pileus.core.reconcile import Lease, Transient
from pileus.db.connect import Database, Tx
from pileus.network.drivers import Switch


class Hub(Protocol):
    """What lives need of the outside: the switch of each node."""

    def switch(self, node_id: str, lease: Lease | None = None) -> Switch: ...


class Reach:
    """The nodes as one lease reaches them."""

    def __init__(self, db: Database, hub: Hub, lease: Lease, clock: Callable[[], float]):
        self.db, self.hub, self.lease, self.clock = db, hub, lease, clock
        self._nodes: dict[str, Node] | None = None

    def nodes(self) -> dict[str, Node]:
        """All nodes by id, read once for a step."""
        if self._nodes is None:
            self._nodes = {node.id: node for node in self.db.read(lambda tx: NODES.all(tx, order="nodes.name"))}
        return self._nodes

    def away(self, node_id: str) -> bool:
        """Whether a node is not known or has not reported for long; when it is back, all on it looks again."""
        node = self.nodes().get(node_id)
        return node is None or self.clock() - node.seen_at >= ALIVE_SECONDS

    def switch(self, node_id: str) -> Switch:
        """The switch of a node, under the lease."""
        return self.hub.switch(node_id, self.lease)

    def ensure(self, node_id: str, call: Callable[[Switch], object]) -> str:
        """ "" when what was asked for is done; else why not yet."""
        try:
            return "" if call(self.switch(node_id)) else f"node {self._name(node_id)} is still at it"
        except (OSError, ValueError, Transient) as error:
            return f"node {self._name(node_id)}: {error}"

    def remove(self, node_id: str, call: Callable[[Switch], object]) -> str:
        """ "" when nothing is left; else why not yet.  A node that is away cleans up by itself later."""
        return "" if self.away(node_id) else self.ensure(node_id, call)

    def _name(self, node_id: str) -> str:
        node = self.nodes().get(node_id)
        return node.name if node else node_id


def hosts_for(tx: Tx, role: str, now: float) -> list[Node]:
    """Nodes that may carry routers or DHCP: alive, with the role, and not taken out by the operator."""
    out = {str(row[0]) for row in tx.all("select node_id from network_agents where admin_state_up = 0")}
    return [
        node
        for node in NODES.all(tx, order="nodes.name")
        if role in node.roles and now - node.seen_at < ALIVE_SECONDS and node.id not in out
    ]
