"""What other services may ask of images; the only door into this folder."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from pileus.core.context import Context
from pileus.core.events import record_request
from pileus.core.ids import new_id
from pileus.core.reconcile import Kind, poke
from pileus.db.connect import Database, Tx
from pileus.image import member, schemas, task, transfer, versions  # noqa: F401 (their operations register)
from pileus.image.access import load_image
from pileus.image.drivers import ImageSource
from pileus.image.inspection import AS_THEY_ARE, BARE
from pileus.image.rows import IMAGES, Feed, Image, blobs_of, move, tell_owner
from pileus.image.service import IMAGE as SERVICE
from pileus.image.world import Hub, kind

__all__ = [
    "SERVICE", "ImageView", "activate_empty", "blob_name", "create_from", "expected_blobs", "fail", "feed", "find_by",
    "find_image", "get_image", "inconsistencies", "kinds", "remove", "source",
]  # fmt: skip


class ImageView(Struct, frozen=True, kw_only=True):
    """An image as other services see it."""

    id: str
    name: str
    status: str  # as the API shows it
    visibility: str
    owner: str  # project id
    size: int  # bytes as stored; 0 before there are any
    virtual_size: int  # bytes of the disk inside
    min_disk: int  # GiB
    min_ram: int  # MiB
    disk_format: str
    container_format: str
    protected: bool
    properties: Mapping[str, str]
    tags: tuple[str, ...]
    created_at: float
    fault: str = ""  # why it is killed, or why its last upload was refused


def _view(image: Image) -> ImageView:
    return ImageView(
        id=image.id, name=image.name or "", status=image.status, visibility=image.visibility, owner=image.project_id,
        size=image.size, virtual_size=image.virtual_size, min_disk=image.min_disk, min_ram=image.min_ram,
        disk_format=image.disk_format or "", container_format=image.container_format or "", protected=image.protected,
        properties=dict(image.properties), tags=tuple(image.tags), created_at=image.created_at,
        fault=image.fault or "",
    )  # fmt: skip


def get_image(ctx: Context, image_id: str) -> ImageView:
    """An image that the caller may use; raises NotFound, or Forbidden by the rule get_image."""
    image = load_image(ctx, image_id)
    ctx.enforce("get_image", image)
    return _view(image)


def find_image(tx: Tx, image_id: str) -> ImageView | None:
    """An image by its id, None when there is none (or it is being deleted)."""
    image = IMAGES.get(tx, id=image_id, deleting=False)
    return None if image is None else _view(image)


def source(tx: Tx, image_id: str) -> ImageSource:
    """How a node gets the bytes; raises LookupError, with the reason, unless it can be booted from."""
    image = IMAGES.get(tx, id=image_id, deleting=False)
    if image is None:
        raise LookupError(f"Image {image_id} could not be found.")
    if image.status != "active":
        raise LookupError(f"Image {image_id} is not active: its status is {image.status}.")
    plain = image.disk_format in AS_THEY_ARE or image.disk_format == "iso"
    if image.container_format not in BARE or not (plain or image.disk_format == "qcow2"):
        raise LookupError(
            f"Image {image_id} has disk_format {image.disk_format} in container {image.container_format}; disks are "
            "made from raw, iso and qcow2 in bare: convert it with `qemu-img convert -O qcow2`."
        )
    return ImageSource(
        id=image.id, format="raw" if plain else "qcow2", size=image.size, sha512=image.hash_value or "",
        url=image.url,
    )  # fmt: skip


def create_from(
    ctx: Context, *, name: str, properties: Mapping[str, str], min_disk: int, min_ram: int, disk_format: str,
    container_format: str = "bare", visibility: str = "private", owner_kind: str, owner_id: str,
) -> ImageView:  # fmt: skip
    """A queued image of the caller's project that a step fills (see `feed`)."""
    ctx.enforce("add_image", {"project_id": ctx.project_id, "owner": ctx.project_id})
    if visibility == "public":
        ctx.enforce("publicize_image", {"project_id": ctx.project_id})
    image = Image(
        id=new_id(), project_id=ctx.project_id, name=name, visibility=visibility, disk_format=disk_format,
        container_format=container_format, min_disk=min_disk, min_ram=min_ram, properties=dict(properties), tags=[],
        created_at=ctx.now, updated_at=ctx.now, owner_kind=owner_kind, owner_id=owner_id, leftovers=[],
    )  # fmt: skip
    IMAGES.insert(ctx.tx, image)
    record_request(ctx, "image", image.id, "create", "success", name=name, owner=f"{owner_kind} {owner_id}")
    return _view(image)


