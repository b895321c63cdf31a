"""The machines of the cloud as controllers know them; what a node can do is reported by its agent."""

from typing import Any

from msgspec import Struct

from pileus.core.errors import NotFound
from pileus.db.connect import Tx
from pileus.db.rows import Table

ALIVE_SECONDS = 60.0  # a node that has not reported for so long is shown as down


class Node(Struct, frozen=True, kw_only=True):
    """A machine that runs our agent."""

    id: str  # its UUID, also its resource provider's
    name: str  # host name in the API
    url: str  # unix:///path/agent.sock or https://host:port
    endpoint: str  # VXLAN tunnel endpoint address, "" where there is only one node
    roles: list[str]  # "compute", "network", "storage"
    capabilities: dict[str, Any]  # as the hypervisor driver reported
    pools: list[dict[str, Any]]  # of block storage
    created_at: float
    seen_at: float
    disabled: bool = False  # by the operator: no new servers
    disabled_reason: str | None = None
    zone: str = "nova"


NODES = Table(Node, "nodes")


def get_node(tx: Tx, node_id: str) -> Node:
    """A node by id; raises NotFound."""
    node = NODES.get(tx, id=node_id)
    if node is None:
        raise NotFound(f"Node {node_id} could not be found.")
    return node


def alive_nodes(tx: Tx, role: str, now: float) -> list[Node]:
    """Nodes with this role that reported lately, by name."""
    return [n for n in NODES.all(tx, order="nodes.name") if role in n.roles and now - n.seen_at < ALIVE_SECONDS]
