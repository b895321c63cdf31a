"""The life of an attachment: reserved → exported to a node → opened by its server → released.

Only its server (through compute) says when it is opened; here its export comes and goes.
"""

from typing import Protocol

from pileus.core.reconcile import AGAIN, GONE, REST, Outcome, Wait
from pileus.volume.attachment.rows import Attachment
from pileus.volume.drivers import Broken, Connection

SOON = 0.1  # seconds until a driver is asked again
COPYING = 6 * 3600.0  # seconds that making or copying a large volume may take


class World(Protocol):
    """What an attachment needs of the outside."""

    def claim_export(self) -> str:
        """Write down that the export is about to be made; else why it must wait.  Raises Broken."""

    def ensure_export(self) -> Connection | None: ...

    def begin_unexport(self) -> bool:
        """Write down that the export is about to go; False when another attachment needs it to stay."""

    def remove_export(self) -> bool: ...


def step(attachment: Attachment, world: World) -> Outcome:
    """Do the next missing thing."""
    wanted = None if attachment.released else attachment.node_id
    if attachment.export_node_id is not None and (attachment.leaving or attachment.export_node_id != wanted):
        return _unexport(attachment, world)
    if attachment.released:
        return GONE
    if wanted is None or attachment.faulted:
        return REST
    try:
        return _export(attachment, world, wanted)
    except Broken as error:
        return overdue(attachment, str(error))


def _export(attachment: Attachment, world: World, node_id: str) -> Outcome:
    if attachment.export_node_id is None:
        if why := world.claim_export():
            return Wait(1.0, why, COPYING)
        attachment.export_node_id, attachment.connection = node_id, None
        return AGAIN
    connection = world.ensure_export()
    if connection is None:
        return Wait(SOON, "the volume is being exported")
    attachment.connection = connection
    return REST


def _unexport(attachment: Attachment, world: World) -> Outcome:
    if world.begin_unexport():
        attachment.leaving = True
        try:
            if not world.remove_export():
                return Wait(SOON, "the export of the volume is being removed")
        except Broken as error:
            return Wait(5.0, str(error))
    attachment.export_node_id, attachment.leaving, attachment.connection = None, False, None
    return AGAIN


def overdue(attachment: Attachment, why: str) -> Outcome:
    """Nothing more is tried until the wish changes or a node comes back."""
    attachment.fault, attachment.fault_generation = why, attachment.generation
    return REST
