"""The nodes as networking shows them to operators.  Source: Networking API reference, "Agents"."""

from typing import Any

from msgspec import Struct

from pileus.core.clock import iso
from pileus.core.context import Context
from pileus.core.errors import Conflicted, NotFound
from pileus.core.fields import Field, Fields
from pileus.core.nodes import ALIVE_SECONDS, NODES, Node
from pileus.core.op import Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.schema import BOOLEAN, TEXT
from pileus.db.rows import Table
from pileus.network.conventions import listed, shown
from pileus.network.service import ADMIN, NETWORK

TYPE = "Pileus node agent"
BINARY = "pileus-node"


class Said(Struct, frozen=True, kw_only=True):
    """What the operator says of a node's networking."""

    node_id: str
    admin_state_up: bool = True  # may carry routers and DHCP
    description: str = ""


SAID = Table(Said, "network_agents", key=("node_id",))


def _said(node: Node, ctx: Context) -> Said:
    return SAID.get(ctx.tx, node_id=node.id) or Said(node_id=node.id)


AGENT = Fields(
    "agent",
    "agents",
    (
        Field("id", "rqs"),
        Field("agent_type", "r", get=lambda _node, _ctx: TYPE),
        Field("binary", "r", get=lambda _node, _ctx: BINARY),
        Field("topic", "r", get=lambda _node, _ctx: "N/A"),
        Field("host", "rqs", get="name"),
        Field("admin_state_up", "ru", BOOLEAN, get=lambda node, ctx: _said(node, ctx).admin_state_up),
        Field("alive", "r", get=lambda node, ctx: ctx.now - node.seen_at < ALIVE_SECONDS),
        Field("description", "ru", TEXT, get=lambda node, ctx: _said(node, ctx).description),
        Field("availability_zone", "rqs", get="zone"),
        Field("created_at", "r", get=lambda node, _ctx: iso(node.created_at)),
        Field("started_at", "r", get=lambda node, _ctx: iso(node.created_at)),
        Field("heartbeat_timestamp", "r", get=lambda node, _ctx: iso(node.seen_at)),
        Field("configurations", "r", get=lambda node, _ctx: {"roles": node.roles, "tunneling_ip": node.endpoint}),
        Field("resources_synced", "r", get=lambda _node, _ctx: None),
    ),
)


NETWORK.rule("get_agent", ADMIN)


def load_agent(ctx: Context, agent_id: str) -> Node:
    """A node; raises NotFound."""
    node = NODES.get(ctx.tx, id=agent_id)
    if node is None:
        raise NotFound(f"Agent {agent_id} could not be found.", kind="AgentNotFound")
    return node


def _by_words(listing: Listing[Node], values: list[str], *known: str) -> None:
    if not set(values) & set(known):
        listing.where("1 = 0")


@NETWORK.op("GET", "/agents", rule="get_agents", allow="role:reader", load=collection)
def list_agents(ctx: Context, query: Query) -> dict[str, Any]:
    """List the nodes; who may see none of them (get_agent) gets an empty list, as upstream filters it."""

    def by_alive(listing: Listing[Node], values: list[str]) -> None:
        wanted = [Query({"alive": [value]}).truth("alive") for value in values]
        since = ctx.now - ALIVE_SECONDS
        listing.where(
            " or ".join("nodes.seen_at > ?" if w else "nodes.seen_at <= ?" for w in wanted), *[since] * len(wanted)
        )

    special = {
        "alive": by_alive,
        "agent_type": lambda listing, values: _by_words(listing, values, TYPE),
        "binary": lambda listing, values: _by_words(listing, values, BINARY),
    }
    listing = Listing(NODES)
    if not ctx.allows("get_agent", {}):
        listing.where("1 = 0")
    return listed(ctx, AGENT, listing, query, special)


@NETWORK.op("GET", "/agents/{agent_id}", rule="get_agent", load=load_agent)
def get_agent(ctx: Context, node: Node, query: Query) -> dict[str, Any]:
    """Show a node."""
    return shown(ctx, AGENT, node, query)


@NETWORK.op("PUT", "/agents/{agent_id}", rule="update_agent", allow=ADMIN, load=load_agent, takes=AGENT, gives=AGENT)
def update_agent(ctx: Context, node: Node, body: dict[str, Any]) -> Node:
    """Describe a node, or keep new routers and DHCP off it."""
    before = _said(node, ctx)
    SAID.delete(ctx.tx, node_id=node.id)
    SAID.insert(
        ctx.tx,
        Said(
            node_id=node.id, admin_state_up=body.get("admin_state_up", before.admin_state_up),
            description=body.get("description", before.description) or "",
        ),
    )  # fmt: skip
    return node


@NETWORK.op("DELETE", "/agents/{agent_id}", rule="delete_agent", allow=ADMIN, load=load_agent, ok=204)
def delete_agent(ctx: Context, node: Node) -> Reply:
    """Refused while the node reports: a node is taken out where it runs."""
    raise Conflicted(
        f"Agent {node.id} cannot be deleted here: take node {node.name} out of the cloud.", kind="AgentInUse"
    )
