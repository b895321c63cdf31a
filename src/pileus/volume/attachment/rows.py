"""Attachments: the tie between a volume and the server (or host) that uses it."""

from typing import Any, Literal

from msgspec import Struct

from pileus.core.reconcile import poke
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.volume.drivers import Connection


class Attachment(Struct, kw_only=True):
    """The wish (up to `created_at`) and what became of it."""

    id: str
    volume_id: str
    project_id: str
    server_id: str | None
    host_name: str | None = None
    mode: str = "rw"  # "rw" | "ro"
    managed: bool = False  # by compute, which alone may end it
    node_id: str | None = None  # where it is to be openable; None: reserved only
    mountpoint: str | None = None
    attached: bool = False  # the user of the volume says that it has it
    attached_at: float | None = None
    released: bool = False  # to be removed
    connector: dict[str, Any] | None = None  # as an outside user of the volume described itself
    generation: int = 0  # of the wish; a fault belongs to one generation
    created_at: float
    updated_at: float | None = None

    export_node_id: str | None = None  # for which node an export was, or is about to be, made
    leaving: bool = False  # that export is being removed
    connection: Connection | None = None
    fault: str | None = None
    fault_generation: int = -1

    @property
    def faulted(self) -> bool:
        return self.fault is not None and self.fault_generation == self.generation

    @property
    def status(self) -> Literal["detaching", "error_attaching", "attached", "attaching", "reserved"]:
        """As the API names it."""
        if self.released:
            return "detaching"
        if self.faulted:
            return "error_attaching"
        if self.attached:
            return "attached"
        return "attaching" if self.node_id or self.connector else "reserved"


ATTACHMENTS = Table(Attachment, "volume_attachments")
STATUS = ("export_node_id", "leaving", "connection", "fault", "fault_generation")


def wish(tx: Tx, attachment: Attachment, now: float, **changes: Any) -> None:
    """Change what is wanted of an attachment and ask for a look at it."""
    changes = {**changes, "generation": attachment.generation + 1, "updated_at": now}
    ATTACHMENTS.update(tx, changes, id=attachment.id)
    for name, value in changes.items():
        setattr(attachment, name, value)
    poke(tx, "attachment", attachment.id, now)


def of_volumes(tx: Tx, volume_ids: list[str]) -> dict[str, list[Attachment]]:
    """The attachments of many volumes in one query."""
    found: dict[str, list[Attachment]] = {}
    if volume_ids:
        for attachment in ATTACHMENTS.all(tx, order="volume_attachments.created_at", volume_id=volume_ids):
            found.setdefault(attachment.volume_id, []).append(attachment)
    return found
