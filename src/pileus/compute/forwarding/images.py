"""Images as compute shows them (until 2.35; their metadata until 2.38).

Source: Compute API reference, "Images (deprecated)"; microversions 2.36 and 2.39.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pileus.compute.quota import COMPUTE_QUOTA
from pileus.compute.service import COMPUTE, links, page_limit
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden, NotFound
from pileus.core.op import Reply, collection
from pileus.core.paging import Query
from pileus.core.schema import METADATA, Schema
from pileus.http.inside import Inside
from pileus.image import facade as image

LAST, LAST_METADATA = "2.35", "2.38"
_RULE, _WRITE = "project_reader_or_admin", "project_member_or_admin"  # images' own rules decide the rest
_STATUS = {"queued": "SAVING", "saving": "SAVING", "importing": "SAVING", "uploading": "SAVING", "active": "ACTIVE",
           "deleted": "DELETED", "pending_delete": "DELETED", "killed": "ERROR"}  # fmt: skip
_PROGRESS = {"queued": 25, "saving": 50, "active": 100}
_OWN = frozenset({
    "id", "name", "status", "visibility", "protected", "tags", "size", "virtual_size", "min_disk", "min_ram", "owner",
    "disk_format", "container_format", "checksum", "os_hash_algo", "os_hash_value", "os_hidden", "created_at",
    "updated_at", "self", "file", "schema", "stores", "direct_url", "locations",
})  # fmt: skip
_PATCH = "application/openstack-images-v2.1-json-patch"
Image = Mapping[str, Any]


def images(ctx: Context) -> Inside:
    """The image API for this caller."""
    return Inside(ctx, COMPUTE, image.SERVICE)


def load(ctx: Context, image_id: str, **_path: str) -> Image:
    """An image as its own API shows it; raises NotFound."""
    found: Image = images(ctx)("GET", f"/images/{image_id}")
    return {**found, "project_id": ctx.caller.project_id}  # who sees it may ask: images' own rules decide the rest


def _metadata(found: Image) -> dict[str, str]:
    return {name: value for name, value in found.items() if name not in _OWN and name != "project_id"}


def _links(ctx: Context, found: Image) -> list[dict[str, str]]:
    href = f"{ctx.url.removesuffix(COMPUTE.root)}{image.SERVICE.root}/images/{found['id']}"
    return [
        *links(ctx, f"images/{found['id']}"),
        {"rel": "alternate", "type": "application/vnd.openstack.image", "href": href},
    ]


def brief(ctx: Context, found: Image) -> dict[str, Any]:
    """Id, name and links."""
    return {"id": found["id"], "name": found["name"], "links": _links(ctx, found)}


def whole(ctx: Context, found: Image) -> dict[str, Any]:
    """An image with its details."""
    shown = {
        **brief(ctx, found), "status": _STATUS.get(found["status"], "UNKNOWN"), "minDisk": found["min_disk"],
        "progress": _PROGRESS.get(found["status"], 0), "minRam": found["min_ram"], "created": found["created_at"],
        "updated": found["updated_at"], "metadata": _metadata(found), "OS-EXT-IMG-SIZE:size": found["size"],
    }  # fmt: skip
    if "auto_disk_config" in found:
        shown["OS-DCF:diskConfig"] = "AUTO" if found["auto_disk_config"].lower() == "true" else "MANUAL"
    if server_id := found.get("instance_uuid"):
        shown["server"] = {"id": server_id, "links": links(ctx, f"servers/{server_id}")}
    return shown


def _query(query: Query) -> dict[str, Any]:
    """The parameters in the image API's words."""
    asked: dict[str, Any] = {"limit": page_limit(query), "marker": query.one("marker"), "name": query.one("name")}
    asked |= {"min_ram": query.one("minRam"), "min_disk": query.one("minDisk"), "image_type": query.one("type")}
    if status := query.one("status"):
        asked["status"] = "in:" + ",".join(own for own, shown in _STATUS.items() if shown == status.upper())
    if since := query.one("changes-since"):
        asked["updated_at"] = f"gte:{since}"
    if server := query.one("server"):
        asked["instance_uuid"] = server.rstrip("/").rpartition("/")[2]
    asked |= {n.removeprefix("property-"): query.one(n) for n in query.values if n.startswith("property-")}
    return asked


def _list(ctx: Context, query: Query, path: str) -> tuple[list[Image], dict[str, Any]]:
    """One page, and the link to the next."""
    answer = images(ctx)("GET", "/images", query=_query(query))
    found = answer["images"]
    if "next" not in answer or not found:
        return found, {}
    kept = [(name, value) for name, values in query.values.items() if name != "marker" for value in values]
    href = f"{ctx.url}/v2.1/{path}?{urlencode([*kept, ('marker', found[-1]['id'])])}"
    return found, {"images_links": [{"rel": "next", "href": href}]}


