"""Snapshots: a volume's bytes at one point in time."""

from typing import Any

from msgspec import Struct

from pileus.core.reconcile import poke
from pileus.db.connect import Tx
from pileus.db.rows import Table


class Snapshot(Struct, kw_only=True):
    """The wish (up to `updated_at`) and what became of it."""

    id: str
    volume_id: str
    project_id: str
    user_id: str
    name: str | None = None
    description: str | None = None
    metadata: dict[str, str] = {}
    size_gib: int  # of the volume when the snapshot was asked for
    deleting: bool = False
    forced_status: str | None = None  # by the administrator's os-reset_status
    forced_progress: str | None = None  # by os-update_snapshot_status
    generation: int = 0
    request_id: str = ""
    created_at: float
    updated_at: float | None = None

    made: bool = False
    fault: str | None = None
    fault_generation: int = -1
    seen_at: float | None = None

    @property
    def faulted(self) -> bool:
        return self.fault is not None and self.fault_generation == self.generation

    @property
    def status(self) -> str:
        """As the API names it; STATUS_SQL says the same to the database."""
        if self.forced_status is not None:
            return self.forced_status
        if self.deleting:
            return "error_deleting" if self.faulted else "deleting"
        if self.made:
            return "available"
        return "error" if self.faulted else "creating"

    @property
    def progress(self) -> str:
        """In percent, as the API writes it."""
        return self.forced_progress or ("100%" if self.made else "0%")


SNAPSHOTS = Table(Snapshot, "volume_snapshots")
STATUS = ("made", "fault", "fault_generation", "seen_at")
_FAULTED = "volume_snapshots.fault is not null and volume_snapshots.fault_generation = volume_snapshots.generation"
STATUS_SQL = (
    "case when volume_snapshots.forced_status is not null then volume_snapshots.forced_status"
    f" when volume_snapshots.deleting = 1 then case when {_FAULTED} then 'error_deleting' else 'deleting' end"
    " when volume_snapshots.made = 1 then 'available'"
    f" when {_FAULTED} then 'error' else 'creating' end"
)


def wish(tx: Tx, snapshot: Snapshot, now: float, **changes: Any) -> None:
    """Change what is wanted of a snapshot and ask for a look at it."""
    changes = {
        "forced_status": None,
        "forced_progress": None,
        **changes,
        "generation": snapshot.generation + 1,
        "updated_at": now,
    }
    SNAPSHOTS.update(tx, changes, id=snapshot.id)
    for name, value in changes.items():
        setattr(snapshot, name, value)
    poke(tx, "snapshot", snapshot.id, now)
