"""What block storage needs of a machine: volumes and snapshots that keep every acknowledged byte.

Long work (copying) is asked for again until it answers; `None` means under way.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from pileus.image.drivers import Broken, ImageSource

__all__ = ["Block", "Broken", "Connection", "ImageSource", "Pool", "Snapshot", "Source", "Volume", "VolumeSeen"]


class Connection(Struct, frozen=True, kw_only=True, tag="volume"):
    """Where a volume can be opened, as the block driver gave it."""

    kind: Literal["file", "nbd"]
    path: str = ""  # file: of a raw file; nbd: of the unix socket, when not `host`
    host: str = ""  # nbd over TCP
    port: int = 0
    export: str = ""  # nbd export name
    tls: Mapping[str, str] = {}  # nbd over TCP: {"identity": …, "key": …} of a pre-shared key
    read_only: bool = False
    shared: bool = False  # other guests may have it open as well (multiattach): no lock keeps them out


class Source(Struct, frozen=True, kw_only=True):
    """What a new volume holds: nothing, an image, a snapshot or another volume."""

    kind: Literal["image", "snapshot", "volume"]
    id: str
    image: ImageSource | None = None
    pool: str = ""  # of a volume that nobody writes: where it is, "" for the new volume's own pool


class Volume(Struct, frozen=True, kw_only=True):
    """A volume as its node should have it."""

    id: str
    pool: str  # name of the back end's pool
    size_gib: int  # larger than what is there: grow; never shrinks
    source: Source | None = None


class VolumeSeen(Struct, frozen=True, kw_only=True):
    id: str
    size_gib: int


class Snapshot(Struct, frozen=True, kw_only=True):
    """A snapshot of a volume at one point in time."""

    id: str
    volume_id: str
    pool: str
    copy_path: str = ""  # a point-in-time copy that the hypervisor made of a volume in use


class Pool(Struct, frozen=True, kw_only=True):
    """Where volumes live, for the scheduler."""

    name: str
    total_gib: float
    free_gib: float
    backend: str  # volume_backend_name of volume types
    capabilities: dict[str, str] = {}  # what the operator says of it, over what the driver would say


class Block(Protocol):
    """Keeps volumes.  Every call is idempotent; unknown ids are not an error for remove."""

    def pools(self) -> Sequence[Pool]: ...

    def ensure_volume(self, volume: Volume) -> VolumeSeen | None:
        """Create from its source, or grow.  Raises Broken when the source cannot be used."""

    def remove_volume(self, pool: str, volume_id: str) -> bool: ...

    def ensure_snapshot(self, snapshot: Snapshot) -> bool | None: ...

    def remove_snapshot(self, pool: str, snapshot_id: str) -> bool: ...

    def ensure_export(self, pool: str, volume_id: str, node: str) -> Connection | None:
        """Make the volume openable from `node`; its own node gets the file itself."""

    def remove_export(self, pool: str, volume_id: str, node: str) -> bool: ...

    def volume_path(self, pool: str, volume_id: str) -> str:
        """The raw file to read from (upload to image, backup); raises LookupError."""

    def revert(self, pool: str, volume_id: str, snapshot_id: str) -> bool | None: ...

    def list_things(self) -> Sequence[str]:
        """Ids of all volumes and snapshots of which this node has a trace."""
