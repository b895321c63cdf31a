"""Operations on images that carry no bulk data.  Source: Image API reference v2, "Images", "Tags"."""

from collections.abc import Mapping
from typing import Any

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden, NotFound, TooLarge
from pileus.core.events import record_request
from pileus.core.ids import new_id
from pileus.core.op import Reply, collection
from pileus.core.paging import Query
from pileus.core.reconcile import poke
from pileus.core.schema import compile_schema
from pileus.db.connect import Conflict
from pileus.image import listing, patch
from pileus.image.access import load_image
from pileus.image.fields import BASE, COLUMNS, CREATE, MOST, STORE, TAG, refuse_reserved, render
from pileus.image.quota import mib, take
from pileus.image.rows import IMAGES, Image, move
from pileus.image.service import IMAGE, OWNER, READER, SEEN

IMPORT_METHODS = ("glance-direct",)
_check_tag = compile_schema(TAG)


def new_image(ctx: Context) -> Mapping[str, Any]:
    """Loader of image creation: an image of the caller's own project."""
    return {**collection(ctx), "owner": ctx.caller.project_id}


@IMAGE.op("GET", "/images", rule="get_images", allow=READER, load=collection)
def list_images(ctx: Context, query: Query) -> dict[str, Any]:
    """List the images that the caller may see, 25 at a time unless asked otherwise."""
    rows, limit = listing.find(ctx, query)
    shown = {"images": [render(row, ctx) for row in rows], "first": listing.first_link(query)}
    following = listing.next_link(query, rows, limit)
    return {**shown, **({"next": following} if following else {}), "schema": "/v2/schemas/images"}


@IMAGE.op("GET", "/images/{image_id}", rule="get_image", allow=SEEN, load=load_image)
def get_image(ctx: Context, image: Image) -> dict[str, Any]:
    """Show an image."""
    return render(image, ctx)


@IMAGE.op(
    "POST",
    "/images",
    rule="add_image",
    allow="role:admin or (role:member and project_id:%(project_id)s and project_id:%(owner)s)",
    load=new_image,
    takes=CREATE,
    ok=201,
)
def create_image(ctx: Context, body: dict[str, Any]) -> Reply:
    """Register an image; its data comes afterwards."""
    for name in body:
        refuse_reserved(name)
    image = _from_body(ctx, body)
    if image.project_id != ctx.caller.project_id:
        ctx.enforce("add_image", {"project_id": image.project_id, "owner": image.project_id})
    _check_visibility(ctx, image, image.visibility)
    take(ctx, image.project_id, image_count_total=1)
    try:
        IMAGES.insert(ctx.tx, image)
    except Conflict:
        raise Conflicted(f"Image ID {image.id} already exists!") from None
    record_request(ctx, "image", image.id, "create", "success", name=image.name)
    headers = {
        "location": f"{ctx.url}/v2/images/{image.id}", "openstack-image-import-methods": ",".join(IMPORT_METHODS),
        "openstack-image-store-ids": STORE,
    }  # fmt: skip
    return Reply(render(image, ctx), headers=headers)


def _from_body(ctx: Context, body: Mapping[str, Any]) -> Image:
    given = {COLUMNS.get(name, name): value for name, value in body.items() if name in BASE}
    properties = {name: value for name, value in body.items() if name not in BASE}
    tags = list(dict.fromkeys(given.pop("tags", ())))
    if len(tags) > MOST or len(properties) > MOST:
        raise TooLarge(f"At most {MOST} tags and {MOST} properties are allowed.")
    given["project_id"] = given.get("project_id") or ctx.project_id
    given["id"] = given.get("id", new_id()).lower()
    return Image(**given, properties=properties, tags=tags, created_at=ctx.now, updated_at=ctx.now, leftovers=[])


def _check_visibility(ctx: Context, image: Image, wanted: str) -> None:
    if wanted == "public":
        ctx.enforce("publicize_image", image)
    if wanted == "community":
        ctx.enforce("communitize_image", image)


@IMAGE.op("PATCH", "/images/{image_id}", rule="modify_image", allow=OWNER, load=load_image)
def update_image(ctx: Context, image: Image, body: Any) -> dict[str, Any]:
    """Change attributes and properties by a list of operations."""

    def allow(name: str, value: Any) -> None:
        if name == "owner" and not ctx.allows("context_is_admin"):
            raise Forbidden("Attribute 'owner' is reserved.")
        if name == "visibility" and value != image.visibility:
            _check_visibility(ctx, image, value)

    columns = patch.apply(image, patch.parse(body, ctx.headers.get("content-type", "")), allow)
    if columns:
        columns["updated_at"] = ctx.now
        IMAGES.update(ctx.tx, columns, id=image.id)
        record_request(ctx, "image", image.id, "update", "success", changed=sorted(columns))
    return render(patch.changed(image, columns), ctx)


