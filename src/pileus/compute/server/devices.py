"""block_device_mapping: what disks a server shall have, from the API's several ways to say it.

Source: Compute API guide, "Block Device Mapping in Nova"; Compute API reference, "Create server".
"""

import json
from typing import Any, Literal

from msgspec import Struct

from pileus.compute.server.rows import LocalWish, Size
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden, NotFound, OverQuota, Problem, TooLarge
from pileus.core.schema import truth
from pileus.image import facade as image
from pileus.image.facade import ImageView
from pileus.volume import facade as volume

Source = Literal["volume", "snapshot", "image", "blank"]
_PREFIX = {"scsi": "sd", "usb": "sd", "ide": "hd"}
_BOOT_SEQUENCE = "Boot sequence for the instance and image/block device mapping combination is not valid."


class VolumeWish(Struct, frozen=True, kw_only=True):
    """A volume that a server shall have: one that exists, or a new one."""

    source: Source
    id: str = ""  # of the volume, snapshot or image
    size_gib: int | None = None
    boot_index: int | None = None
    device: str = ""
    delete_on_termination: bool = False
    bus: str = ""
    device_type: str = "disk"
    tag: str | None = None
    volume_type: str | None = None


class Plan(Struct, kw_only=True):
    """All disks of a server; `local_root`: its root disk is made from the image on the node."""

    local_root: bool
    volumes: list[VolumeWish] = []
    locals: list[LocalWish] = []


def invalid(why: str) -> BadRequest:
    """What is answered to a mapping that cannot be."""
    return BadRequest(f"Block Device Mapping is Invalid: {why}")


def plan(ctx: Context, body: dict[str, Any], size: Size, boot_image: ImageView | None) -> Plan:
    """The disks that a create request asks for; raises BadRequest."""
    legacy, modern = body.get("block_device_mapping") or [], body.get("block_device_mapping_v2") or []
    if legacy and modern:
        raise BadRequest("Using different block_device_mapping syntaxes is not allowed in the same request.")
    items = [_from_legacy(item) for item in legacy if "no_device" not in item] or list(modern)
    if boot_image is not None and (kept := boot_image.properties.get("block_device_mapping")):
        items = _merge(_of_image(kept), items)
        boot_image = None
    found = Plan(local_root=boot_image is not None)
    named = [_add(ctx, found, item, boot_image) for item in items]
    if any(v.boot_index == 0 for v in found.volumes):
        if "image" in named:
            raise invalid(_BOOT_SEQUENCE)
        found.local_root = False
    _check_boot_order(found)
    _check_sizes(found, size)
    found.locals += _of_flavor(found, size)
    return found


