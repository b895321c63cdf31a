"""Volumes: the row, and the statuses that follow from it."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from pileus.core.reconcile import poke
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.volume.attachment.rows import Attachment


class Volume(Struct, kw_only=True):
    """The wish (up to `updated_at`) and what became of it.  Sizes in GiB."""

    id: str
    project_id: str
    user_id: str
    name: str | None = None
    description: str | None = None
    zone: str
    volume_type_id: str
    metadata: dict[str, str] = {}
    image_metadata: dict[str, str] = {}
    wanted_gib: int
    bootable: bool = False
    multiattach: bool = False
    read_only: int | None = None  # None: never said
    image_id: str | None = None  # at most one of these three is its source
    snapshot_id: str | None = None
    source_volid: str | None = None
    near_node_id: str | None = None  # where it should live if it can (its server's node)
    for_server: bool = False  # made by compute, which may reserve it while it is being created
    held: bool = False  # os-reserve
    detaching: bool = False  # os-begin_detaching
    transferring: bool = False
    upload_image_id: str | None = None  # the image that it is being uploaded to, or was last
    revert_snapshot_id: str | None = None
    reverts: int = 0  # asked for so far
    reimage_id: str | None = None
    reimages: int = 0  # asked for so far
    move_pool: str | None = None  # the pool of its node that it shall move to, or last should
    move_type_id: str | None = None  # the type that it gets there
    moves: int = 0  # asked for so far
    deleting: bool = False
    forced_status: str | None = None  # by the administrator's os-reset_status
    migration_status: str | None = None
    generation: int = 0  # of the wish; a fault belongs to one generation
    request_id: str = ""  # of the last request, for messages
    created_at: float
    updated_at: float | None = None

    node_id: str | None = None
    pool: str | None = None
    backend: str | None = None
    size_gib: int = 0  # as its node has it
    made: bool = False
    uploaded_image_id: str | None = None
    reverted: int = 0
    reimaged: int = 0
    moved: int = 0
    other_pool: str | None = None  # where a trace of it may be besides its own pool
    emptied: int = 0  # re-image number for which the old bytes are gone
    fault: str | None = None
    fault_generation: int = -1
    seen_at: float | None = None

    @property
    def faulted(self) -> bool:
        return self.fault is not None and self.fault_generation == self.generation

    @property
    def moving(self) -> bool:
        """Whether it is on its way to another pool, or something of it is still to be removed from one."""
        return self.moves != self.moved or self.other_pool is not None

    @property
    def shown_gib(self) -> int:
        """The size as the API shows it: an extension counts when it is done."""
        return self.size_gib if self.made else self.wanted_gib


VOLUMES = Table(Volume, "volumes")
STATUS = (
    "node_id", "pool", "backend", "size_gib", "made", "uploaded_image_id", "reverted", "reimaged", "emptied",
    "moved", "other_pool", "fault", "fault_generation", "seen_at",
)  # fmt: skip


def status(volume: Volume, attachments: Iterable[Attachment]) -> str:
    """The volume's status as the API names it; STATUS_SQL says the same to the database."""
    if volume.forced_status is not None:
        return volume.forced_status
    if volume.deleting:
        return "error_deleting" if volume.faulted else "deleting"
    if not volume.made:
        return "error" if volume.faulted else "creating"
    if volume.moving:
        return "retyping"
    if volume.reverts != volume.reverted:
        return "error" if volume.faulted else "reverting"
    if volume.reimages != volume.reimaged:
        return "error" if volume.faulted else "downloading"
    if volume.wanted_gib > volume.size_gib:
        return "error_extending" if volume.faulted else "extending"
    if volume.upload_image_id is not None and volume.upload_image_id != volume.uploaded_image_id:
        return "uploading"
    if volume.transferring:
        return "awaiting-transfer"
    return use(volume, attachments)


def use(volume: Volume, attachments: Iterable[Attachment]) -> str:
    """What its attachments make of a volume that is well."""
    ties = list(attachments)
    held = [a for a in ties if not a.released]
    if any(a.attached for a in held):
        return "detaching" if volume.detaching else "in-use"
    if volume.held or any(a.node_id or a.connector for a in held):
        return "attaching"
    if held:
        return "reserved"
    return "detaching" if ties else "available"


_FAULTED = "volumes.fault is not null and volumes.fault_generation = volumes.generation"


def _tied(condition: str) -> str:
    return f"exists (select 1 from volume_attachments a where a.volume_id = volumes.id and {condition})"


STATUS_SQL = f"""case
 when volumes.forced_status is not null then volumes.forced_status
 when volumes.deleting = 1 then case when {_FAULTED} then 'error_deleting' else 'deleting' end
 when volumes.made = 0 then case when {_FAULTED} then 'error' else 'creating' end
 when volumes.moves <> volumes.moved or volumes.other_pool is not null then 'retyping'
 when volumes.reverts <> volumes.reverted then case when {_FAULTED} then 'error' else 'reverting' end
 when volumes.reimages <> volumes.reimaged then case when {_FAULTED} then 'error' else 'downloading' end
 when volumes.wanted_gib > volumes.size_gib then case when {_FAULTED} then 'error_extending' else 'extending' end
 when volumes.upload_image_id is not null and volumes.upload_image_id <> coalesce(volumes.uploaded_image_id, '')
  then 'uploading'
 when volumes.transferring = 1 then 'awaiting-transfer'
 when {_tied("a.released = 0 and a.attached = 1")}
  then case when volumes.detaching = 1 then 'detaching' else 'in-use' end
 when volumes.held = 1 or {_tied("a.released = 0 and (a.node_id is not null or a.connector is not null)")}
  then 'attaching'
 when {_tied("a.released = 0")} then 'reserved'
 when {_tied("1 = 1")} then 'detaching'
 else 'available' end"""


def migration(volume: Volume) -> str | None:
    """What became of its last move, unless an administrator said otherwise; MIGRATION_SQL says the same."""
    if volume.migration_status is not None or not volume.moves:
        return volume.migration_status
    if volume.moves != volume.moved:
        return "migrating"
    return "success" if volume.pool == volume.move_pool else "error"


MIGRATION_SQL = """case
 when volumes.migration_status is not null or volumes.moves = 0 then volumes.migration_status
 when volumes.moves <> volumes.moved then 'migrating'
 when volumes.pool = volumes.move_pool then 'success' else 'error' end"""


def wish(tx: Tx, volume: Volume, now: float, **changes: Any) -> None:
    """Change what is wanted of a volume, ending a status that was forced, and ask for a look at it."""
    changes = {"forced_status": None, **changes, "generation": volume.generation + 1, "updated_at": now}
    VOLUMES.update(tx, changes, id=volume.id)
    for name, value in changes.items():
        setattr(volume, name, value)
    poke(tx, "volume", volume.id, now)


def edit(tx: Tx, volume: Volume, now: float, **changes: Any) -> None:
    """Change what needs no work (names, metadata, flags)."""
    changes = {**changes, "updated_at": now}
    VOLUMES.update(tx, changes, id=volume.id)
    for name, value in changes.items():
        setattr(volume, name, value)


def dependents(tx: Tx, source_id: str) -> list[str]:
    """Volumes that are just being made from this snapshot or volume."""
    rows = tx.all(
        "select id from volumes where (snapshot_id = ? or source_volid = ?) and made = 0 and deleting = 0"
        f" and not ({_FAULTED})",
        source_id, source_id,
    )  # fmt: skip
    return [row[0] for row in rows]