@IMAGE.op("DELETE", "/images/{image_id}", rule="delete_image", allow=OWNER, load=load_image, ok=204)
def delete_image(ctx: Context, image: Image) -> None:
    """Delete an image; its data goes as soon as nobody writes to it."""
    if image.protected:
        raise Forbidden(f"Image {image.id} is protected and cannot be deleted.")
    IMAGES.update(ctx.tx, {"deleting": True, "updated_at": ctx.now}, id=image.id)
    poke(ctx.tx, "image", image.id, ctx.now)
    record_request(ctx, "image", image.id, "delete")


@IMAGE.op("PUT", "/images/{image_id}/tags/{tag}", rule="modify_image", load=load_image, ok=204)
def add_tag(ctx: Context, image: Image, tag: str) -> None:
    """Add a tag; twice is once."""
    _check_tag(tag)
    tags = list(dict.fromkeys([*image.tags, tag]))
    if len(tags) > MOST:
        raise TooLarge(f"Maximum number of tags exceeded: at most {MOST} are allowed.")
    IMAGES.update(ctx.tx, {"tags": tags, "updated_at": ctx.now}, id=image.id)


@IMAGE.op("DELETE", "/images/{image_id}/tags/{tag}", rule="modify_image", load=load_image, ok=204)
def remove_tag(ctx: Context, image: Image, tag: str) -> None:
    """Remove a tag."""
    if tag not in image.tags:
        raise NotFound(f"Image {image.id} has no tag {tag[:80]}.")
    kept = [kept for kept in image.tags if kept != tag]
    IMAGES.update(ctx.tx, {"tags": kept, "updated_at": ctx.now}, id=image.id)


@IMAGE.op("POST", "/images/{image_id}/actions/deactivate", rule="deactivate", allow=OWNER, load=load_image, ok=204)
def deactivate_image(ctx: Context, image: Image) -> None:
    """Refuse downloads of an image's data until it is reactivated."""
    _switch(ctx, image, "deactivate", "deactivated")


@IMAGE.op("POST", "/images/{image_id}/actions/reactivate", rule="reactivate", allow=OWNER, load=load_image, ok=204)
def reactivate_image(ctx: Context, image: Image) -> None:
    """Allow downloads again."""
    _switch(ctx, image, "reactivate", "active")


def _switch(ctx: Context, image: Image, act: str, status: str) -> None:
    if image.status not in ("active", "deactivated"):
        raise Forbidden(f"Not allowed to {act} image in status '{image.status}'")
    if image.status != status:
        move(ctx.tx, image, ctx.now, status=status)
        record_request(ctx, "image", image.id, act, "success")


IMPORT = {
    "type": "object",
    "properties": {
        "method": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "stores": {"type": "array", "items": {"type": "string"}},
        "all_stores": {"type": "boolean"},
        "all_stores_must_succeed": {"type": "boolean"},
    },
    "required": ["method"],
}


@IMAGE.op("POST", "/images/{image_id}/import", rule="modify_image", load=load_image, takes=IMPORT, ok=202)
def import_image(ctx: Context, image: Image, body: dict[str, Any]) -> None:
    """Turn staged data into the image's own; checked and done in the background."""
    method = body["method"]["name"]
    if method not in IMPORT_METHODS:
        raise BadRequest(
            f"Import method {method[:40]} is not enabled here; enabled: {', '.join(IMPORT_METHODS)}. "
            "Upload the file instead."
        )
    unknown = [store for store in body.get("stores", ()) if store != STORE]
    if unknown:
        raise BadRequest(f"Store {unknown[0][:40]} for the image does not exist; there is {STORE}.")
    if image.status != "uploading" or image.staged is None:
        raise Conflicted(f"Image needs to be staged before 'glance-direct' method can be used; it is {image.status}.")
    if image.disk_format is None or image.container_format is None:
        raise BadRequest("'disk_format' and 'container_format' need to be set before import.")
    take(ctx, image.project_id, image_size_total=mib(image.staged.size))
    move(ctx.tx, image, ctx.now, status="importing", fault=None)
    record_request(ctx, "image", image.id, "import", method=method)
