"""The world of a security group's life: who is a member, where it is named, and the switches there."""

import json
from collections.abc import Callable

from pileus.core.reconcile import GONE, Kind, Lease, Outcome
from pileus.db.connect import Database, Tx
from pileus.network import drivers
from pileus.network.reach import Hub, Reach
from pileus.network.security_group.lifecycle import Life, overdue, step
from pileus.network.security_group.rows import GROUPS, RULES

STATUS = ("nodes", "fault")
_USERS = (
    "select distinct p.placed_on from security_group_rules r"
    " join port_groups g on g.group_id = r.security_group_id join ports p on p.id = g.port_id"
    " where r.remote_group_id = ? and p.placed_on is not null"
)
_MEMBERS = (
    "from port_groups g join ports p on p.id = g.port_id"
    " where g.group_id = ? and p.deleting = 0 and (p.placed_on is not null or p.node_id is not null)"
)


class GroupWorld:
    """See lifecycle.World."""

    def __init__(self, reach: Reach, group_id: str):
        self.reach, self.group_id = reach, group_id
        self._wish: drivers.Group | None = None

    def users(self) -> set[str]:
        """Nodes with a port whose rules name the group."""
        return {str(row[0]) for row in self.reach.db.read(lambda tx: tx.all(_USERS, self.group_id))}

    def away(self, node_id: str) -> bool:
        """Whether a node does not report."""
        return self.reach.away(node_id)

    def ensure(self, node_id: str) -> str:
        """Tell a node the members."""
        if self._wish is None:
            addresses = self.reach.db.read(lambda tx: members_of(tx, self.group_id))
            self._wish = drivers.Group(id=self.group_id, addresses=addresses)
        wish = self._wish
        return self.reach.ensure(node_id, lambda switch: switch.ensure_group(wish))

    def remove(self, node_id: str) -> str:
        """Make a node forget the group."""
        return self.reach.remove(node_id, lambda switch: switch.remove_group(self.group_id))


def members_of(tx: Tx, group_id: str) -> tuple[str, ...]:
    """The addresses of all ports that have the group and are on some node, their allowed pairs included."""
    rows = tx.all(f"select p.fixed_ips, p.allowed_address_pairs {_MEMBERS}", group_id)
    found = {one["ip_address"] for fixed, pairs in rows for one in (*json.loads(fixed), *json.loads(pairs))}
    return tuple(sorted(found))


def load(tx: Tx, group_id: str) -> Life | None:
    """A group as its step sees it."""
    row = GROUPS.get(tx, id=group_id)
    return None if row is None else Life(id=row.id, deleting=row.deleting, nodes=list(row.nodes), fault=row.fault)


def save(tx: Tx, life: Life, outcome: Outcome, now: float) -> None:
    """Write what the step found out."""
    if outcome == GONE:
        RULES.delete(tx, security_group_id=life.id)
        GROUPS.delete(tx, id=life.id)
    else:
        GROUPS.update(tx, {column: getattr(life, column) for column in STATUS}, id=life.id)


def kind(db: Database, hub: Hub, clock: Callable[[], float]) -> Kind[Life]:
    """Security groups, for the workers."""

    def world(lease: Lease) -> GroupWorld:
        return GroupWorld(Reach(db, hub, lease, clock), lease.id)

    return Kind("security_group", load, step, save, overdue, world)
