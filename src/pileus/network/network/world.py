"""The world of a network's life: the rows of its ports, and the switches of its nodes."""

from collections.abc import Callable

from pileus.core.reconcile import GONE, Kind, Lease, Outcome, poke
from pileus.db.connect import Database, Tx
from pileus.network.network.lifecycle import Life, overdue, step
from pileus.network.network.rows import NETWORKS
from pileus.network.network.segment import Picture, guests, segment_on
from pileus.network.port.rows import DHCP, FLOATING, OF_ROUTERS, PORTS, dhcp_entry
from pileus.network.reach import Hub, Reach, hosts_for
from pileus.network.subnet.rows import SUBNETS, subnets_of

STATUS = ("nodes", "standing", "served_by", "fault")
_USERS = (
    "select distinct placed_on from ports where network_id = ? and placed_on is not null"
    " union select distinct node_id from ports where network_id = ? and node_id is not null"
)


class NetworkWorld:
    """See lifecycle.World."""

    def __init__(self, reach: Reach, network_id: str):
        self.reach, self.network_id = reach, network_id
        self._picture: Picture | None = None

    def users(self) -> set[str]:
        """Nodes with a port of the network, or that shall have one."""
        rows = self.reach.db.read(lambda tx: tx.all(_USERS, self.network_id, self.network_id))
        return {str(row[0]) for row in rows}

    def server(self, users: set[str], current: str | None) -> str | None:
        """The node that serves the network: the same as long as it can, else one that uses it, else any."""

        def choose(tx: Tx) -> str | None:
            if PORTS.get(tx, network_id=self.network_id, device_owner=DHCP, deleting=False) is None:
                return None
            if not _has_guests(tx, self.network_id):
                return None
            able = [node.id for node in hosts_for(tx, "network", self.reach.clock())]
            if current in able or not able:
                return current
            return next((node_id for node_id in able if node_id in users), able[0])

        return self.reach.db.read(choose)

    def away(self, node_id: str) -> bool:
        """Whether a node does not report."""
        return self.reach.away(node_id)

    def ensure(self, life: Life, node_id: str) -> str:
        """Bring the segment of a node up to date."""
        if self._picture is None:
            self._picture = self.reach.db.read(lambda tx: picture_of(tx, self.network_id, self.reach))
        if self._picture is None:
            return "the network is gone"
        wish = segment_on(self._picture, node_id, life.nodes, life.served_by)
        return self.reach.ensure(node_id, lambda switch: switch.ensure_segment(wish))

    def told(self, served_by: str) -> dict[str, str]:
        """What its DHCP server now knows of ports, where that is news."""
        assert self._picture is not None, "told after it was ensured"
        entries = [(port, dhcp_entry(port, served_by)) for port in guests(self._picture)]
        return {port.id: entry for port, entry in entries if port.told != entry}

    def remove(self, node_id: str) -> str:
        """Remove the segment from a node."""
        return self.reach.remove(node_id, lambda switch: switch.remove_segment(self.network_id))


def _has_guests(tx: Tx, network_id: str) -> bool:
    """Whether anything but routers is on the network: routers ask no DHCP."""
    marks = ", ".join("?" * len(OF_ROUTERS))
    sql = f"select 1 from ports where network_id = ? and node_id is not null and device_owner not in ({marks})"
    return tx.one(sql, network_id, *OF_ROUTERS) is not None


def picture_of(tx: Tx, network_id: str, reach: Reach) -> Picture | None:
    """What segments of a network are made of."""
    network = NETWORKS.get(tx, id=network_id)
    if network is None:
        return None
    ports = PORTS.query(
        tx,
        "where ports.network_id = ? and ports.deleting = 0 and ports.device_owner <> ? and"
        " (ports.node_id is not null or ports.placed_on is not null or ports.device_owner = ?)"
        " order by ports.created_at, ports.id",
        network_id, FLOATING, DHCP,
    )  # fmt: skip
    return Picture(network=network, subnets=subnets_of(tx, network_id), ports=ports, nodes=reach.nodes())


def load(tx: Tx, network_id: str) -> Life | None:
    """A network as its step sees it."""
    row = NETWORKS.get(tx, id=network_id)
    if row is None:
        return None
    return Life(
        id=row.id, deleting=row.deleting, nodes=list(row.nodes), standing=list(row.standing),
        served_by=row.served_by, fault=row.fault,
    )  # fmt: skip


def save(tx: Tx, life: Life, outcome: Outcome, now: float) -> None:
    """Write what the step found out; ports and routers that waited for it look again."""
    if outcome == GONE:
        SUBNETS.delete(tx, network_id=life.id)
        NETWORKS.delete(tx, id=life.id)
        return
    NETWORKS.update(tx, {column: getattr(life, column) for column in STATUS}, id=life.id)
    served = "ACTIVE" if life.served_by in life.standing else "DOWN"
    PORTS.update(tx, {"status": served}, network_id=life.id, device_owner=DHCP)
    for node_id in life.arrived:
        for port in PORTS.all(tx, network_id=life.id, node_id=node_id, up=False):
            poke(tx, "port", port.id, now)
        for (router_id,) in tx.all(
            "select distinct p.device_id from ports p join routers r on r.id = p.device_id"
            " where p.network_id = ? and r.node_id = ? and r.standing = 0",
            life.id, node_id,
        ):  # fmt: skip
            poke(tx, "router", router_id, now)
    life.arrived.clear()
    for port_id, entry in life.told.items():
        PORTS.update(tx, {"told": entry}, id=port_id)
        poke(tx, "port", port_id, now)
    life.told.clear()


def kind(db: Database, hub: Hub, clock: Callable[[], float]) -> Kind[Life]:
    """Networks, for the workers."""

    def world(lease: Lease) -> NetworkWorld:
        return NetworkWorld(Reach(db, hub, lease, clock), lease.id)

    return Kind("network", load, step, save, overdue, world)
