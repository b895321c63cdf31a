"""The world of a port's life: its rules from the rows of its groups, and the switch of its node."""

from collections.abc import Callable, Iterable

from pileus.core.reconcile import GONE, Kind, Lease, Outcome, poke
from pileus.db.connect import Database, Tx
from pileus.network import drivers
from pileus.network.network.rows import NETWORKS
from pileus.network.port.lifecycle import Life, overdue, step
from pileus.network.port.rows import DHCP, PORTS, SOON, Port, dhcp_entry, poke_groups
from pileus.network.reach import Hub, Reach, hosts_for
from pileus.network.security_group.rows import SecurityGroupRule, rules_of

STATUS = ("status", "placed_on", "up", "device", "netns", "fault")


class PortWorld:
    """See lifecycle.World."""

    def __init__(self, reach: Reach, port_id: str):
        self.reach, self.port_id = reach, port_id

    def untold(self) -> str:
        """ "" when the DHCP server of its network knows the port, or no node could run one."""
        return self.reach.db.read(self._untold)

    def _untold(self, tx: Tx) -> str:
        port = PORTS.get(tx, id=self.port_id)
        network = NETWORKS.get(tx, id=port.network_id) if port else None
        if port is None or network is None or (network.served_by and port.told == dhcp_entry(port, network.served_by)):
            return ""
        dhcp = PORTS.get(tx, network_id=network.id, device_owner=DHCP, deleting=False)
        if dhcp is None or not hosts_for(tx, "network", self.reach.clock()):
            return ""
        return "the DHCP server of its network does not know it yet"

    def ensure(self, node_id: str) -> drivers.PortSeen | None:
        """Bring filters and tap of the port up to date; None while its network does not stand there."""
        wish = self.reach.db.read(lambda tx: wish_of(tx, self.port_id))
        return None if wish is None else self.reach.switch(node_id).ensure_port(wish)

    def remove(self, node_id: str) -> str:
        """Remove filters and tap."""
        return self.reach.remove(node_id, lambda switch: switch.remove_port(self.port_id))


def wish_of(tx: Tx, port_id: str) -> drivers.Port | None:
    """A port as its node shall make it."""
    port = PORTS.get(tx, id=port_id)
    network = NETWORKS.get(tx, id=port.network_id) if port else None
    if port is None or network is None:
        return None
    return drivers.Port(
        id=port.id, network_id=port.network_id, mac=port.mac_address, ips=port.ips,
        pairs=tuple((pair.mac_address, pair.ip_address) for pair in port.allowed_address_pairs),
        port_security=port.port_security_enabled, rules=tuple(rules_wish(rules_of(tx, port.security_groups))),
        admin_up=port.admin_state_up and network.admin_state_up, mtu=network.mtu,
    )  # fmt: skip


def rules_wish(rules: Iterable[SecurityGroupRule]) -> list[drivers.Rule]:
    """Rules as drivers know them."""
    return [
        drivers.Rule(
            direction="ingress" if rule.direction == "ingress" else "egress",
            ethertype="IPv6" if rule.ethertype == "IPv6" else "IPv4",
            protocol=rule.protocol or "", port_min=rule.port_range_min, port_max=rule.port_range_max,
            remote_cidr=rule.normalized_cidr or "", remote_group=rule.remote_group_id or "",
        )
        for rule in rules
    ]  # fmt: skip


def load(tx: Tx, port_id: str) -> Life | None:
    """A port as its step sees it; ports of networking's own are looked after by their owners."""
    row = PORTS.get(tx, id=port_id)
    if row is None or row.device_owner.startswith("network:"):
        return None
    return Life(
        id=row.id, deleting=row.deleting, node_id=row.node_id, admin_up=row.admin_state_up, status=row.status,
        placed_on=row.placed_on, up=row.up, device=row.device, netns=row.netns, fault=row.fault,
    )  # fmt: skip


def save(tx: Tx, life: Life, outcome: Outcome, now: float) -> None:
    """Write what the step found out, and tell all that it matters to."""
    row = PORTS.get(tx, id=life.id)
    if row is None:
        return
    if outcome == GONE:
        PORTS.delete(tx, id=life.id)
        poke(tx, "network", row.network_id, now + SOON)
        return
    PORTS.update(tx, {column: getattr(life, column) for column in STATUS}, id=life.id)
    if life.moved:
        poke_groups(tx, row, now)
        if life.placed_on is None:
            poke(tx, "network", row.network_id, now + SOON)
        life.moved = False
    if life.rose:
        _tell_owner(tx, row, now)
        life.rose = False


def _tell_owner(tx: Tx, port: Port, now: float) -> None:
    if port.device_owner.startswith("compute:"):
        poke(tx, "server", port.device_id, now)


def kind(db: Database, hub: Hub, clock: Callable[[], float]) -> Kind[Life]:
    """Ports, for the workers."""

    def world(lease: Lease) -> PortWorld:
        return PortWorld(Reach(db, hub, lease, clock), lease.id)

    return Kind("port", load, step, save, overdue, world)
