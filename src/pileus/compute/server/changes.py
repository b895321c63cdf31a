"""Actions that change what a server is made of: rebuild, resize, rescue, shelve.

Source: Compute API reference, "Servers - run an action (servers, action)".
"""

from typing import Any

from pileus.compute.keypair import find_keypair
from pileus.compute.quota import COMPUTE_QUOTA
from pileus.compute.server.access import STEADY, require, retry, wish
from pileus.compute.server.actions import action
from pileus.compute.server.create import (
    address,
    check_metadata,
    fits_flavor,
    flavor_of,
    known_zones,
    size_of,
    usable_image,
)
from pileus.compute.server.fields import SERVER_REBUILT, present
from pileus.compute.server.images import start_image
from pileus.compute.server.passwords import forget_password, keep_password, new_password
from pileus.compute.server.rows import MIGRATIONS, Migration, Rescue, Server, Size, open_migration, volumes_of
from pileus.compute.server.schemas import DISK_CONFIG, REBUILD, REFERENCE
from pileus.compute.service import ADMIN, COMPUTE
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden, OverQuota
from pileus.core.ids import new_id
from pileus.core.nodes import NODES
from pileus.core.op import Reply
from pileus.core.schema import NAME, Schema
from pileus.volume import facade as volume

_SERVERS = "os_compute_api:servers"
UNSHELVE_TO_HOST = COMPUTE.rule("os_compute_api:os-shelve:unshelve_to_host", ADMIN)
_RENAMED = {"name": "name", "description": "description", "hostname": "hostname", "accessIPv4": "access_ip_v4",
            "accessIPv6": "access_ip_v6", "OS-DCF:diskConfig": "disk_config", "metadata": "metadata",
            "user_data": "user_data"}  # fmt: skip