def feed(
    tx: Tx, image_id: str, *, node_id: str, copy_id: str = "", pool: str = "", volume_id: str = "", now: float
) -> None:
    """The bytes stand ready on a node: a disk copy, or a volume.  Twice is once; a deleted image ignores it."""
    ready = Feed(node_id=node_id, copy_id=copy_id, pool=pool, volume_id=volume_id, at=now)
    if IMAGES.update(tx, {"feed": ready}, id=image_id, status="queued", transfer="", deleting=False):
        poke(tx, "image", image_id, now)


def fail(tx: Tx, image_id: str, why: str, now: float) -> None:
    """Nothing will fill this image: it is killed with the reason, unless it has its bytes already."""
    image = IMAGES.get(tx, id=image_id, deleting=False)
    if image is not None and image.status not in ("active", "deactivated", "killed"):
        gone = [image.transfer] if image.transfer else []
        move(tx, image, now, status="killed", fault=why, transfer="", leftovers=[*image.leftovers, *gone])
        tell_owner(tx, image, now)


def activate_empty(tx: Tx, image_id: str, now: float) -> None:
    """A queued image has no bytes of its own and is ready: its block_device_mapping names snapshots of volumes."""
    image = IMAGES.get(tx, id=image_id, deleting=False)
    if image is not None and image.status == "queued":
        move(tx, image, now, status="active")


def remove(tx: Tx, image_id: str, now: float) -> None:
    """Wish an image away; nothing happens when it is gone already."""
    if IMAGES.update(tx, {"deleting": True, "updated_at": now}, id=image_id, deleting=False):
        poke(tx, "image", image_id, now)


def find_by(tx: Tx, **properties: str) -> list[ImageView]:
    """The images of which these properties have these values, oldest first."""
    first, value = next(iter(properties.items()))
    said = msgspec.json.encode({first: value}).decode()[1:-1].replace("!", "!!").replace("%", "!%").replace("_", "!_")
    rows = IMAGES.query(tx, "where deleting = 0 and properties like ? escape '!' order by created_at", f"%{said}%")
    return [_view(row) for row in rows if all(row.properties.get(k) == v for k, v in properties.items())]


def blob_name(tx: Tx, image_id: str) -> str:
    """The name of an active image's bytes in the blob store; raises LookupError."""
    image = IMAGES.get(tx, id=image_id, deleting=False)
    if image is None or not image.location:
        raise LookupError(f"Image {image_id} has no data.")
    return image.location


def expected_blobs(tx: Tx) -> set[str]:
    """Names that the blob store must hold; of an image that is being deleted its bytes may be gone before its row."""
    images = IMAGES.all(tx, deleting=False)
    return {i.location for i in images if i.location} | {i.staged.name for i in images if i.staged}


def with_bytes(tx: Tx) -> set[str]:
    """Ids of the images that nodes may make raw files of."""
    return {image.id for image in IMAGES.all(tx) if image.location}


def passing_blobs(tx: Tx) -> set[str]:
    """Names that the blob store may hold besides, for now: bytes that are arriving, bytes that a step removes."""
    return {name for image in IMAGES.all(tx) for name in blobs_of(image)} - expected_blobs(tx)


def inconsistencies(tx: Tx) -> list[str]:
    """What contradicts itself in the rows of images, one line each; empty when all is well."""
    said = []
    for image in IMAGES.all(tx):
        empty = "block_device_mapping" in image.properties  # see activate_empty
        if (image.status in ("active", "deactivated")) != bool(image.location) and not empty:
            said.append(f"image {image.id} is {image.status}, its location is {image.location!r}")
        if image.leftovers and tx.one("select 1 from work where kind = 'image' and id = ? and due is null", image.id):
            said.append(f"image {image.id} has leftovers, but no step is due")
    orphans = "select image_id from image_members where image_id not in (select id from images)"
    return said + [f"members of an image that is not there: {row[0]}" for row in tx.all(orphans)]


def kinds(db: Database, hub: Hub, clock: Callable[[], float] = time.time) -> list[Kind[Any]]:
    """The living resources of this service."""
    return [kind(db, hub, clock)]
