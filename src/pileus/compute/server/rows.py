"""What is stored of a server: one row for itself, and rows for what belongs to it.

Of each row the API writes the wish and the server's own step writes the rest (SPEC and STATUS name
which is which); counters of one and the other make levels of what would be edges (a reboot, a start).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct, field

from pileus.db.connect import Tx
from pileus.db.rows import Table


class Size(Struct, frozen=True, kw_only=True):
    """A flavor as it was when the server got it; what happens to the flavor later does not matter."""

    id: str
    name: str
    vcpus: int
    ram_mib: int
    disk_gib: int
    ephemeral_gib: int = 0
    swap_mib: int = 0
    extra_specs: dict[str, str] = {}


class LocalWish(Struct, frozen=True, kw_only=True):
    """A further local disk (block_device_mapping_v2 with source blank and destination local)."""

    kind: Literal["ephemeral", "swap"]
    size_gib: int
    bus: str = ""
    tag: str = ""


class Rescue(Struct, frozen=True, kw_only=True):
    """The image that a rescued server runs from, and how its disk is attached (hw_rescue_* of the image)."""

    image_id: str
    bus: str = ""
    device: str = "disk"


class Seen(Struct, frozen=True, kw_only=True):
    """The guest as it was last seen on its node; power "" before the first time."""

    power: str = ""
    resets: int = 0
    reboots: int = 0
    started_at: float = 0.0


class Fault(Struct, frozen=True, kw_only=True):
    """Why a server is in ERROR."""

    message: str
    at: float
    code: int = 500
    details: str = ""


class Server(Struct, kw_only=True):
    """A server: who made it, the wish, and what it was given."""

    id: str
    project_id: str
    user_id: str
    created_at: float
    reservation_id: str
    launch_index: int = 0
    changed_at: float
    name: str
    description: str | None = None
    hostname: str
    metadata: dict[str, str] = {}
    image_id: str | None = None  # None: it boots from a volume
    image_properties: dict[str, str] = {}
    key_name: str | None = None
    public_key: str | None = None  # a copy: the keypair may be deleted
    key_type: str = "ssh"
    user_data: str | None = None  # base64, as it was given
    files: list[tuple[str, str]] = []  # personality: (path, base64)
    config_drive: bool = False
    disk_config: str = "MANUAL"
    access_ip_v4: str = ""
    access_ip_v6: str = ""
    zone: str | None = None  # asked for, and kept when it moves
    host: str | None = None  # asked for: only this node
    hints: dict[str, Any] = {}
    local_disks: list[LocalWish] = []
    security_groups: list[str] = []  # ids, for ports that are attached later
    locked: Literal["", "owner", "admin"] = ""
    locked_reason: str | None = None
    password: str = ""  # as the guest posted it: encrypted with the owner's key, base64
    power: Literal["on", "off", "paused", "suspended"] = "on"
    starts: int = 1  # so often was it asked to run
    resets: int = 0
    reboots: int = 0
    rebuilds: int = 0
    rebuild_image: str | None = None  # of the last rebuild, when it boots from a volume
    rescue: Rescue | None = None  # set: it shall run from another image
    shelved: Literal["", "shelved", "offloaded"] = ""
    shelve_image: str | None = None
    tries: int = 0  # raised by each request that asks to try again after a fault
    broken: bool = False  # shown as ERROR because an administrator said so
    deleted: bool = False
    action: str = "create"  # the last thing asked for
    moved_at: float
    flavor: Size
    vcpus: int
    ram_mib: int
    disk_gib: int
    node_id: str | None = None
    node_name: str | None = None
    node_zone: str | None = None
    task: str | None = "scheduling"
    seen: Seen = field(default_factory=Seen)
    starts_seen: int = 0
    halted: int = 0  # the start whose run the guest ended by itself
    rebuilds_seen: int = 0
    generation: int = 0  # of its local disks: raised by rebuild, resize and unshelve
    generations: int = 0  # the highest that was ever used
    built: int = -1  # the generation whose disks exist
    root_image: str | None = None  # what the root disk of this generation is made from
    copied_from: int | None = None  # the generation that this one is a copy of
    kept: int | None = None  # the generation that a revert would need
    rescues: int = 0
    rescued: bool = False
    shelved_seen: Literal["", "shelved", "offloaded"] = ""
    launched_at: float | None = None
    fault: Fault | None = None
    failed_try: int = -1
    refused: list[tuple[str, str]] = []  # (node id, what it said)
    leaving: bool = False  # giving back all that is tied to its node


SERVERS = Table(Server, "servers")
_FIRST_STATUS = Server.__struct_fields__.index("moved_at")
SPEC = Server.__struct_fields__[Server.__struct_fields__.index("changed_at") : _FIRST_STATUS]
STATUS = Server.__struct_fields__[_FIRST_STATUS:]


class Nic(Struct, kw_only=True):
    """A port of a server; `own` ports were made for it and are deleted with it."""

    port_id: str
    server_id: str
    position: int
    tag: str | None = None
    own: bool = True
    detach: bool = False
    plugged: bool = False  # status: the guest has it


class ServerVolume(Struct, kw_only=True):
    """A volume of a server; its id is the attachment's, which was made with it."""

    id: str
    server_id: str
    volume_id: str
    position: int
    boot_index: int | None = None
    device: str
    tag: str | None = None
    bus: str = ""
    device_type: str = "disk"
    delete_on_termination: bool = False
    source: str = "volume"  # what block_device_mapping_v2 said: image, snapshot, blank, volume
    detach: bool = False
    plugged: bool = False  # status: the guest has it


