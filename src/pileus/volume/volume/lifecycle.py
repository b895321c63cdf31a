"""The life of a volume: placed → made from its source → grown, reverted, filled, uploaded as asked → gone.

Every stage compares what is wanted with what is there; a stage that is done costs nothing.
"""

from typing import Protocol

from pileus.core.reconcile import AGAIN, GONE, REST, Outcome, Wait
from pileus.volume.drivers import Broken
from pileus.volume.volume.rows import Volume

SOON = 0.2  # seconds until a driver is asked again
SLOW = 30.0  # seconds between attempts after patience ended
COPYING = 6 * 3600.0  # seconds that copying a large volume may take


class Place(Protocol):
    """Where a volume is to live."""

    @property
    def node_id(self) -> str: ...

    @property
    def name(self) -> str:
        """Of the pool."""

    @property
    def backend(self) -> str: ...


class World(Protocol):
    """What a volume needs of the outside; None and False mean: ask again."""

    def place(self) -> Place:
        """The best pool for it.  Raises Broken when none will ever do, Transient when a node is away."""

    def make(self) -> int | None:
        """Do the next thing towards the volume with the bytes of its source; its GiB.  Raises Broken."""

    def grow(self) -> int | None:
        """Make it as large as wanted; its GiB.  Raises Broken."""

    def revert(self) -> int | None:
        """Give it the bytes of the snapshot back; the snapshot's GiB.  Raises Broken."""

    def empty(self) -> bool:
        """Remove its bytes while it stays reserved."""

    def fill(self) -> int | None:
        """Make it again with the bytes of an image; its GiB.  Raises Broken."""

    def move(self, pool: str) -> str | None:
        """Do the next thing towards its bytes in another pool of its node; that pool's back end.  Raises Broken."""

    def leave(self, pool: str) -> bool:
        """Remove what may be of it in a pool that is not its own."""

    def upload(self) -> bool:
        """Do the next thing towards the image; True when that image is finished, well or not."""

    def let_go(self) -> bool:
        """Release what was held of other volumes or of itself; True when nothing is held."""

    def held_by(self) -> str:
        """What still has the volume open, "" when nothing does."""

    def needed_by(self) -> str:
        """What still needs its bytes, "" when nothing does."""

    def remove(self) -> bool: ...


def step(volume: Volume, world: World) -> Outcome:
    """Do the next missing thing."""
    if volume.faulted:
        return _settle(world)
    try:
        if volume.deleting:
            return _remove(volume, world)
        for do in (_placed, _made, _moved, _reverted, _filled, _grown, _uploaded):
            outcome = do(volume, world)
            if outcome is not None:
                return outcome
    except Broken as error:
        return overdue(volume, str(error))
    return _settle(world)


def _placed(volume: Volume, world: World) -> Outcome | None:
    if volume.node_id is not None:
        return None
    place = world.place()
    volume.node_id, volume.pool, volume.backend = place.node_id, place.name, place.backend
    return AGAIN


def _made(volume: Volume, world: World) -> Outcome | None:
    if volume.made:
        return None
    size = world.make()
    if size is None:
        return Wait(SOON, "its bytes are being copied", COPYING)
    volume.size_gib, volume.made = size, True
    return AGAIN


def _moved(volume: Volume, world: World) -> Outcome | None:
    """Copied to the other pool, which then becomes its own, and removed from the old one; or it stays."""
    if not volume.moving:
        return None
    if volume.moves != volume.moved and volume.pool != volume.move_pool:
        return _copied_over(volume, world)
    if volume.other_pool is not None and not world.leave(volume.other_pool):
        return Wait(SOON, "its bytes in another pool are being removed", COPYING)
    volume.other_pool, volume.moved = None, volume.moves
    return AGAIN


def _copied_over(volume: Volume, world: World) -> Outcome:
    if volume.other_pool is None:
        volume.other_pool = volume.move_pool
        return AGAIN  # written down before anything is built there
    backend = world.move(volume.other_pool)
    if backend is None:
        return Wait(SOON, "its bytes are being moved", COPYING)
    volume.pool, volume.other_pool, volume.backend = volume.other_pool, volume.pool, backend
    return AGAIN


def _reverted(volume: Volume, world: World) -> Outcome | None:
    if volume.reverts == volume.reverted:
        return None
    size = world.revert()
    if size is None:
        return Wait(SOON, "the snapshot's bytes are being copied back", COPYING)
    volume.size_gib, volume.reverted = size, volume.reverts
    return AGAIN


def _filled(volume: Volume, world: World) -> Outcome | None:
    if volume.reimages == volume.reimaged:
        return None
    if volume.emptied != volume.reimages:
        if not world.empty():
            return Wait(SOON, "its old bytes are being removed")
        volume.emptied = volume.reimages
        return AGAIN
    size = world.fill()
    if size is None:
        return Wait(SOON, "the image's bytes are being copied", COPYING)
    volume.size_gib, volume.reimaged = size, volume.reimages
    return AGAIN


def _grown(volume: Volume, world: World) -> Outcome | None:
    if volume.size_gib >= volume.wanted_gib:
        return None
    size = world.grow()
    if size is None:
        return Wait(SOON, "it is being extended", COPYING)
    volume.size_gib = size
    return AGAIN


def _uploaded(volume: Volume, world: World) -> Outcome | None:
    if volume.upload_image_id in (None, volume.uploaded_image_id):
        return None
    if not world.upload():
        return Wait(1.0, f"image {volume.upload_image_id} is being filled", COPYING)
    volume.uploaded_image_id = volume.upload_image_id
    return AGAIN


def _settle(world: World) -> Outcome:
    return REST if world.let_go() else Wait(SOON, "what it was made from is being let go")


def _remove(volume: Volume, world: World) -> Outcome:
    if why := world.held_by():
        return Wait(1.0, why)
    if why := world.needed_by():
        return Wait(1.0, why, COPYING)
    if not world.let_go():
        return Wait(SOON, "what it was made from is being let go")
    if volume.node_id is not None and not world.remove():
        return Wait(SOON, "its bytes are being removed", COPYING)
    return GONE


def overdue(volume: Volume, why: str) -> Outcome:
    """Record why it failed; the next step lets go of what was held.

    An upload or a move that fails leaves the volume well; what is left in another pool is removed in the end.
    """
    if volume.faulted:
        return Wait(SLOW, why)  # a node is away: what is held there would block others for ever
    doing = stage(volume)
    if doing == "leave":
        return Wait(SLOW, why)
    volume.fault = why
    if doing == "upload":
        volume.uploaded_image_id = volume.upload_image_id
    elif doing == "retype":
        volume.moved = volume.moves
    else:
        volume.fault_generation = volume.generation
    return AGAIN


def stage(volume: Volume) -> str:
    """What is to be done next, in a word."""
    if volume.deleting:
        return "delete"
    if not volume.made:
        return "create"
    if volume.moving:
        return "retype" if volume.moves != volume.moved and volume.pool != volume.move_pool else "leave"
    if volume.reverts != volume.reverted:
        return "revert"
    if volume.reimages != volume.reimaged:
        return "fill"
    if volume.wanted_gib > volume.size_gib:
        return "extend"
    return "upload" if volume.upload_image_id not in (None, volume.uploaded_image_id) else "rest"
