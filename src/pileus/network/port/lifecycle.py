"""The life of a port that is wished on a node: filters and a tap there, and nothing where it is not wished."""

from typing import Protocol

from msgspec import Struct

from pileus.core.reconcile import AGAIN, GONE, REST, Outcome, Wait
from pileus.network.drivers import PortSeen

PACE = 0.2  # seconds
SLOW = 30.0  # seconds between attempts after patience ended
PATIENCE = 120.0  # seconds


class Life(Struct, kw_only=True):
    """A port as its step sees it."""

    id: str
    deleting: bool
    node_id: str | None  # where it shall stand
    admin_up: bool
    status: str
    placed_on: str | None  # where it may have left a trace
    up: bool
    device: str
    netns: str
    fault: str
    moved: bool = False  # its place changed in this step
    rose: bool = False  # it came up in this step


class World(Protocol):
    """What the step may ask and do."""

    def untold(self) -> str:
        """ "" when the DHCP server of its network knows the port or there is none, else what is missing."""

    def ensure(self, node_id: str) -> PortSeen | None: ...

    def remove(self, node_id: str) -> str:
        """ "" when nothing is left there, else why not yet."""


def step(life: Life, world: World) -> Outcome:
    """The one next thing that a port lacks."""
    if life.placed_on is not None and (life.deleting or life.node_id != life.placed_on):
        return _leave(life, world, life.placed_on)
    if life.deleting:
        return GONE
    if life.node_id is None:
        life.status = "DOWN"
        return REST
    if life.placed_on is None:
        life.placed_on, life.status, life.moved = life.node_id, "BUILD", True
        return AGAIN  # written down before anything is built there
    if not life.up and (why := world.untold()):
        return Wait(PACE, why, PATIENCE)  # a guest that is fast would ask in vain
    seen = world.ensure(life.placed_on)
    if seen is None or not seen.up:
        life.up, life.status = False, "BUILD"
        return Wait(PACE, "the node is making its network and filters", PATIENCE)
    life.rose = not life.up or life.device != seen.device
    life.up, life.device, life.netns, life.fault = True, seen.device, seen.netns, ""
    life.status = "ACTIVE" if life.admin_up else "DOWN"
    return REST


def _leave(life: Life, world: World, node_id: str) -> Outcome:
    """Take filters and tap off a node where the port is not wished any more."""
    life.up = False
    if why := world.remove(node_id):
        return Wait(PACE, why, PATIENCE)
    life.placed_on, life.status, life.device, life.netns, life.moved = None, "DOWN", "", "", True
    return AGAIN


def overdue(life: Life, why: str) -> Outcome:
    """Say why, and go on trying slowly; whoever waits for the port hears of it."""
    life.rose = life.fault != why
    life.fault = why
    return Wait(SLOW, why)
