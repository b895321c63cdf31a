"""Images as the database keeps them, and the transfers by which their bytes arrive.

The wish (name, visibility, …, `feed`, `deleting`) is written by the API and the facade.  The columns in
STATUS move only by compare-and-swap on `generation`: by who holds the transfer (an API process during
an upload, a step otherwise), so at any time they have one writer.
"""

from typing import Any

from msgspec import Struct, structs

from pileus.core.errors import Conflicted
from pileus.core.ids import new_id
from pileus.core.reconcile import poke
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.image.inspection import Findings

BEAT = 5.0  # seconds between two signs of life of a transfer
DEAD = 30.0  # seconds without a sign after which a transfer has died
STATUS = (
    "status", "transfer", "transfer_seen", "staged", "leftovers", "fault", "size", "virtual_size", "checksum",
    "hash_value", "location", "url",
)  # fmt: skip


class Feed(Struct, frozen=True, kw_only=True):
    """Where on a node the bytes of an image stand ready: a disk copy, or a volume."""

    node_id: str
    copy_id: str = ""
    pool: str = ""
    volume_id: str = ""
    at: float = 0.0  # since when


class Stored(Struct, frozen=True, kw_only=True):
    """Bytes that arrived whole and lie in the blob store."""

    name: str  # in the blob store
    url: str
    size: int
    checksum: str  # MD5, hex: for clients that compare, not for trust
    hash_value: str  # SHA-512, hex
    found: Findings
    flaw: str = ""  # what else is wrong with them


class Image(Struct, kw_only=True):
    """An image."""

    id: str
    project_id: str
    name: str | None = None
    visibility: str = "shared"  # "public" | "community" | "shared" | "private"
    protected: bool = False
    hidden: bool = False
    disk_format: str | None = None
    container_format: str | None = None
    min_disk: int = 0  # GiB
    min_ram: int = 0  # MiB
    properties: dict[str, str]
    tags: list[str]
    created_at: float
    updated_at: float
    deleting: bool = False
    feed: Feed | None = None
    owner_kind: str = ""  # who waits for this image: "server", "volume" or nobody
    owner_id: str = ""
    status: str = "queued"
    generation: int = 0
    transfer: str = ""  # blob name of the bytes that are arriving, "" when none are
    transfer_seen: float = 0.0
    staged: Stored | None = None
    leftovers: list[str]  # blob names that the step must remove
    fault: str | None = None
    size: int = 0  # bytes as stored; 0 before there are any
    virtual_size: int = 0  # bytes of the disk inside
    checksum: str | None = None
    hash_value: str | None = None
    location: str = ""  # blob name of the bytes
    url: str = ""


class Member(Struct, frozen=True, kw_only=True):
    """A project with which an image is shared."""

    image_id: str
    member_id: str
    status: str  # "pending" | "accepted" | "rejected"
    created_at: float
    updated_at: float


IMAGES = Table(Image, "images")
MEMBERS = Table(Member, "image_members", key=("image_id", "member_id"))


def move(tx: Tx, image: Image, now: float, **columns: Any) -> Image:
    """Change STATUS columns of an image as it was read, and let its step see it; raises Conflicted."""
    changes = {**columns, "generation": image.generation + 1}
    if not IMAGES.update(tx, changes, id=image.id, generation=image.generation):
        raise Conflicted(f"Image {image.id} was changed by another request: try again.")
    poke(tx, "image", image.id, now)
    return structs.replace(image, **changes)


def begin(tx: Tx, image: Image, status: str, now: float) -> str:
    """Start a transfer into a queued image; its blob name.  Raises Conflicted when it has or gets bytes."""
    if image.status != "queued" or image.transfer or image.feed is not None:
        raise Conflicted(
            f"Image status transition from {image.status} to {status} is not allowed: "
            "an image takes its data once, by one upload at a time."
        )
    transfer = new_id()
    move(tx, image, now, status=status, transfer=transfer, transfer_seen=now, fault=None)
    return transfer


def beat(tx: Tx, image_id: str, transfer: str, now: float) -> bool:
    """Give a sign of life; False when the image no longer waits for this transfer."""
    where = {"id": image_id, "transfer": transfer, "deleting": False}
    return IMAGES.update(tx, {"transfer_seen": now}, **where) == 1


def held(tx: Tx, image_id: str, transfer: str) -> Image | None:
    """The image, if it still waits for this transfer."""
    return IMAGES.get(tx, id=image_id, transfer=transfer, deleting=False)


def activate(tx: Tx, image: Image, stored: Stored, now: float) -> Image:
    """Make bytes the image's own, and tell who waits for it."""
    changed = move(
        tx, image, now, status="active", transfer="", staged=None, fault=None, size=stored.size,
        virtual_size=stored.found.virtual_size, checksum=stored.checksum, hash_value=stored.hash_value,
        location=stored.name, url=stored.url,
    )  # fmt: skip
    IMAGES.update(tx, {"updated_at": now}, id=image.id)
    tell_owner(tx, image, now)
    return changed


def give_up(tx: Tx, image_id: str, transfer: str, why: str, now: float) -> None:
    """End a transfer that failed: the image is queued again, its blob is removed by the step."""
    image = IMAGES.get(tx, id=image_id, transfer=transfer)
    if image is not None:
        move(tx, image, now, status="queued", transfer="", fault=why, leftovers=[*image.leftovers, transfer])


def tell_owner(tx: Tx, image: Image, now: float) -> None:
    """Poke the resource that waits for this image."""
    if image.owner_id:
        poke(tx, image.owner_kind, image.owner_id, now)


def blobs_of(image: Image) -> list[str]:
    """Every name under which the blob store may hold bytes of an image."""
    staged = [image.staged.name] if image.staged else []
    return [name for name in (image.location, image.transfer, *staged, *image.leftovers) if name]
