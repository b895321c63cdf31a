"""Networks in the database."""

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import NotFound
from pileus.core.paging import Listing
from pileus.db.connect import Tx
from pileus.db.rows import Table


class Network(Struct, frozen=True, kw_only=True):
    """A broadcast domain."""

    id: str
    project_id: str
    name: str = ""
    description: str = ""
    admin_state_up: bool = True
    shared: bool = False
    external: bool = False
    is_default: bool = False
    mtu: int = 1450
    port_security_enabled: bool = True
    network_type: str = "vxlan"  # "vxlan" | "flat"
    physical_network: str | None = None
    segmentation_id: int | None = None
    dns_domain: str = ""
    availability_zone_hints: list[str] = []
    tags: list[str] = []
    revision: int = 0
    created_at: float
    updated_at: float
    deleting: bool = False
    nodes: list[str] = []  # that may hold a trace of it
    standing: list[str] = []  # where its segment was seen to stand
    served_by: str | None = None  # the node that runs its DHCP and metadata
    fault: str = ""


NETWORKS = Table(Network, "networks")


def seen_networks(ctx: Context) -> Listing[Network]:
    """The networks that the caller may know of."""
    listing = Listing(NETWORKS).where("networks.deleting = 0")
    if not ctx.allows("get_network", {}):
        listing.where("networks.project_id = ? or networks.shared = 1 or networks.external = 1", ctx.caller.project_id)
    return listing


def load_network(ctx: Context, network_id: str) -> Network:
    """A network that the caller may know of; raises NotFound."""
    rows = seen_networks(ctx).equals("id", [network_id]).page(ctx.tx, sort=[("id", False)], limit=1)
    if not rows:
        raise NotFound(f"Network {network_id} could not be found.", kind="NetworkNotFound")
    return rows[0]


def find_network(tx: Tx, network_id: str) -> Network | None:
    """A network that is not being deleted."""
    return NETWORKS.get(tx, id=network_id, deleting=False)
