"""The life of a router: it stands on one node, reached from others through the networks' tunnels.

Order: a node is chosen and written down; its ports are placed there, so that their networks come to
the node; then it is made.  A leg that was taken off goes from the node before its row does.
"""

from typing import Protocol

from msgspec import Struct

from pileus.core.reconcile import AGAIN, GONE, REST, Outcome, Wait

PACE = 0.2  # seconds
NO_NODE = 5.0  # seconds
SLOW = 30.0  # seconds between attempts after patience ended


class Life(Struct, kw_only=True):
    """A router as its step sees it."""

    id: str
    deleting: bool
    wanted: bool  # it has a leg or a gateway
    unplaced: bool  # a port of it is not on its node yet
    node_id: str | None
    left_nodes: list[str]  # where it stood before and may have left a trace
    standing: bool
    fault: str
    dropped: tuple[str, ...] = ()  # ports that were taken off before this step
    made: bool = False  # in this step, without the dropped ones
    carried: dict[str, str] = {}  # floating IP → fixed address, as it was made


class World(Protocol):
    """What the step may ask and do; reasons are "" when all is done."""

    def host(self, current: str | None) -> str | None:
        """The node that should carry it: the same as long as it can; None when no node can."""

    def ensure(self, life: Life, node_id: str) -> str:
        """Make it, and note in `carried` what it translates."""

    def remove(self, node_id: str) -> str: ...


def step(life: Life, world: World) -> Outcome:
    """The one next thing that a router lacks."""
    if life.deleting or not life.wanted:
        return _go(life, world)
    host = world.host(life.node_id)
    if host != life.node_id:
        _move(life, host)
        return AGAIN  # the choice is committed before anything is built on it
    if host is None:
        return Wait(NO_NODE, "no node with the role network is alive")
    if life.unplaced:
        return AGAIN  # saving places them
    reasons = _clean(life, world)
    if why := world.ensure(life, host):
        reasons.insert(0, why)
    else:
        life.standing = life.made = True
    if reasons:
        return Wait(PACE, reasons[0])
    life.fault = ""
    return REST


def _move(life: Life, host: str | None) -> None:
    if life.node_id is not None:
        life.left_nodes.append(life.node_id)
    life.left_nodes = [node_id for node_id in life.left_nodes if node_id != host]
    life.node_id, life.standing = host, False


def _clean(life: Life, world: World) -> list[str]:
    """Remove it from where it stood before; why some of it is left."""
    reasons = []
    for node_id in list(life.left_nodes):
        if why := world.remove(node_id):
            reasons.append(why)
        else:
            life.left_nodes.remove(node_id)
    return reasons


def _go(life: Life, world: World) -> Outcome:
    if life.node_id is not None:
        _move(life, None)
        return AGAIN
    if reasons := _clean(life, world):
        return Wait(PACE, reasons[0])
    life.made = True
    life.fault = ""
    return GONE if life.deleting else REST


def overdue(life: Life, why: str) -> Outcome:
    """Say why, and go on trying slowly."""
    life.fault = why
    return Wait(SLOW, why)
