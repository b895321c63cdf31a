"""Making servers: everything is checked, then rows, ports, volumes and the place in quotas come in one transaction.

Source: Compute API reference, "Create server".
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from pileus.compute.flavor import Flavor, get_flavor
from pileus.compute.host import hosts
from pileus.compute.keypair import find_keypair
from pileus.compute.quota import COMPUTE_QUOTA
from pileus.compute.server.access import load_server
from pileus.compute.server.devices import Plan, VolumeWish, make_volume, next_device, plan
from pileus.compute.server.plugs import Plug, groups_of, plug_in, plugs
from pileus.compute.server.rows import SERVERS, TAGS, VOLUMES, Server, ServerVolume, Size, Tag
from pileus.compute.server_group import join_group
from pileus.compute.service import ADMIN, COMPUTE
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden, NotFound, OverQuota
from pileus.core.events import record_request
from pileus.core.ids import new_hex, new_id
from pileus.core.nodes import NODES
from pileus.core.reconcile import poke
from pileus.core.schema import truth
from pileus.image import facade as image
from pileus.image.facade import ImageView
from pileus.volume import facade as volume

_RULE = "os_compute_api:servers:create"
FORCED_HOST = COMPUTE.rule(f"{_RULE}:forced_host", ADMIN)
DESTINATION = COMPUTE.rule("compute:servers:create:requested_destination", ADMIN)
ZERO_DISK = COMPUTE.rule(f"{_RULE}:zero_disk_flavor", ADMIN)
ATTACH_NETWORK = COMPUTE.rule(f"{_RULE}:attach_network", "rule:project_member_or_admin")
ATTACH_VOLUME = COMPUTE.rule(f"{_RULE}:attach_volume", "rule:project_member_or_admin")
GIB = 1 << 30


class Where(Struct, frozen=True, kw_only=True):
    """Where the request wants the server."""

    zone: str | None
    host: str | None


class Order(Struct, frozen=True, kw_only=True):
    """A checked request."""

    size: Size
    image: ImageView | None
    disks: Plan
    plugs: list[Plug]
    groups: list[str] | None
    where: Where
    key_name: str | None
    public_key: str | None
    key_type: str
    hints: dict[str, Any]
    count: int


def size_of(flavor: Flavor) -> Size:
    """What a server keeps of its flavor."""
    return Size(
        id=flavor.id, name=flavor.name, vcpus=flavor.vcpus, ram_mib=flavor.ram_mib, disk_gib=flavor.disk_gib,
        ephemeral_gib=flavor.ephemeral_gib, swap_mib=flavor.swap_mib, extra_specs=dict(flavor.extra_specs),
    )  # fmt: skip


def order(ctx: Context, body: dict[str, Any], hints: dict[str, Any]) -> Order:
    """Check a create request; raises BadRequest, Forbidden or Conflicted."""
    least, most = _counts(body)
    check_metadata(ctx, body.get("metadata") or {})
    size = size_of(flavor_of(ctx, body["flavorRef"]))
    boot_image = boot_image_of(
        ctx, body.get("imageRef"), named=bool(body.get("block_device_mapping_v2") or body.get("block_device_mapping"))
    )
    target = {"project_id": ctx.project_id, "user_id": ctx.user_id}
    if body.get("networks"):
        ctx.enforce(ATTACH_NETWORK, target)
    if body.get("block_device_mapping") or body.get("block_device_mapping_v2"):
        ctx.enforce(ATTACH_VOLUME, target)
    disks = plan(ctx, body, size, boot_image)
    if disks.local_root and boot_image is not None:
        fits_flavor(ctx, boot_image, size)
    if most > 1 and any(wish.source == "volume" for wish in disks.volumes):
        raise BadRequest("Block Device Mapping is Invalid: one volume cannot be attached to several new instances.")
    groups = body.get("security_groups")
    key = _key(ctx, body.get("key_name"))
    return Order(
        size=size,
        image=boot_image if disks.local_root else None,
        disks=disks,
        plugs=plugs(ctx, body.get("networks"), count=most),
        groups=None if groups is None else groups_of(ctx, [group["name"] for group in groups if group.get("name")]),
        where=_where(ctx, body, target),
        key_name=body.get("key_name"),
        public_key=key.public_key if key else None,
        key_type=key.type if key else "ssh",
        hints=_hints(ctx, hints),
        count=_affordable(ctx, size, least, most),
    )  # fmt: skip


def _counts(body: dict[str, Any]) -> tuple[int, int]:
    least = int(body.get("min_count") or 1)
    most = int(body.get("max_count") or least)
    if least > most:
        raise BadRequest("min_count must be <= max_count")
    if most > 1 and body.get("hostname"):
        raise BadRequest("Unable to allocate a single hostname to multiple instances")
    return least, most


def flavor_of(ctx: Context, reference: Any) -> Flavor:
    """A flavor by id or URL; raises BadRequest."""
    flavor_id = str(reference).rstrip("/").rpartition("/")[2]
    try:
        return get_flavor(ctx, flavor_id)
    except NotFound:
        raise BadRequest(f"Flavor {flavor_id[:80]} could not be found.") from None


def boot_image_of(ctx: Context, image_id: str | None, *, named: bool) -> ImageView | None:
    """The image to boot from; None when the block device mapping says all.  Raises BadRequest."""
    if not image_id:
        if named:
            return None
        raise BadRequest("Missing imageRef attribute")
    return usable_image(ctx, image_id)


def usable_image(ctx: Context, image_id: str) -> ImageView:
    """An active image; raises BadRequest."""
    try:
        found = image.get_image(ctx, image_id)
    except (NotFound, Forbidden):
        raise BadRequest("Can not find requested image") from None
    if found.status != "active":
        raise BadRequest(f"Image {found.id} is not active.")
    return found


def fits_flavor(ctx: Context, found: ImageView, size: Size) -> None:
    """Raise BadRequest for a flavor that is too small for an image, Forbidden for one without a disk."""
    if found.min_ram > size.ram_mib:
        raise BadRequest("Flavor's memory is too small for requested image.")
    if size.disk_gib == 0:
        if not ctx.allows(ZERO_DISK, {"project_id": ctx.project_id}):
            raise Forbidden("Only volume-backed servers are allowed for flavors with zero disk.")
        return
    least = max(found.min_disk * GIB, found.virtual_size, found.size)
    if least > size.disk_gib * GIB:
        raise BadRequest(
            "Flavor's disk is too small for requested image. "
            f"Flavor disk is {size.disk_gib * GIB} bytes, image is {least} bytes."
        )


def _key(ctx: Context, name: str | None) -> Any:
    if not name:
        return None
    found = find_keypair(ctx.tx, ctx.user_id, name)
    if found is None:
        raise BadRequest("Invalid key_name provided.")
    return found


def _where(ctx: Context, body: dict[str, Any], target: dict[str, Any]) -> Where:
    """Zone and host, from availability_zone (also ZONE:HOST:NODE for administrators), host and hypervisor_hostname."""
    zone, _, rest = (body.get("availability_zone") or "").partition(":")
    host, _, node = rest.partition(":")
    forced = host or node
    asked = body.get("host") or body.get("hypervisor_hostname")
    if forced:
        ctx.enforce(FORCED_HOST, target)
    if asked:
        ctx.enforce(DESTINATION, target)
        if forced:
            raise BadRequest(
                "One mechanism with host and/or hypervisor_hostname and another mechanism with zone:host:node are "
                "mutually exclusive."
            )
    chosen = forced or asked or None
    if chosen and NODES.get(ctx.tx, name=chosen) is None:
        raise BadRequest(f"Compute host {chosen[:80]} could not be found.")
    if body.get("host") and body.get("hypervisor_hostname") and body["host"] != body["hypervisor_hostname"]:
        raise BadRequest(f"Compute host {body['hypervisor_hostname'][:80]} could not be found.")
    if zone and zone not in known_zones(ctx):
        raise BadRequest("The requested availability zone is not available")
    return Where(zone=zone or None, host=chosen)


def known_zones(ctx: Context) -> set[str]:
    """Availability zones of all hosts."""
    return {host.zone for host in hosts(ctx.tx, ctx.now)}


def _hints(ctx: Context, hints: dict[str, Any]) -> dict[str, Any]:
    """Scheduler hints in the one form in which they are kept; named servers must be the caller's to see."""
    found = {name: value for name, value in hints.items() if value not in (None, [], "")}
    if isinstance(found.get("group"), list):
        found["group"] = found["group"][0]
    for hint in ("same_host", "different_host"):
        for server_id in [found[hint]] if isinstance(found.get(hint), str) else found.get(hint) or []:
            try:
                load_server(ctx, server_id)
            except NotFound as error:
                raise BadRequest(error.message) from None
    return found


