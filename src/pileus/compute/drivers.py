"""What compute needs of a machine: to run guests from local disks, volumes and taps.

These types cross the wire between controller and node, so each is a frozen msgspec struct.
A driver keeps no wish of its own: it is told the whole guest every time and does the next
thing that is missing.  `None` as an answer means "under way, ask again".
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from pileus.image.drivers import Broken, ImageSource
from pileus.volume.drivers import Connection

__all__ = [
    "Broken",
    "Bus",
    "Capabilities",
    "Connection",
    "Disk",
    "Ended",
    "Guest",
    "GuestSeen",
    "Hypervisor",
    "ImageSource",
    "LocalDisk",
    "Nic",
    "Power",
    "Refused",
]

Power = Literal["on", "off", "paused", "suspended"]
Bus = Literal["virtio", "scsi", "ide", "usb"]
Ended = Literal["", "asked", "guest", "crash", "lost"]
"""Why a guest does not run: told to, shut down from inside, QEMU failed, or the node went down under it."""


class LocalDisk(Struct, frozen=True, kw_only=True, tag="local"):
    """A disk that lives and dies with its guest, in the node's guest folder."""

    size_gib: int  # 0: as large as its image
    image: ImageSource | None = None  # None: empty
    copy_of: str | None = None  # id of another local disk of the same guest to copy at first (resize)


class Disk(Struct, frozen=True, kw_only=True):
    """A disk as a guest sees it; the order in `Guest.disks` is the boot order."""

    id: str  # names the local file or the device: "root.0", "swap.0", a volume's id
    source: LocalDisk | Connection
    bus: Bus = "virtio"
    device: Literal["disk", "cdrom"] = "disk"
    serial: str = ""  # at most 20 characters reach the guest
    tag: str = ""
    size_bytes: int = 0  # volumes: the wanted size, so that an extension reaches a running guest


class Nic(Struct, frozen=True, kw_only=True):
    """A network card: a tap that the switch driver made ready in `netns`."""

    port_id: str
    mac: str
    device: str  # name of the tap
    netns: str  # network namespace that holds the tap ("" is the agent's own)
    mtu: int
    tag: str = ""


class Guest(Struct, frozen=True, kw_only=True):
    """A server as a node should have it: the whole wish."""

    id: str  # the server's id
    name: str
    vcpus: int
    ram_mib: int
    disks: tuple[Disk, ...]
    nics: tuple[Nic, ...]
    keep: tuple[str, ...] = ()  # ids of further local disks not to be removed (revert of a resize)
    config_drive: Mapping[str, bytes] | None = None  # path → content of an ISO 9660 labelled config-2
    power: Power = "on"
    resets: int = 0  # hard reboots wanted so far
    reboots: int = 0  # soft reboots wanted so far
    machine: Literal["q35", "pc"] = "q35"
    hostname: str = ""


class GuestSeen(Struct, frozen=True, kw_only=True):
    """A guest as its node has it."""

    id: str
    power: Literal["on", "off", "paused", "suspended", "crashed"]
    ended: Ended = ""
    resets: int = 0
    reboots: int = 0
    disks: tuple[str, ...] = ()  # ids attached now
    nics: tuple[str, ...] = ()  # port ids attached now
    vcpus: int = 0
    ram_mib: int = 0
    started_at: float = 0.0  # seconds since the epoch; 0 when off
    pid: int = 0
    resident_bytes: int = 0


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a node can give to guests."""

    vcpus: int
    ram_mib: int
    disk_gib: int
    accelerator: Literal["kvm", "tcg", "fake"]
    traits: tuple[str, ...] = ()  # placement trait names
    version: str = ""
    booted_at: float = 0.0  # when the machine started, seconds since the epoch; 0: not told


class Refused(Exception):
    """This node cannot run this guest, another one might; the text says why."""


class Hypervisor(Protocol):
    """Runs guests.  Every call is idempotent and quick; unknown ids are not an error for remove."""

    def capabilities(self) -> Capabilities: ...

    def ensure_image(self, image: ImageSource) -> int | None:
        """Have the image as a raw file in the node's cache; its virtual size in bytes when it is there.

        Raises Broken when the bytes are not what `image` says or the file refers to others.
        """

    def ensure_guest(self, guest: Guest) -> GuestSeen | None:
        """Do the next missing thing towards `guest`: disks, process, hot-plug, power, resets.

        Raises Refused (no memory, no such accelerator) or Broken.
        """

    def observe_guest(self, guest_id: str) -> GuestSeen | None:
        """The guest as it is now, None when this node has no trace of it."""

    def list_guests(self) -> Sequence[str]:
        """Ids of all guests of which this node has a trace: a process, a file, a folder."""

    def remove_guest(self, guest_id: str) -> bool:
        """Stop it and remove every file of it; True when nothing is left."""

    def console_log(self, guest_id: str, limit: int) -> bytes:
        """The last `limit` bytes of the serial console (at most 1 MiB kept)."""

    def console_socket(self, guest_id: str, kind: Literal["vnc", "serial"]) -> str:
        """Path of the unix socket of the screen or the serial line; raises LookupError when off."""

    def ensure_disk_copy(self, guest_id: str, disk_id: str, copy_id: str) -> int | None:
        """Copy one disk as it is at one point in time (guest running or not) to a raw file; its bytes."""

    def disk_copy_path(self, copy_id: str) -> str:
        """Path of a finished copy; raises LookupError."""

    def remove_disk_copy(self, copy_id: str) -> bool: ...

    def list_disk_copies(self) -> Sequence[str]:
        """Ids of all copies of disks of which this node has a file, unfinished ones included."""

    def list_image_drafts(self) -> Sequence[str]:
        """Ids of the images that are being made into raw files here, or of which a draft was left behind."""

    def diagnostics(self, guest_id: str) -> Mapping[str, object]: ...

    def inject_nmi(self, guest_id: str) -> None: ...