def _of_flavor(found: Plan, size: Size) -> list[LocalWish]:
    """The local disks that a flavor brings, unless the request says how they shall be."""
    named = {wish.kind for wish in found.locals}
    brought = []
    if size.ephemeral_gib and "ephemeral" not in named:
        brought.append(LocalWish(kind="ephemeral", size_gib=size.ephemeral_gib))
    if size.swap_mib and "swap" not in named:
        brought.append(LocalWish(kind="swap", size_gib=-(-size.swap_mib // 1024)))
    return brought


def _from_legacy(item: dict[str, Any]) -> dict[str, Any]:
    """The first syntax names a volume or a snapshot; device vda is what it boots from."""
    root = item.get("device_name", "").removeprefix("/dev/") in ("vda", "sda", "hda")
    kind = "snapshot" if item.get("snapshot_id") else "volume"
    return {
        "source_type": kind, "uuid": item.get(f"{kind}_id"), "destination_type": "volume",
        "volume_size": item.get("volume_size"), "device_name": item.get("device_name"),
        "delete_on_termination": item.get("delete_on_termination", False), "boot_index": 0 if root else None,
    }  # fmt: skip


def _of_image(text: str) -> list[dict[str, Any]]:
    """The mapping that an image of a volume-backed server carries; raises BadRequest."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise invalid("the image's block_device_mapping property cannot be read.")
    keys = ("source_type", "destination_type", "boot_index", "device_name", "delete_on_termination", "volume_size",
            "disk_bus", "device_type", "guest_format", "tag", "volume_type")  # fmt: skip
    return [
        {k: item[k] for k in keys if item.get(k) is not None}
        | {"uuid": item.get("snapshot_id") or item.get("volume_id") or item.get("image_id") or item.get("uuid")}
        for item in found
    ]


def _merge(inherited: list[dict[str, Any]], given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the request says of a device wins over what the image says of it."""
    devices = {item.get("device_name") for item in given if item.get("device_name")}
    roots = any(str(item.get("boot_index")) == "0" and item.get("destination_type") == "volume" for item in given)
    kept = [i for i in inherited if i.get("device_name") not in devices and not (roots and i.get("boot_index") == 0)]
    return kept + [item for item in given if not _is_local_image(item)]


def _is_local_image(item: dict[str, Any]) -> bool:
    return item.get("source_type") == "image" and item.get("destination_type", "local") == "local"


def _add(ctx: Context, found: Plan, item: dict[str, Any], boot_image: ImageView | None) -> str:
    """Take one mapping into the plan; what it was: "image" (the local root), "local" or "volume"."""
    source, source_id = _source(item)
    target = item.get("destination_type") or ("local" if source in ("image", "blank") else "volume")
    index = _boot_index(item)
    if target == "local":
        if source == "image":
            if boot_image is None or source_id != boot_image.id or index != 0:
                raise invalid("Mapping image to local is not supported.")
            return "image"
        if source != "blank":
            raise invalid(f"Mapping {source} to local is not supported.")
        found.locals.append(_local(item))
        return "local"
    found.volumes.append(_volume(ctx, item, source, source_id, index))
    return "volume"


def _source(item: dict[str, Any]) -> tuple[Source, str]:
    """(kind, id), from source_type and uuid or from one of the older keys; raises BadRequest."""
    named: tuple[Source, ...] = ("volume", "snapshot", "image")
    for key in named:
        if item.get(f"{key}_id"):
            return key, str(item[f"{key}_id"])
    source: Source = item.get("source_type") or "blank"
    source_id = str(item.get("uuid") or "")
    if source != "blank" and not source_id:
        raise BadRequest(f"Block Device Mapping is Invalid: Missing device UUID for source_type {source}.")
    if source == "blank" and item.get("uuid"):
        raise BadRequest("Block Device Mapping is Invalid: Invalid device UUID.")
    return source, source_id


def _boot_index(item: dict[str, Any]) -> int | None:
    index = item.get("boot_index")
    return None if index is None or int(index) < 0 else int(index)


def _size(item: dict[str, Any]) -> int | None:
    given = item.get("volume_size")
    if given in (None, ""):
        return None
    if int(given) < 0 or int(given) > 0x7FFFFFFF:
        raise invalid(f"volume_size {given} is out of range.")
    return int(given) or None


def _local(item: dict[str, Any]) -> LocalWish:
    swap = item.get("guest_format") == "swap"
    return LocalWish(
        kind="swap" if swap else "ephemeral", size_gib=_size(item) or 0, bus=item.get("disk_bus") or "",
        tag=item.get("tag") or "",
    )  # fmt: skip


def _volume(ctx: Context, item: dict[str, Any], source: Source, source_id: str, index: int | None) -> VolumeWish:
    size = _size(item)
    if source == "image" and size is None:
        raise invalid("Images with destination_type 'volume' need to have a non-zero size specified")
    if source == "blank" and size is None:
        raise invalid("Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size")
    if source == "volume":
        _check_volume(ctx, source_id, boots=index == 0)
    elif source == "snapshot":
        found_or_invalid(lambda: volume.get_snapshot(ctx, source_id), f"failed to get snapshot {source_id}.")
    elif source == "image":
        found_or_invalid(lambda: image.get_image(ctx, source_id), f"failed to get image {source_id}.")
    return VolumeWish(
        source=source, id=source_id, size_gib=size, boot_index=index, device=item.get("device_name") or "",
        delete_on_termination=truth(item.get("delete_on_termination", False)), bus=item.get("disk_bus") or "",
        device_type=item.get("device_type") or "disk", tag=item.get("tag"), volume_type=item.get("volume_type"),
    )  # fmt: skip


def found_or_invalid(get: Any, why: str) -> Any:
    """What `get` finds; raises BadRequest when it is not there."""
    try:
        return get()
    except (NotFound, Forbidden):
        raise invalid(why) from None


def _check_volume(ctx: Context, volume_id: str, *, boots: bool) -> None:
    found = found_or_invalid(lambda: volume.get_volume(ctx, volume_id), f"failed to get volume {volume_id}.")
    if found.multiattach and ctx.version < (2, 60):
        raise BadRequest("Multiattach volumes are only supported starting with compute API version 2.60.")
    if boots and not found.bootable:
        raise BadRequest(f"Block Device {volume_id} is not bootable.")


def _check_boot_order(found: Plan) -> None:
    """Boot indexes are 0, 1, 2 … and the first is the root; raises BadRequest."""
    given = sorted(wish.boot_index for wish in found.volumes if wish.boot_index is not None)
    first = 1 if found.local_root else 0
    if given != list(range(first, first + len(given))) or (not given and not found.local_root):
        raise invalid(_BOOT_SEQUENCE)


def _check_sizes(found: Plan, size: Size) -> None:
    swaps = [wish.size_gib for wish in found.locals if wish.kind == "swap"]
    if len(swaps) > 1:
        raise invalid("More than one swap drive requested.")
    if swaps and swaps[0] * 1024 > size.swap_mib:
        raise invalid("Swap drive requested is larger than instance type allows.")
    ephemeral = sum(wish.size_gib for wish in found.locals if wish.kind == "ephemeral")
    if ephemeral > size.ephemeral_gib:
        raise invalid("Ephemeral disks requested are larger than the instance type allows.")
    names = [wish.device for wish in found.volumes if wish.device]
    if len(set(names)) != len(names):
        raise invalid("Two devices have the same name.")


def next_device(used: set[str], bus: str = "") -> str:
    """The next free device name on a bus: /dev/vda, /dev/vdb …"""
    prefix = _PREFIX.get(bus, "vd")
    letters = "abcdefghijklmnopqrstuvwxyz"
    for name in [*letters, *(a + b for a in letters for b in letters)]:
        if f"/dev/{prefix}{name}" not in used:
            return f"/dev/{prefix}{name}"
    raise Forbidden("The maximum number of disk devices of a server is reached.")


def make_volume(ctx: Context, wish: VolumeWish, zone: str | None = None) -> str:
    """The id of the volume that a wish means, made now unless it exists; raises BadRequest or Forbidden."""
    if wish.source == "volume":
        return wish.id
    origin = {} if wish.source == "blank" else {f"{wish.source}_id": wish.id}
    try:
        made = volume.create_volume(ctx, size=wish.size_gib, volume_type=wish.volume_type, zone=zone, **origin)
    except (OverQuota, TooLarge) as error:
        raise Forbidden(f"Volume quota exceeded: {error.message}") from None
    except Problem as error:
        raise invalid(error.message) if error.status in (400, 404, 409) else error from None
    return made.id