def _affordable(ctx: Context, size: Size, least: int, most: int) -> int:
    """How many the project may have, between the two; raises Forbidden."""
    limits, used = COMPUTE_QUOTA.limits(ctx.tx, ctx.project_id), COMPUTE_QUOTA.usage(ctx.tx, ctx.project_id)
    count = most
    for name, each in (("instances", 1), ("cores", size.vcpus), ("ram", size.ram_mib)):
        if limits[name] >= 0 and each:
            count = min(count, (limits[name] - used[name]) // each)
    count = max(count, least)
    try:
        COMPUTE_QUOTA.take(ctx.tx, ctx.project_id, instances=count, cores=count * size.vcpus, ram=count * size.ram_mib)
    except OverQuota as error:
        raise Forbidden(error.message) from None
    return count


def address(text: str | None) -> str:
    """An address in its canonical form (RFC 5952), "" for none."""
    return str(ipaddress.ip_address(text)) if text else ""


def check_metadata(ctx: Context, items: Mapping[str, str]) -> None:
    """Raise Forbidden for more items than one server of the project may have."""
    limit = COMPUTE_QUOTA.limits(ctx.tx, ctx.caller.project_id or "").get("metadata_items", -1)
    if 0 <= limit < len(items):
        raise Forbidden(f"Quota exceeded for metadata_items: Maximum number of metadata items exceeds {limit}")


def hostname_of(name: str, server_id: str) -> str:
    """A host name made of a server's name, as upstream makes it."""
    text = re.sub(r"[ _.]", "-", name.encode("ascii", "ignore").decode().lower())
    text = re.sub(r"[^a-z0-9-]", "", text)[:63].strip("-")
    return text or f"server-{server_id}"


def make_servers(ctx: Context, body: dict[str, Any], wanted: Order) -> list[Server]:
    """Write everything down, and have the servers looked at."""
    reservation = "r-" + new_hex()[:8]
    return [_make(ctx, body, wanted, reservation, number) for number in range(wanted.count)]


def _make(ctx: Context, body: dict[str, Any], wanted: Order, reservation: str, number: int) -> Server:
    several = wanted.count > 1
    name = f"{body['name'].strip()}-{number + 1}" if several else body["name"].strip()
    server_id, size, chosen = new_id(), wanted.size, wanted.image
    server = Server(
        id=server_id, project_id=ctx.project_id, user_id=ctx.user_id, created_at=ctx.now, changed_at=ctx.now,
        moved_at=ctx.now, reservation_id=reservation, launch_index=number, name=name,
        description=body.get("description"),
        hostname=body.get("hostname") or hostname_of(name, server_id), metadata=dict(body.get("metadata") or {}),
        image_id=chosen.id if chosen else None, root_image=chosen.id if chosen else None,
        image_properties=dict(chosen.properties) if chosen else {}, key_name=wanted.key_name,
        public_key=wanted.public_key, key_type=wanted.key_type, user_data=body.get("user_data") or None,
        files=[(f["path"], f["contents"]) for f in body.get("personality") or []],
        config_drive=truth(body.get("config_drive", False)) or bool(body.get("personality")),
        disk_config=body.get("OS-DCF:diskConfig", "MANUAL"), access_ip_v4=address(body.get("accessIPv4")),
        access_ip_v6=address(body.get("accessIPv6")), zone=wanted.where.zone, host=wanted.where.host,
        hints=wanted.hints, local_disks=wanted.disks.locals, security_groups=wanted.groups or [], flavor=size,
        vcpus=size.vcpus, ram_mib=size.ram_mib, disk_gib=size.disk_gib if chosen else 0,
    )  # fmt: skip
    SERVERS.insert(ctx.tx, server)
    join_group(ctx, server_id, wanted.hints.get("group"))
    for position, plug in enumerate(wanted.plugs):
        plug_in(ctx, server, plug, position, wanted.groups)
    _make_volumes(ctx, server, wanted.disks)
    for tag in dict.fromkeys(body.get("tags") or []):
        TAGS.insert(ctx.tx, Tag(server_id=server_id, tag=tag))
    poke(ctx.tx, "server", server_id, ctx.now)
    record_request(ctx, "server", server_id, "create", name=name, flavor=size.name, image=server.image_id)
    return server


def _make_volumes(ctx: Context, server: Server, disks: Plan) -> None:
    """New volumes are asked for and all are reserved; names of devices are given in boot order."""
    used = {wish.device for wish in disks.volumes if wish.device} | ({"/dev/vda"} if disks.local_root else set())
    order = sorted(disks.volumes, key=lambda wish: 1000 if wish.boot_index is None else wish.boot_index)
    for position, wish in enumerate(order):
        device = _full(wish.device) or next_device(used, wish.bus)
        used.add(device)
        add_volume(ctx, server, wish, position, device)


def _full(device: str) -> str:
    return f"/dev/{device.removeprefix('/dev/')}" if device else ""


def add_volume(ctx: Context, server: Server, wish: VolumeWish, position: int, device: str) -> ServerVolume:
    """Tie a volume to a server; raises BadRequest when it cannot be attached now."""
    volume_id = make_volume(ctx, wish)
    row = ServerVolume(
        id=new_id(), server_id=server.id, volume_id=volume_id, position=position, boot_index=wish.boot_index,
        device=device, tag=wish.tag, bus=wish.bus, device_type=wish.device_type,
        delete_on_termination=wish.delete_on_termination, source=wish.source,
    )  # fmt: skip
    try:
        volume.reserve(ctx, volume_id=volume_id, server_id=server.id, attachment_id=row.id)
    except NotFound as error:
        raise BadRequest(error.message) from None
    return VOLUMES.insert(ctx.tx, row)