@COMPUTE.op("GET", "/images", rule=_RULE, load=collection, until=LAST)
def list_images(ctx: Context, query: Query) -> dict[str, Any]:
    """List images."""
    found, beside = _list(ctx, query, "images")
    return {"images": [brief(ctx, one) for one in found], **beside}


@COMPUTE.op("GET", "/images/detail", rule=_RULE, load=collection, until=LAST)
def list_images_with_details(ctx: Context, query: Query) -> dict[str, Any]:
    """List images with details."""
    found, beside = _list(ctx, query, "images/detail")
    return {"images": [whole(ctx, one) for one in found], **beside}


@COMPUTE.op("GET", "/images/{image_id}", rule=_RULE, load=load, until=LAST)
def show_image(ctx: Context, found: Image) -> dict[str, Any]:
    """Show image details."""
    return {"image": whole(ctx, found)}


@COMPUTE.op("DELETE", "/images/{image_id}", rule=_WRITE, load=load, until=LAST, ok=204)
def delete_image(ctx: Context, image_id: str) -> None:
    """Delete an image."""
    images(ctx)("DELETE", f"/images/{image_id}")


_ITEMS: Schema = {"type": "object", "properties": {"metadata": METADATA}, "required": ["metadata"],
                  "additionalProperties": False}  # fmt: skip
_ITEM: Schema = {"type": "object", "properties": {"meta": {**METADATA, "minProperties": 1, "maxProperties": 1}},
                 "required": ["meta"], "additionalProperties": False}  # fmt: skip


def _change(ctx: Context, found: Image, wanted: Mapping[str, str]) -> dict[str, str]:
    """Make these the metadata of an image."""
    limit = COMPUTE_QUOTA.limits(ctx.tx, ctx.project_id)["metadata_items"]
    if 0 <= limit < len(wanted):
        raise Forbidden(f"Image metadata limit exceeded: at most {limit} items are allowed.")
    reserved = sorted(_OWN & set(wanted))
    if reserved:
        raise BadRequest(f"Invalid input for field/attribute metadata. {reserved[0]} is an attribute of every image.")
    there = _metadata(found)
    changes = [{"op": "remove", "path": f"/{name}"} for name in there if name not in wanted]
    changes += [
        {"op": "replace" if name in there else "add", "path": f"/{name}", "value": value}
        for name, value in wanted.items()
        if there.get(name) != value
    ]
    if changes:
        images(ctx)("PATCH", f"/images/{found['id']}", changes, content_type=_PATCH)
    return dict(wanted)


@COMPUTE.op("GET", "/images/{image_id}/metadata", rule=_RULE, load=load, until=LAST_METADATA)
def list_metadata(found: Image) -> Reply:
    """List image metadata."""
    return Reply({"metadata": _metadata(found)})


@COMPUTE.op("POST", "/images/{image_id}/metadata", rule=_WRITE, load=load, takes=_ITEMS, until=LAST_METADATA)
def add_metadata(ctx: Context, found: Image, body: dict[str, Any]) -> Reply:
    """Create or update image metadata items."""
    return Reply({"metadata": _change(ctx, found, {**_metadata(found), **body["metadata"]})})


@COMPUTE.op("PUT", "/images/{image_id}/metadata", rule=_WRITE, load=load, takes=_ITEMS, until=LAST_METADATA)
def replace_metadata(ctx: Context, found: Image, body: dict[str, Any]) -> Reply:
    """Replace image metadata."""
    return Reply({"metadata": _change(ctx, found, body["metadata"])})


def _held(found: Image, key: str) -> str:
    if key not in _metadata(found):
        raise NotFound("Metadata item was not found")
    return str(found[key])


@COMPUTE.op("GET", "/images/{image_id}/metadata/{key}", rule=_RULE, load=load, until=LAST_METADATA)
def show_metadata(found: Image, key: str) -> Reply:
    """Show one item."""
    return Reply({"meta": {key: _held(found, key)}})


@COMPUTE.op("PUT", "/images/{image_id}/metadata/{key}", rule=_WRITE, load=load, takes=_ITEM, until=LAST_METADATA)
def set_metadata(ctx: Context, found: Image, key: str, body: dict[str, Any]) -> Reply:
    """Create or update one item."""
    if key not in body["meta"]:
        raise BadRequest("Request body and URI mismatch")
    _change(ctx, found, {**_metadata(found), **body["meta"]})
    return Reply({"meta": body["meta"]})


@COMPUTE.op("DELETE", "/images/{image_id}/metadata/{key}", rule=_WRITE, load=load, ok=204, until=LAST_METADATA)
def delete_metadata(ctx: Context, found: Image, key: str) -> None:
    """Delete one item."""
    _held(found, key)
    _change(ctx, found, {name: value for name, value in _metadata(found).items() if name != key})
