"""Flavors: how large a server is.  Source: Compute API reference, "Flavors"."""

from typing import Any

from msgspec import Struct, structs

from pileus.compute.service import ADMIN, COMPUTE, NAME, READER, WHOLE, envelope, links, paged, refuse_unknown, whole
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, NotFound
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_id
from pileus.core.op import Many, Page, Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.schema import LONG_TEXT, LOOSE_BOOLEAN, Schema, truth
from pileus.db.connect import Conflict
from pileus.db.rows import Table


class Flavor(Struct, frozen=True, kw_only=True):
    """A size of servers; `extra_specs` say more about their hardware and where they may run."""

    id: str
    name: str
    vcpus: int
    ram_mib: int
    disk_gib: int  # 0: as large as the image
    created_at: float
    ephemeral_gib: int = 0
    swap_mib: int = 0
    rxtx_factor: float = 1.0
    is_public: bool = True
    description: str | None = None
    extra_specs: dict[str, str] = {}
    updated_at: float | None = None


FLAVORS = Table(Flavor, "flavors")
EXTRA_SPECS = COMPUTE.rule("os_compute_api:os-flavor-extra-specs:index", READER)
# Flavors belong to nobody: every user may see those that are public or shared with the project.
SEE = COMPUTE.rule("os_compute_api:flavors", "@")

_ID: Schema = {
    "type": ["string", "number", "null"], "minLength": 1, "maxLength": 255, "pattern": "^(?! )[a-zA-Z0-9. _-]+(?<! )$"
}  # fmt: skip
_FACTOR: Schema = {
    "type": ["number", "string"], "pattern": r"^[0-9]{1,30}(\.[0-9]{1,30})?$", "exclusiveMinimum": 0,
    "maximum": 3.40282e38,
}  # fmt: skip
FLAVOR = Fields(
    "flavor",
    "flavors",
    (
        Field("id", "cr", _ID),
        Field("name", "Cr", NAME),
        Field("links", "r", get=lambda flavor, ctx: links(ctx, f"flavors/{flavor.id}")),
        Field("ram", "Cr", WHOLE, get="ram_mib"),
        Field("vcpus", "Cr", WHOLE),
        Field("disk", "Cr", WHOLE, get="disk_gib"),
        Field("OS-FLV-EXT-DATA:ephemeral", "cr", WHOLE, get="ephemeral_gib"),
        Field("swap", "r", get=lambda flavor, _ctx: flavor.swap_mib or "", until="2.74"),
        Field("swap", "r", get="swap_mib", since="2.75"),
        Field("swap", "c", WHOLE),
        Field("OS-FLV-DISABLED:disabled", "r", get=lambda _flavor, _ctx: False, until="2.101"),
        Field("rxtx_factor", "cr", _FACTOR, until="2.101"),
        Field("os-flavor-access:is_public", "cr", LOOSE_BOOLEAN, get="is_public"),
        Field("description", "cr", LONG_TEXT, since="2.55"),
        Field("extra_specs", "r", since="2.61", see=lambda _flavor, ctx: ctx.allows(EXTRA_SPECS, collection(ctx))),
    ),
)
FLAVOR_BRIEF = Fields(
    "flavor", "flavors", [f for f in FLAVOR.fields if f.name in ("id", "name", "links", "description")]
)

_SORT_KEYS = {
    "flavorid": "id", "id": "id", "name": "name", "memory_mb": "ram_mib", "vcpus": "vcpus", "root_gb": "disk_gib",
    "ephemeral_gb": "ephemeral_gib", "swap": "swap_mib", "rxtx_factor": "rxtx_factor", "is_public": "is_public",
    "description": "description", "created_at": "created_at", "updated_at": "updated_at",
    "disabled": "id", "vcpu_weight": "id",
}  # fmt: skip


def visible(ctx: Context) -> tuple[str, tuple[Any, ...]]:
    """The SQL condition of the flavors that the caller may use."""
    shared = "flavors.id in (select flavor_id from flavor_access where project_id = ?)"
    return f"flavors.is_public = 1 or {shared}", (ctx.caller.project_id or "",)


def get_flavor(ctx: Context, flavor_id: str) -> Flavor:
    """A flavor that the caller may use; raises NotFound."""
    listing = Listing(FLAVORS).equals("id", [flavor_id])
    if not ctx.allows("context_is_admin"):
        sql, params = visible(ctx)
        listing.where(sql, *params)
    found = listing.page(ctx.tx, sort=[("id", False)])
    if not found:
        raise NotFound(f"Flavor {flavor_id} could not be found.")
    return found[0]