@action("rebuild", f"{_SERVERS}:rebuild", takes=REBUILD, until="2.92")
def rebuild_old(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Rebuild; the root volume of a volume-backed server keeps its bytes."""
    return _rebuild(ctx, server, body, reimage=False)


@action("rebuild", f"{_SERVERS}:rebuild", takes=REBUILD, since="2.93")
def rebuild(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Rebuild from an image, whatever the root disk is."""
    return _rebuild(ctx, server, body, reimage=True)


def _rebuild(ctx: Context, server: Server, body: dict[str, Any], *, reimage: bool) -> Reply:
    require(ctx, server, "rebuild", ("active", "stopped", "error"))
    if body.get("trusted_image_certificates"):
        raise BadRequest("trusted_image_certificates: this cloud does not verify image signatures.")
    try:
        image = usable_image(ctx, body["imageRef"])
    except BadRequest as error:
        missing = error.message == "Can not find requested image"
        raise (BadRequest("Cannot find image for rebuild") if missing else error) from None
    changes = {column: body[name] for name, column in _RENAMED.items() if name in body}
    changes |= {column: address(changes[column]) for column in ("access_ip_v4", "access_ip_v6") if column in changes}
    check_metadata(ctx, changes.get("metadata") or {})
    if "key_name" in body:
        changes |= _rekeyed(ctx, body["key_name"])
    if "personality" in body:
        changes["files"] = [(f["path"], f["contents"]) for f in body["personality"]]
    if server.image_id is not None:
        fits_flavor(ctx, image, server.flavor)
        changes |= {"image_id": image.id, "image_properties": dict(image.properties)}
    elif reimage:
        changes["rebuild_image"] = image.id
    elif image.id != _root_image(ctx, server):
        raise BadRequest("Unable to rebuild with a different image for a volume-backed server.")
    counted = {"rebuilds": server.rebuilds + 1} if server.image_id is not None or reimage else {}
    password = body.get("adminPass") or new_password()
    keep_password(ctx, server, "create", password)
    wish(ctx, server, "rebuild", starts=server.starts + 1, **changes, **counted, **retry(server))
    shown = SERVER_REBUILT.render(present(ctx, [server])[0], ctx)
    shown["adminPass"] = password
    return Reply({"server": shown}, headers={"location": f"{ctx.url}/v2.1/servers/{server.id}"})


def _root_image(ctx: Context, server: Server) -> str | None:
    """The image that the root volume was made from, as far as it says so."""
    root = next((row for row in volumes_of(ctx.tx, [server.id]) if row.boot_index == 0), None)
    found = volume.find_volume(ctx.tx, root.volume_id) if root else None
    return found.image_metadata.get("image_id") if found else None


def _rekeyed(ctx: Context, name: str | None) -> dict[str, Any]:
    if name is None:
        return {"key_name": None, "public_key": None}
    found = find_keypair(ctx.tx, ctx.user_id, name)
    if found is None:
        raise BadRequest("Invalid key_name provided.")
    return {"key_name": name, "public_key": found.public_key, "key_type": found.type}


@action("resize", f"{_SERVERS}:resize", inner={
    "type": "object", "properties": {"flavorRef": REFERENCE, "OS-DCF:diskConfig": DISK_CONFIG},
    "required": ["flavorRef"], "additionalProperties": False,
})  # fmt: skip
def resize(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    """Give a server another flavor; it waits to be confirmed or reverted."""
    require(ctx, server, "resize", ("active", "stopped"))
    new, old = size_of(flavor_of(ctx, body["flavorRef"])), server.flavor
    if new.id == old.id:
        raise BadRequest("When resizing, instances must change flavor!")
    if server.image_id is not None and new.disk_gib < old.disk_gib:
        raise BadRequest("Unable to resize disk down.")
    try:
        COMPUTE_QUOTA.take(ctx.tx, server.project_id, cores=new.vcpus - old.vcpus, ram=new.ram_mib - old.ram_mib)
    except OverQuota as error:
        raise Forbidden(error.message) from None
    add_migration(ctx, server, new)
    disk_config = body.get("OS-DCF:diskConfig")
    wish(ctx, server, "resize", **({"disk_config": disk_config} if disk_config else {}))
    return Reply()


def add_migration(ctx: Context, server: Server, size: Size) -> Migration:
    """Write down that the server shall have another size."""
    ctx.tx.lock("server_migrations")
    row = ctx.tx.one("select max(number) from server_migrations")
    return MIGRATIONS.insert(
        ctx.tx,
        Migration(
            id=new_id(), number=int((row and row[0]) or 0) + 1, server_id=server.id, project_id=server.project_id,
            user_id=ctx.user_id, old_flavor=server.flavor, new_flavor=size, created_at=ctx.now,
            source_node=server.node_id, source_name=server.node_name,
        ),
    )  # fmt: skip


def _decide(ctx: Context, server: Server, verb: str, decision: str) -> Reply:
    require(ctx, server, verb, ("resized",))
    migration = open_migration(ctx.tx, server.id)
    if migration is None:
        raise BadRequest("Instance has not been resized.")
    MIGRATIONS.update(ctx.tx, {"wish": decision}, id=migration.id)
    wish(ctx, server, verb)
    return Reply()


@action("confirmResize", f"{_SERVERS}:confirm_resize", ok=204)
def confirm_resize(ctx: Context, server: Server) -> Reply:
    """Keep the new size."""
    return _decide(ctx, server, "confirmResize", "confirm")


@action("revertResize", f"{_SERVERS}:revert_resize")
def revert_resize(ctx: Context, server: Server) -> Reply:
    """Go back to the old size."""
    return _decide(ctx, server, "revertResize", "revert")


@action("rescue", "os_compute_api:os-rescue", inner={
    "type": ["object", "null"],
    "properties": {"adminPass": {"type": "string", "maxLength": 255},
                   "rescue_image_ref": {"type": "string", "format": "uuid"}},
    "additionalProperties": False,
}, ok=200, until="2.86")  # fmt: skip
def rescue_local(ctx: Context, server: Server, body: dict[str, Any] | None) -> Reply:
    """Run a server from another image so that its own disk can be repaired."""
    if server.image_id is None:
        raise BadRequest(
            f"Instance {server.id} cannot be rescued: Cannot rescue a volume-backed instance before microversion 2.87"
        )
    return _rescue(ctx, server, body or {})


@action("rescue", "os_compute_api:os-rescue", inner={
    "type": ["object", "null"],
    "properties": {"adminPass": {"type": "string", "maxLength": 255},
                   "rescue_image_ref": {"type": "string", "format": "uuid"}},
    "additionalProperties": False,
}, ok=200, since="2.87")  # fmt: skip
def rescue(ctx: Context, server: Server, body: dict[str, Any] | None) -> Reply:
    """As before 2.87, and for volume-backed servers when the image says how its disk is attached."""
    return _rescue(ctx, server, body or {})


def _rescue(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    require(ctx, server, "rescue", ("active", "stopped", "error"))
    image_id = body.get("rescue_image_ref") or server.image_id
    if image_id is None:
        raise BadRequest(f"Instance {server.id} cannot be rescued: name a rescue_image_ref.")
    image = usable_image(ctx, image_id)
    bus, device = image.properties.get("hw_rescue_bus", ""), image.properties.get("hw_rescue_device", "")
    if server.image_id is None and not (bus or device):
        raise BadRequest(
            f"Instance {server.id} cannot be rescued: image {image.id} needs the property hw_rescue_device or "
            "hw_rescue_bus to rescue a volume-backed server."
        )
    chosen = Rescue(image_id=image.id, bus=bus, device=device or "disk")
    password = body.get("adminPass") or new_password()
    keep_password(ctx, server, "rescue", password)
    wish(ctx, server, "rescue", rescue=chosen, starts=server.starts + 1, **retry(server))
    return Reply({"adminPass": password})


@action("unrescue", "os_compute_api:os-unrescue")
def unrescue(ctx: Context, server: Server) -> Reply:
    """Run it from its own disk again."""
    require(ctx, server, "unrescue", ("rescued",))
    forget_password(ctx.tx, server.id, "rescue")
    wish(ctx, server, "unrescue", rescue=None, power="on", starts=server.starts + 1)
    return Reply()


@action("shelve", "os_compute_api:os-shelve:shelve")
def shelve(ctx: Context, server: Server) -> Reply:
    """Keep a server as an image (or by its volumes) and free its node."""
    require(ctx, server, "shelve", STEADY)
    image_id = None
    if server.image_id is not None:
        image_id = start_image(ctx, server, f"{server.name}-shelved", {}, kind="shelve").id
    wish(ctx, server, "shelve", shelved="offloaded", shelve_image=image_id)
    return Reply()


@action("shelveOffload", "os_compute_api:os-shelve:shelve_offload", allow=ADMIN)
def shelve_offload(ctx: Context, server: Server) -> Reply:
    """Free the node of a shelved server: here that follows by itself."""
    require(ctx, server, "shelveOffload", ("shelved",), tasks=(None, "shelving_offloading"))
    wish(ctx, server, "shelveOffload", shelved="offloaded")
    return Reply()


_UNSHELVE_OLD: Schema = {}
_UNSHELVE_ZONE: Schema = {
    "oneOf": [
        {"type": "object", "properties": {"availability_zone": NAME}, "required": ["availability_zone"],
         "additionalProperties": False},
        {"type": "null"},
    ]
}  # fmt: skip
_UNSHELVE_HOST: Schema = {
    "oneOf": [
        {"type": "object",
         "properties": {"availability_zone": {"oneOf": [NAME, {"type": "null"}]}, "host": NAME},
         "additionalProperties": False, "minProperties": 1},
        {"type": "null"},
    ]
}  # fmt: skip


@action("unshelve", "os_compute_api:os-shelve:unshelve", inner=_UNSHELVE_OLD, until="2.76")
def unshelve_old(ctx: Context, server: Server) -> Reply:
    """Bring a shelved server back."""
    return _unshelve(ctx, server, {})


@action("unshelve", "os_compute_api:os-shelve:unshelve", inner=_UNSHELVE_ZONE, since="2.77", until="2.90")
def unshelve_to_zone(ctx: Context, server: Server, body: dict[str, Any] | None) -> Reply:
    """Bring a shelved server back, into a zone."""
    return _unshelve(ctx, server, body or {})


@action("unshelve", "os_compute_api:os-shelve:unshelve", inner=_UNSHELVE_HOST, since="2.91")
def unshelve(ctx: Context, server: Server, body: dict[str, Any] | None) -> Reply:
    """Bring a shelved server back, into a zone (null: any) or onto a host."""
    return _unshelve(ctx, server, body or {})


def _unshelve(ctx: Context, server: Server, body: dict[str, Any]) -> Reply:
    require(ctx, server, "unshelve", ("shelved", "shelved_offloaded"))
    changes: dict[str, Any] = {"host": None}
    if "availability_zone" in body:
        if server.shelved_seen != "offloaded":
            raise Conflicted(f"Cannot 'unshelve' instance {server.id} into a zone while it is not offloaded.")
        zone = body["availability_zone"]
        if zone is not None and zone not in known_zones(ctx):
            raise BadRequest("The requested availability zone is not available")
        changes["zone"] = zone
    if "host" in body:
        ctx.enforce(UNSHELVE_TO_HOST, server)
        if NODES.get(ctx.tx, name=body["host"]) is None:
            raise BadRequest(f"Compute host {body['host'][:80]} could not be found.")
        changes["host"] = body["host"]
    wish(ctx, server, "unshelve", shelved="", power="on", starts=server.starts + 1, **changes)
    return Reply()