class Migration(Struct, kw_only=True):
    """A change of size or place: the old claim stands under its id until it is confirmed or reverted."""

    id: str
    number: int
    server_id: str
    project_id: str
    user_id: str
    type: Literal["resize", "migration"] = "resize"
    old_flavor: Size
    new_flavor: Size
    wish: Literal["", "confirm", "revert"] = ""
    created_at: float
    state: Literal["queued", "migrating", "finished", "reverting", "confirmed", "reverted", "error"] = "queued"
    source_node: str | None = None
    dest_node: str | None = None
    source_name: str | None = None
    dest_name: str | None = None
    old_generation: int = 0
    updated_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether it still holds anything."""
        return self.state not in ("confirmed", "reverted", "error")


class Snapshot(Struct, kw_only=True):
    """An image being made of a server's disk; it lives only as long as that takes."""

    id: str  # also names the copy on the node
    server_id: str
    image_id: str
    kind: Literal["snapshot", "backup", "shelve"] = "snapshot"
    disk_id: str
    node_id: str
    rotation: int = 0
    backup_type: str = ""
    created_at: float
    cancelled: bool = False
    copied: bool = False  # status
    fed: bool = False  # status


class ConsoleToken(Struct, frozen=True, kw_only=True):
    """The right to open a console for a while; only a digest of the token is kept."""

    digest: str
    server_id: str
    kind: str  # "vnc" | "serial"
    expires_at: float


class Tag(Struct, frozen=True, kw_only=True):
    server_id: str
    tag: str


NICS = Table(Nic, "server_nics", key=("port_id",))
VOLUMES = Table(ServerVolume, "server_volumes")
MIGRATIONS = Table(Migration, "server_migrations")
SNAPSHOTS = Table(Snapshot, "server_snapshots")
CONSOLE_TOKENS = Table(ConsoleToken, "console_tokens", key=("digest",))
TAGS = Table(Tag, "server_tags", key=("server_id", "tag"))


def plugged(tx: Tx, server_ids: Sequence[str]) -> list[tuple[str, str]]:
    """(server id, port id) of these servers' ports in the order in which their guests have them."""
    marks = ", ".join("?" * len(server_ids)) or "null"
    sql = f"select server_id, port_id from server_nics where detach = 0 and server_id in ({marks}) order by position"
    return [(row[0], row[1]) for row in tx.all(sql, *server_ids)]


def volumes_of(tx: Tx, server_ids: Iterable[str]) -> list[ServerVolume]:
    """Volumes of these servers in the order in which they came."""
    return VOLUMES.all(tx, order="server_volumes.position", server_id=tuple(server_ids))


def open_migration(tx: Tx, server_id: str) -> Migration | None:
    """The migration under way or waiting to be confirmed, if there is one."""
    rows = MIGRATIONS.query(
        tx, "where server_id = ? and state not in ('confirmed', 'reverted', 'error') order by number desc", server_id
    )
    return rows[0] if rows else None
