"""The life of a security group: its members' addresses on each node whose rules name it as the other end."""

from typing import Protocol

from msgspec import Struct

from pileus.core.reconcile import AGAIN, GONE, REST, Outcome, Wait

PACE = 0.5  # seconds
SLOW = 30.0  # seconds between attempts after patience ended


class Life(Struct, kw_only=True):
    """A group as its step sees it."""

    id: str
    deleting: bool
    nodes: list[str]  # that may hold it
    fault: str


class World(Protocol):
    """What the step may ask and do; reasons are "" when all is done."""

    def users(self) -> set[str]:
        """Nodes with a port whose rules name the group."""

    def away(self, node_id: str) -> bool: ...

    def ensure(self, node_id: str) -> str: ...

    def remove(self, node_id: str) -> str: ...


def step(life: Life, world: World) -> Outcome:
    """The one next thing that a group lacks."""
    wanted = set() if life.deleting else world.users()
    reasons = []
    for node_id in [n for n in life.nodes if n not in wanted]:
        if why := world.remove(node_id):
            reasons.append(why)
        else:
            life.nodes.remove(node_id)
    if life.deleting and not life.nodes:
        return GONE
    if missing := sorted(wanted - set(life.nodes)):
        life.nodes += missing
        return AGAIN  # written down before anything is built there
    reasons += [why for n in sorted(wanted) if not world.away(n) and (why := world.ensure(n))]
    if reasons:
        return Wait(PACE, reasons[0])
    life.fault = ""
    return REST


def overdue(life: Life, why: str) -> Outcome:
    """Say why, and go on trying slowly."""
    life.fault = why
    return Wait(SLOW, why)
