"""The world of a router's life: its ports and floating IPs from the rows, and the switch of its node."""

from collections.abc import Callable

from pileus.core.reconcile import GONE, Kind, Lease, Outcome, poke
from pileus.db.connect import Database, Tx
from pileus.network import drivers
from pileus.network.floating_ip.rows import FLOATING_IPS
from pileus.network.network.rows import NETWORKS
from pileus.network.network.segment import subnet_wish
from pileus.network.port.rows import OF_ROUTERS, PORTS, Port
from pileus.network.reach import Hub, Reach, hosts_for
from pileus.network.router.lifecycle import Life, overdue, step
from pileus.network.router.rows import ROUTERS
from pileus.network.subnet.rows import Subnet, subnets_by_id

STATUS = ("node_id", "left_nodes", "standing", "fault")


class RouterWorld:
    """See lifecycle.World."""

    def __init__(self, reach: Reach, router_id: str):
        self.reach, self.router_id = reach, router_id

    def host(self, current: str | None) -> str | None:
        """The current node as long as it is alive, else the one that carries the fewest routers."""

        def choose(tx: Tx) -> str | None:
            able = [node.id for node in hosts_for(tx, "network", self.reach.clock())]
            if current in able or not able:
                return current
            loads: dict[str, int] = dict(
                tx.all("select node_id, count(*) from routers where node_id is not null group by node_id")
            )
            return min(able, key=lambda node_id: loads.get(node_id, 0))

        return self.reach.db.read(choose)

    def ensure(self, life: Life, node_id: str) -> str:
        """Make the router as it is wished now."""
        if self.reach.away(node_id):
            return "its node does not report, and no other with the role network does"
        found = self.reach.db.read(lambda tx: wish_of(tx, self.router_id))
        if found is None:
            return "the router is gone"
        wish, life.carried = found
        return self.reach.ensure(node_id, lambda switch: switch.ensure_router(wish))

    def remove(self, node_id: str) -> str:
        """Remove it from a node."""
        return self.reach.remove(node_id, lambda switch: switch.remove_router(self.router_id))


def _ports_of(tx: Tx, router_id: str) -> list[Port]:
    order = "ports.created_at, ports.id"
    return PORTS.all(tx, device_id=router_id, device_owner=OF_ROUTERS, order=order)


def wish_of(tx: Tx, router_id: str) -> tuple[drivers.Router, dict[str, str]] | None:
    """A router as its node shall make it, and floating IP → fixed address of what it translates."""
    row = ROUTERS.get(tx, id=router_id)
    if row is None:
        return None
    ports = [port for port in _ports_of(tx, router_id) if not port.deleting]
    subnets = subnets_by_id(tx, (fixed.subnet_id for port in ports for fixed in port.fixed_ips))
    mtus = {n.id: n.mtu for n in NETWORKS.all(tx, id=tuple({port.network_id for port in ports}))}
    gateway = next((port for port in ports if port.id == row.gateway_port_id), None)
    legs = [port for port in ports if port.id != row.gateway_port_id]
    floating = FLOATING_IPS.all(tx, router_id=router_id, order="floating_ips.id")
    wish = drivers.Router(
        id=router_id,
        legs=tuple(_leg(port, subnets, mtus[port.network_id], advertises=True) for port in legs),
        gateway=_leg(gateway, subnets, mtus[gateway.network_id], advertises=False) if gateway else None,
        next_hops=_next_hops(gateway, subnets) if gateway else (),
        snat=row.enable_snat,
        floating=tuple((f.floating_ip_address, str(f.fixed_ip_address)) for f in floating),
        routes=tuple((route.destination, route.nexthop) for route in row.routes),
        admin_up=row.admin_state_up,
    )  # fmt: skip
    return wish, {f.id: str(f.fixed_ip_address) for f in floating}


def _leg(port: Port, subnets: dict[str, Subnet], mtu: int, *, advertises: bool) -> drivers.Leg:
    on = [(fixed, subnets[fixed.subnet_id]) for fixed in port.fixed_ips]
    return drivers.Leg(
        port_id=port.id, network_id=port.network_id, mac=port.mac_address, mtu=mtu,
        ips=tuple(subnet.prefixed(fixed.ip_address) for fixed, subnet in on),
        advertise=tuple(subnet_wish(s) for _, s in on if advertises and s.ip_version == 6 and s.ipv6_ra_mode),
    )  # fmt: skip


def _next_hops(gateway: Port, subnets: dict[str, Subnet]) -> tuple[str, ...]:
    """The gateways of the subnets outside, one for each IP version."""
    found: dict[int, str] = {}
    for fixed in gateway.fixed_ips:
        subnet = subnets[fixed.subnet_id]
        if subnet.gateway_ip:
            found.setdefault(subnet.ip_version, subnet.gateway_ip)
    return tuple(found.values())


def load(tx: Tx, router_id: str) -> Life | None:
    """A router as its step sees it."""
    row = ROUTERS.get(tx, id=router_id)
    if row is None:
        return None
    ports = _ports_of(tx, router_id)
    alive = [port for port in ports if not port.deleting]
    return Life(
        id=row.id, deleting=row.deleting, wanted=bool(alive), node_id=row.node_id, left_nodes=list(row.left_nodes),
        unplaced=any(port.placed_on != row.node_id for port in alive), standing=row.standing, fault=row.fault,
        dropped=tuple(port.id for port in ports if port.deleting),
    )  # fmt: skip


def save(tx: Tx, life: Life, outcome: Outcome, now: float) -> None:
    """Write what the step found out; networks hear of ports that came or went, floating IPs of being carried."""
    if ROUTERS.update(tx, {column: getattr(life, column) for column in STATUS}, id=life.id) == 0:
        return
    if life.made:
        for port in PORTS.all(tx, id=life.dropped):
            PORTS.delete(tx, id=port.id)
            poke(tx, "network", port.network_id, now)
    status = "ACTIVE" if life.standing else "DOWN"
    for port in _ports_of(tx, life.id):
        place = port.placed_on if port.deleting else life.node_id
        if (port.placed_on, port.status) != (place, status):
            PORTS.update(tx, {"placed_on": place, "status": status, "up": life.standing}, id=port.id)
            poke(tx, "network", port.network_id, now)
    if outcome == GONE:
        ROUTERS.delete(tx, id=life.id)
    elif life.made or not life.standing:
        _carry(tx, life)


def _carry(tx: Tx, life: Life) -> None:
    """Say which translations stand; a floating IP is ACTIVE when its own is among them."""
    for floating in FLOATING_IPS.all(tx, router_id=life.id):
        stands = life.standing and life.carried.get(floating.id) == floating.fixed_ip_address
        carried = f"{life.id} {floating.fixed_ip_address}" if stands else ""
        if floating.carried != carried:
            FLOATING_IPS.update(tx, {"carried": carried}, id=floating.id)


def kind(db: Database, hub: Hub, clock: Callable[[], float]) -> Kind[Life]:
    """Routers, for the workers."""

    def world(lease: Lease) -> RouterWorld:
        return RouterWorld(Reach(db, hub, lease, clock), lease.id)

    return Kind("router", load, step, save, overdue, world)
