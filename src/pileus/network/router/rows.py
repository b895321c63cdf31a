"""Routers in the database."""

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import NotFound
from pileus.core.paging import Listing
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.network.port.rows import LEG, PORTS, Port
from pileus.network.subnet.rows import Route


class Router(Struct, frozen=True, kw_only=True):
    """Forwards between the networks that it has ports on, and to an external network."""

    id: str
    project_id: str
    name: str = ""
    description: str = ""
    admin_state_up: bool = True
    gateway_network_id: str | None = None
    gateway_port_id: str | None = None
    enable_snat: bool = True
    routes: list[Route] = []
    availability_zone_hints: list[str] = []
    tags: list[str] = []
    revision: int = 0
    created_at: float
    updated_at: float
    deleting: bool = False
    node_id: str | None = None  # the node that carries it
    left_nodes: list[str] = []  # that carried it before and may hold a trace of it
    standing: bool = False
    fault: str = ""


ROUTERS = Table(Router, "routers")


def seen_routers(ctx: Context) -> Listing[Router]:
    """The routers that the caller may know of."""
    listing = Listing(ROUTERS).where("routers.deleting = 0")
    if not ctx.allows("get_router", {}):
        listing.where("routers.project_id = ?", ctx.caller.project_id)
    return listing


def load_router(ctx: Context, router_id: str) -> Router:
    """A router that the caller may know of; raises NotFound."""
    rows = seen_routers(ctx).equals("id", [router_id]).page(ctx.tx, sort=[("id", False)], limit=1)
    if not rows:
        raise NotFound(f"Router {router_id} could not be found", kind="RouterNotFound")
    return rows[0]


def legs_of(tx: Tx, router_id: str) -> list[Port]:
    """The ports by which a router is on networks inside, oldest first."""
    order = "ports.created_at, ports.id"
    return PORTS.all(tx, device_id=router_id, device_owner=LEG, deleting=False, order=order)
