"""Regions: where endpoints are.  Source: Identity API reference, "Regions"."""

from typing import Any

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.schema import TEXT
from pileus.db.connect import Conflict
from pileus.db.rows import Table
from pileus.identity.service import ADMIN, IDENTITY, listed, self_link


class Region(Struct, frozen=True, kw_only=True):
    """A region; regions form a tree by `parent_region_id`."""

    id: str
    description: str = ""
    parent_region_id: str | None = None


REGIONS = Table(Region, "regions")
REGION = Fields(
    "region",
    "regions",
    (
        Field("id", "cr", {"type": "string", "minLength": 1, "maxLength": 255, "format": "name", "pattern": "^[^/]*$"}),
        Field("description", "cru", TEXT, default=""),
        Field("parent_region_id", "crqu", TEXT),
        Field("links", "r", get=self_link("regions")),
    ),
    extra=True,
)


def load_region(ctx: Context, region_id: str) -> Region:
    """Regions are the same for everybody; raises NotFound."""
    region = REGIONS.get(ctx.tx, id=region_id)
    if region is None:
        raise NotFound(f"Could not find region: {region_id}.")
    return region


@IDENTITY.op("GET", "/regions", rule="identity:list_regions", allow="@", load=collection, gives=Many(REGION))
def list_regions(ctx: Context, query: Query) -> Page:
    """List regions."""
    return listed(ctx, REGION, Listing(REGIONS), query)


@IDENTITY.op("GET", "/regions/{region_id}", rule="identity:get_region", allow="@", load=load_region, gives=REGION)
def get_region(region: Region) -> Region:
    """Show a region."""
    return region


@IDENTITY.op(
    "POST", "/regions", rule="identity:create_region", allow=ADMIN, load=collection, takes=REGION, gives=REGION, ok=201
)
def create_region(ctx: Context, body: dict[str, Any]) -> Region:
    """Create a region."""
    parent = body.get("parent_region_id")
    if parent is not None:
        load_region(ctx, parent)
    region = Region(id=body.get("id") or new_hex(), description=body.get("description") or "", parent_region_id=parent)
    try:
        return REGIONS.insert(ctx.tx, region)
    except Conflict:
        raise Conflicted(f"Conflict occurred attempting to store region - Duplicate ID, {region.id}.") from None


@IDENTITY.op(
    "PUT", "/regions/{region_id}", rule="identity:create_region", load=collection, takes=REGION, gives=REGION, ok=201
)
def create_named_region(ctx: Context, region_id: str, body: dict[str, Any]) -> Region:
    """Create a region with the id in the path."""
    if body.get("id", region_id) != region_id:
        raise BadRequest("id: the region in the body is not the one in the path.")
    return create_region(ctx, {**body, "id": region_id})


@IDENTITY.op(
    "PATCH", "/regions/{region_id}", rule="identity:update_region", allow=ADMIN, load=load_region, takes=REGION,
    gives=REGION,
)  # fmt: skip
def update_region(ctx: Context, region: Region, body: dict[str, Any]) -> Region:
    """Update a region."""
    changes = {k: v for k, v in body.items() if k in ("description", "parent_region_id")}
    if "description" in changes:
        changes["description"] = changes["description"] or ""
    parent = changes.get("parent_region_id")
    if parent is not None and region.id in lineage(ctx, parent):
        raise BadRequest("parent_region_id: a region cannot be below itself.")
    REGIONS.update(ctx.tx, changes, id=region.id)
    return structs.replace(region, **changes)


def lineage(ctx: Context, region_id: str) -> list[str]:
    """A region and all above it; raises NotFound."""
    region = load_region(ctx, region_id)
    return [region.id, *(lineage(ctx, region.parent_region_id) if region.parent_region_id else [])]


@IDENTITY.op("DELETE", "/regions/{region_id}", rule="identity:delete_region", allow=ADMIN, load=load_region, ok=204)
def delete_region(ctx: Context, region: Region) -> Reply:
    """Delete a region and those below it."""
    for child in REGIONS.all(ctx.tx, parent_region_id=region.id):
        delete_region(ctx, child)
    try:
        REGIONS.delete(ctx.tx, id=region.id)
    except Conflict:
        raise Conflicted(f"Region {region.id} has endpoints or limits: delete those first.") from None
    return Reply()
