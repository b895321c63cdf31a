"""Endpoints of the catalog.  Source: Identity API reference, "Service catalog and endpoints"."""

import re
from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest
from pileus.core.fields import Field
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import BOOLEAN
from pileus.identity.catalog import PLACEHOLDERS
from pileus.identity.region import REGIONS, Region
from pileus.identity.rows import ENDPOINTS, SERVICES, Endpoint
from pileus.identity.service import ADMIN, IDENTITY, READER, OpenFields, listed, own_domain, seen, self_link

_ID = {"type": "string", "minLength": 1, "maxLength": 64}
_REGION = {"type": ["string", "null"], "maxLength": 255}
ENDPOINT = OpenFields(
    "endpoint",
    "endpoints",
    (
        Field("id", "rq"),
        Field("interface", "Cruq", {"enum": ["public", "internal", "admin"]}),
        Field("service_id", "Cruq", _ID),
        Field("url", "Cru", {"type": "string", "minLength": 1, "maxLength": 225, "format": "name"}),
        Field("region_id", "cruq", _REGION),
        Field("region", "cru", _REGION, get="region_id"),
        Field("enabled", "cru", BOOLEAN, default=True),
        Field("links", "r", get=self_link("endpoints")),
    ),
)


def load_endpoint(ctx: Context, endpoint_id: str) -> Endpoint:
    """An endpoint that the caller may see."""
    return seen(ctx, "identity:get_endpoint", "endpoint", endpoint_id, ENDPOINTS.get(ctx.tx, id=endpoint_id))


@IDENTITY.op("GET", "/endpoints", rule="identity:list_endpoints", allow=READER, load=own_domain, gives=Many(ENDPOINT))
def list_endpoints(ctx: Context, query: Query) -> Page:
    """List endpoints."""
    return listed(ctx, ENDPOINT, Listing(ENDPOINTS), query)


@IDENTITY.op(
    "GET", "/endpoints/{endpoint_id}", rule="identity:get_endpoint", allow=READER, load=load_endpoint, gives=ENDPOINT
)
def get_endpoint(endpoint: Endpoint) -> Endpoint:
    """Show an endpoint."""
    return endpoint


def check_body(ctx: Context, body: dict[str, Any]) -> None:
    """Service, region and URL of a body; raises BadRequest.  The older `region` makes a region of its name."""
    if "service_id" in body and SERVICES.get(ctx.tx, id=body["service_id"]) is None:
        raise BadRequest(f"service_id: there is no service {body['service_id']}.")
    if "url" in body:
        names = set(re.findall(r"[$%]\(([^)]*)\)s", body["url"]))
        if not names <= PLACEHOLDERS or body["url"].count("(") != len(re.findall(r"[$%]\([^)]*\)s", body["url"])):
            raise BadRequest(f"url: the names that may stand in it are {', '.join(sorted(PLACEHOLDERS))}.")
    if "region" in body and "region_id" not in body:
        body["region_id"] = body["region"]
        if body["region"] is not None and REGIONS.get(ctx.tx, id=body["region"]) is None:
            REGIONS.insert(ctx.tx, Region(id=body["region"]))
    if body.get("region_id") is not None and REGIONS.get(ctx.tx, id=body["region_id"]) is None:
        raise BadRequest(f"region_id: there is no region {body['region_id']}.")


@IDENTITY.op(
    "POST", "/endpoints", rule="identity:create_endpoint", allow=ADMIN, load=own_domain, takes=ENDPOINT,
    gives=ENDPOINT, ok=201,
)  # fmt: skip
def create_endpoint(ctx: Context, body: dict[str, Any]) -> Endpoint:
    """Create an endpoint."""
    check_body(ctx, body)
    endpoint = Endpoint(
        id=new_hex(), service_id=body["service_id"], region_id=body.get("region_id"), interface=body["interface"],
        url=body["url"], enabled=body.get("enabled", True), extra=ENDPOINT.extra_of(body),
    )  # fmt: skip
    return ENDPOINTS.insert(ctx.tx, endpoint)


@IDENTITY.op(
    "PATCH", "/endpoints/{endpoint_id}", rule="identity:update_endpoint", allow=ADMIN, load=load_endpoint,
    takes=ENDPOINT, gives=ENDPOINT,
)  # fmt: skip
def update_endpoint(ctx: Context, endpoint: Endpoint, body: dict[str, Any]) -> Endpoint:
    """Update an endpoint."""
    check_body(ctx, body)
    changes = ENDPOINT.changes(endpoint, body)
    ENDPOINTS.update(ctx.tx, changes, id=endpoint.id)
    return structs.replace(endpoint, **changes)


@IDENTITY.op(
    "DELETE", "/endpoints/{endpoint_id}", rule="identity:delete_endpoint", allow=ADMIN, load=load_endpoint, ok=204
)
def delete_endpoint(ctx: Context, endpoint: Endpoint) -> Reply:
    """Delete an endpoint."""
    ENDPOINTS.delete(ctx.tx, id=endpoint.id)
    return Reply()
