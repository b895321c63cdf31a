"""Endpoint groups: endpoints that have something in common.  Source: Identity API reference, "OS-EP-FILTER"."""

from typing import Any

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import LONG_TEXT, Schema
from pileus.db.connect import Tx
from pileus.identity.endpoint import ENDPOINT
from pileus.identity.rows import ENDPOINTS, Endpoint
from pileus.identity.service import ADMIN, IDENTITY, READER, links_beside, listed, own_domain, seen, self_link
from pileus.identity.watched import Watched


class EndpointGroup(Struct, frozen=True, kw_only=True):
    """Endpoints are in a group when they have all of its attributes."""

    id: str
    name: str
    description: str | None = None
    filters: dict[str, str]


ENDPOINT_GROUPS = Watched(EndpointGroup, "endpoint_groups")
FILTERS: Schema = {
    "type": "object",
    "properties": {
        "interface": {"enum": ["public", "internal", "admin"]},
        "service_id": {"type": "string", "maxLength": 64},
        "region_id": {"type": "string", "maxLength": 255},
    },
    "additionalProperties": False,
}
ENDPOINT_GROUP = Fields(
    "endpoint_group",
    "endpoint_groups",
    (
        Field("id", "rq"),
        Field("name", "Cruqs", {"type": "string", "minLength": 1, "maxLength": 255}),
        Field("description", "cru", LONG_TEXT),
        Field("filters", "Cru", FILTERS),
        Field("links", "r", get=self_link("OS-EP-FILTER/endpoint_groups")),
    ),
    extra=True,
)
# The openstack command sends null for what is to stay.
CHANGES = Fields(
    "endpoint_group",
    "endpoint_groups",
    (
        Field("name", "u", {"type": ["string", "null"], "minLength": 1, "maxLength": 255}),
        Field("description", "u", LONG_TEXT),
        Field("filters", "u", {**FILTERS, "type": ["object", "null"]}),
    ),
    extra=True,
)
_HERE = "/OS-EP-FILTER/endpoint_groups"


def load_group(ctx: Context, endpoint_group_id: str, **_path: str) -> EndpointGroup:
    """A group that the caller may see."""
    found = ENDPOINT_GROUPS.get(ctx.tx, id=endpoint_group_id)
    return seen(ctx, "identity:get_endpoint_group", "endpoint group", endpoint_group_id, found)


def members(tx: Tx, group: EndpointGroup) -> list[Endpoint]:
    """The endpoints that have all attributes of a group."""
    return ENDPOINTS.all(tx, order="endpoints.id", **group.filters)


@IDENTITY.op(
    "GET", _HERE, rule="identity:list_endpoint_groups", allow=READER, load=own_domain, gives=Many(ENDPOINT_GROUP)
)  # fmt: skip
def list_endpoint_groups(ctx: Context, query: Query) -> Page:
    """List endpoint groups."""
    return listed(ctx, ENDPOINT_GROUP, Listing(ENDPOINT_GROUPS), query, path=_HERE)


@IDENTITY.op(
    "GET", _HERE + "/{endpoint_group_id}", rule="identity:get_endpoint_group", allow=READER, load=load_group,
    gives=ENDPOINT_GROUP,
)  # fmt: skip
def get_endpoint_group(group: EndpointGroup) -> EndpointGroup:
    """Show an endpoint group."""
    return group


@IDENTITY.op(
    "POST", _HERE, rule="identity:create_endpoint_group", allow=ADMIN, load=own_domain, takes=ENDPOINT_GROUP,
    gives=ENDPOINT_GROUP, ok=201,
)  # fmt: skip
def create_endpoint_group(ctx: Context, body: dict[str, Any]) -> EndpointGroup:
    """Create an endpoint group."""
    check_filters(body["filters"])
    return ENDPOINT_GROUPS.insert(ctx.tx, EndpointGroup(
        id=new_hex(), name=body["name"], description=body.get("description"), filters=body["filters"]))  # fmt: skip


def check_filters(filters: dict[str, str]) -> None:
    """A group without filters would hold everything."""
    if not filters:
        raise BadRequest("filters: at least one of interface, service_id, region_id.")


@IDENTITY.op(
    "PATCH", _HERE + "/{endpoint_group_id}", rule="identity:update_endpoint_group", allow=ADMIN, load=load_group,
    takes=CHANGES, gives=ENDPOINT_GROUP,
)  # fmt: skip
def update_endpoint_group(ctx: Context, group: EndpointGroup, body: dict[str, Any]) -> EndpointGroup:
    """Update an endpoint group."""
    changes = {k: v for k, v in body.items() if k in ("name", "filters") and v is not None}
    if "description" in body:
        changes["description"] = body["description"]
    if "filters" in changes:
        check_filters(changes["filters"])
    ENDPOINT_GROUPS.update(ctx.tx, changes, id=group.id)
    return structs.replace(group, **changes)


@IDENTITY.op(
    "DELETE", _HERE + "/{endpoint_group_id}", rule="identity:delete_endpoint_group", allow=ADMIN, load=load_group,
    ok=204,
)  # fmt: skip
def delete_endpoint_group(ctx: Context, group: EndpointGroup) -> Reply:
    """Delete an endpoint group."""
    ENDPOINT_GROUPS.delete(ctx.tx, id=group.id)
    return Reply()


@IDENTITY.op(
    "GET", _HERE + "/{endpoint_group_id}/endpoints", rule="identity:list_endpoints_associated_with_endpoint_group",
    allow=READER, load=load_group, gives=Many(ENDPOINT),
)  # fmt: skip
def list_endpoints_of_group(ctx: Context, group: EndpointGroup) -> Page:
    """List the endpoints of a group."""
    return Page(members(ctx.tx, group), links_beside(ctx, f"{_HERE}/{group.id}/endpoints"))