def find_flavors(ctx: Context, query: Query, path: str) -> Page:
    """One page of the flavors that the caller may see, filtered as the query says."""
    refuse_unknown(
        ctx, query, "limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir",
        *(["name"] if ctx.version >= (2, 102) else []), since="2.75",
    )  # fmt: skip
    listing = Listing(FLAVORS)
    public = query.one("is_public")
    if not ctx.allows("context_is_admin") or public is None or (public.lower() != "none" and query.truth("is_public")):
        sql, params = visible(ctx)
        listing.where(sql, *params)
    elif public.lower() != "none":
        listing.where("flavors.is_public = 0")
    for name, column in (("minRam", "ram_mib"), ("minDisk", "disk_gib")):
        if name in query:
            listing.where(f"flavors.{column} >= ?", query.number(name, 0))
    if "name" in query and ctx.version >= (2, 102):
        listing.equals("name", [query.one("name")])
    key, direction = query.one("sort_key") or "flavorid", query.one("sort_dir") or "asc"
    if key not in _SORT_KEYS or direction not in ("asc", "desc"):
        raise BadRequest(f"Invalid input for query parameters sort_key, sort_dir: {key[:80]}, {direction[:80]}.")
    marker = query.one("marker")
    row = FLAVORS.get(ctx.tx, id=marker) if marker is not None else None
    if marker is not None and row is None:
        raise BadRequest(f"marker [{marker[:80]}] not found")
    column = _SORT_KEYS[key]
    sort = [(column, direction == "desc")] + ([("id", direction == "desc")] if column != "id" else [])
    return paged(ctx, listing, query, path, sort=sort, marker=row)


@COMPUTE.op("GET", "/flavors", rule=SEE, load=collection, gives=Many(FLAVOR_BRIEF))
def list_flavors(ctx: Context, query: Query) -> Page:
    """List flavors."""
    return find_flavors(ctx, query, "flavors")


@COMPUTE.op("GET", "/flavors/detail", rule=SEE, load=collection, gives=Many(FLAVOR))
def list_flavors_with_details(ctx: Context, query: Query) -> Page:
    """List flavors with details."""
    return find_flavors(ctx, query, "flavors/detail")


@COMPUTE.op("GET", "/flavors/{flavor_id}", rule=SEE, load=get_flavor, gives=FLAVOR)
def show_flavor(ctx: Context, flavor: Flavor, query: Query) -> Flavor:
    """Show flavor details."""
    refuse_unknown(ctx, query)
    return flavor


@COMPUTE.op(
    "POST", "/flavors", rule="os_compute_api:os-flavor-manage:create", allow=ADMIN, load=collection, takes=FLAVOR,
    gives=FLAVOR,
)  # fmt: skip
def create_flavor(ctx: Context, body: dict[str, Any]) -> Flavor:
    """Create a flavor."""
    given_id = body.get("id")
    flavor = Flavor(
        id=new_id() if given_id is None else str(given_id),
        name=body["name"],
        vcpus=whole(body["vcpus"], "vcpus", least=1),
        ram_mib=whole(body["ram"], "ram", least=1),
        disk_gib=whole(body["disk"], "disk"),
        ephemeral_gib=whole(body.get("OS-FLV-EXT-DATA:ephemeral", 0), "OS-FLV-EXT-DATA:ephemeral"),
        swap_mib=whole(body.get("swap", 0), "swap"),
        rxtx_factor=_factor(body.get("rxtx_factor", 1.0)),
        is_public=truth(body.get("os-flavor-access:is_public", True)),
        description=body.get("description"),
        created_at=ctx.now,
    )
    try:
        return FLAVORS.insert(ctx.tx, flavor)
    except Conflict as conflict:
        if "name" in conflict.constraint:
            raise Conflicted(f"Flavor with name {flavor.name} already exists.") from None
        raise Conflicted(f"Flavor with ID {flavor.id} already exists.") from None


def _factor(value: float | str) -> float:
    """A positive number, single precision as the reference says; raises BadRequest."""
    factor = float(value)
    if not 0 < factor <= 3.40282e38:
        raise BadRequest("'rxtx_factor' argument must be a float between 0 and 3.40282e+38")
    return factor


@COMPUTE.op(
    "PUT", "/flavors/{flavor_id}", rule="os_compute_api:os-flavor-manage:update", allow=ADMIN, load=get_flavor,
    takes=envelope({"description": LONG_TEXT}, "flavor", "description"), gives=FLAVOR, since="2.55",
)  # fmt: skip
def update_flavor(ctx: Context, flavor: Flavor, body: dict[str, Any]) -> Flavor:
    """Update the description of a flavor."""
    changes = {"description": body["flavor"]["description"], "updated_at": ctx.now}
    FLAVORS.update(ctx.tx, changes, id=flavor.id)
    return structs.replace(flavor, **changes)


@COMPUTE.op(
    "DELETE", "/flavors/{flavor_id}", rule="os_compute_api:os-flavor-manage:delete", allow=ADMIN, load=get_flavor,
    ok=202,
)  # fmt: skip
def delete_flavor(ctx: Context, flavor: Flavor) -> Reply:
    """Delete a flavor; servers keep the copy that they were made with."""
    FLAVORS.delete(ctx.tx, id=flavor.id)
    return Reply()
