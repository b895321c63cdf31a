"""The life of a network: a segment on each node that something of it is on, served from one of them.

Nothing stands where nothing needs it.  A node is written down before anything is built there and
crossed out after all is removed, so that what a killed worker left behind is always known.
"""

from typing import Protocol

from msgspec import Struct

from pileus.core.reconcile import AGAIN, GONE, REST, Outcome, Wait

SLOW = 30.0  # seconds between attempts after patience ended
PACE = 0.2  # seconds


class Life(Struct, kw_only=True):
    """A network as its step sees it."""

    id: str
    deleting: bool
    nodes: list[str]  # that may hold a trace
    standing: list[str]  # where the segment was seen to stand
    served_by: str | None
    fault: str
    arrived: list[str] = []  # nodes where it came to stand in this step
    told: dict[str, str] = {}  # ports of which its DHCP server heard in this step, with what it heard


class World(Protocol):
    """What the step may ask and do; reasons are "" when all is done."""

    def users(self) -> set[str]:
        """Nodes with a port of the network, or that shall have one."""

    def server(self, users: set[str], current: str | None) -> str | None:
        """The node that should run DHCP and metadata, None where there is nothing to serve."""

    def away(self, node_id: str) -> bool: ...

    def ensure(self, life: Life, node_id: str) -> str: ...

    def remove(self, node_id: str) -> str: ...

    def told(self, served_by: str) -> dict[str, str]:
        """What its DHCP server now knows of ports, where that is news: by port id."""


def step(life: Life, world: World) -> Outcome:
    """The one next thing that a network lacks."""
    users = world.users()
    if life.deleting and users:
        return Wait(1.0, "ports of it are still being removed")
    server = world.server(users, life.served_by) if users else None
    if server != life.served_by:
        life.served_by = server
        return AGAIN  # the choice is committed before anything is built on it
    wanted = users | ({server} if server else set())
    reasons = []
    for node_id in [n for n in life.nodes if n not in wanted]:
        if why := world.remove(node_id):
            reasons.append(why)
        else:
            life.nodes.remove(node_id)
            life.standing = [n for n in life.standing if n != node_id]
    if life.deleting and not life.nodes:
        return GONE
    if missing := sorted(wanted - set(life.nodes)):
        life.nodes += missing
        return AGAIN
    reasons += _ensure(life, world, wanted)
    if reasons:
        return Wait(PACE, reasons[0])
    life.fault = ""
    return REST


def _ensure(life: Life, world: World, wanted: set[str]) -> list[str]:
    """Bring every segment up to date, the serving one first; why some are not.  Nodes that are away are let be."""
    reasons = []
    life.standing = [node_id for node_id in life.standing if not world.away(node_id)]
    for node_id in sorted(wanted, key=lambda n: (n != life.served_by, n)):
        if world.away(node_id):
            continue
        why = world.ensure(life, node_id)
        if why:
            reasons.append(why)
            continue
        if node_id == life.served_by:
            life.told = world.told(node_id)
        if node_id not in life.standing:
            life.standing.append(node_id)
            life.arrived.append(node_id)
    return reasons


def overdue(life: Life, why: str) -> Outcome:
    """Say why, and go on trying slowly."""
    life.fault = why
    return Wait(SLOW, why)
