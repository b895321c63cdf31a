"""Floating IPs in the database."""

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import NotFound
from pileus.core.paging import Listing
from pileus.core.reconcile import poke
from pileus.db.connect import Tx
from pileus.db.rows import Table


class FloatingIp(Struct, frozen=True, kw_only=True):
    """An address of an external network that a router translates to a port's address."""

    id: str
    project_id: str
    floating_network_id: str
    floating_ip_address: str
    floating_port_id: str  # keeps the address
    port_id: str | None = None
    fixed_ip_address: str | None = None
    router_id: str | None = None
    description: str = ""
    dns_name: str = ""
    dns_domain: str = ""
    tags: list[str] = []
    revision: int = 0
    created_at: float
    updated_at: float
    carried: str = ""  # "ROUTER FIXED" of the translation that was last seen to stand

    @property
    def status(self) -> str:
        """ACTIVE when the translation that is wished is the one that stands."""
        return "ACTIVE" if self.router_id and self.carried == f"{self.router_id} {self.fixed_ip_address}" else "DOWN"


FLOATING_IPS = Table(FloatingIp, "floating_ips")


def seen_floating_ips(ctx: Context) -> Listing[FloatingIp]:
    """The floating IPs that the caller may know of."""
    listing = Listing(FLOATING_IPS)
    if not ctx.allows("get_floatingip", {}):
        listing.where("floating_ips.project_id = ?", ctx.caller.project_id)
    return listing


def load_floating_ip(ctx: Context, floatingip_id: str) -> FloatingIp:
    """A floating IP that the caller may know of; raises NotFound."""
    rows = seen_floating_ips(ctx).equals("id", [floatingip_id]).page(ctx.tx, sort=[("id", False)], limit=1)
    if not rows:
        raise NotFound(f"Floating IP {floatingip_id} could not be found", kind="FloatingIPNotFound")
    return rows[0]


def let_go(tx: Tx, floating: FloatingIp, now: float) -> None:
    """Take a floating IP off its port; the router hears of it."""
    cleared = {"port_id": None, "fixed_ip_address": None, "router_id": None, "revision": floating.revision + 1,
               "updated_at": now}  # fmt: skip
    FLOATING_IPS.update(tx, cleared, id=floating.id)
    if floating.router_id:
        poke(tx, "router", floating.router_id, now)


def let_go_of_port(tx: Tx, port_id: str, now: float, *, kept: tuple[str, ...] = ()) -> None:
    """Take all floating IPs off a port, except those of addresses that it keeps."""
    for floating in FLOATING_IPS.all(tx, port_id=port_id):
        if floating.fixed_ip_address not in kept:
            let_go(tx, floating, now)
