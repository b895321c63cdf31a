"""The life of a snapshot: creating → available → deleting → gone."""

from typing import Protocol

from pileus.core.reconcile import AGAIN, GONE, REST, Outcome, Wait
from pileus.volume.drivers import Broken
from pileus.volume.snapshot.rows import Snapshot

SOON = 0.2  # seconds until a driver is asked again
SLOW = 30.0  # seconds between attempts to let go of what a failure left behind, for as long as it takes
COPYING = 6 * 3600.0  # seconds that copying a large volume may take


class World(Protocol):
    """What a snapshot needs of the outside."""

    def take(self) -> bool:
        """Do the next thing towards the snapshot; True when it is there.  Raises Broken."""

    def let_go(self) -> bool:
        """Release what was held of the volume; True when nothing is held."""

    def in_use_by(self) -> str:
        """What still needs the snapshot, "" when nothing does."""

    def remove(self) -> bool: ...


def step(snapshot: Snapshot, world: World) -> Outcome:
    """Do the next missing thing."""
    try:
        if snapshot.deleting and not snapshot.faulted:
            return _remove(world)
        if not snapshot.made and not snapshot.faulted:
            if not world.take():
                return Wait(SOON, "the volume is being copied", COPYING)
            snapshot.made = True
            return AGAIN
    except Broken as error:
        return overdue(snapshot, str(error))
    return REST if world.let_go() else Wait(SOON, "the volume is being let go")


def _remove(world: World) -> Outcome:
    if why := world.in_use_by():
        return Wait(1.0, why, COPYING)
    if not world.let_go():
        return Wait(SOON, "the volume is being let go")
    return GONE if world.remove() else Wait(SOON, "the snapshot is being removed")


def overdue(snapshot: Snapshot, why: str) -> Outcome:
    """Record why it failed; the next step lets the volume go."""
    if snapshot.faulted:
        return Wait(SLOW, why)  # a node is away: what is held there would block others for ever
    snapshot.fault, snapshot.fault_generation = why, snapshot.generation
    return AGAIN
