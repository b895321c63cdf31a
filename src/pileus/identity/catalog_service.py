"""Services of the catalog.  Source: Identity API reference, "Service catalog and endpoints"."""

from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.fields import Field
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import BOOLEAN, LONG_TEXT
from pileus.identity.rows import SERVICES, Service
from pileus.identity.service import ADMIN, IDENTITY, READER, OpenFields, listed, own_domain, seen, self_link

SERVICE = OpenFields(
    "service",
    "services",
    (
        Field("id", "rq"),
        Field("type", "Cruqs", {"type": "string", "minLength": 1, "maxLength": 255, "format": "name"}),
        Field("name", "cruqs", {"type": ["string", "null"], "maxLength": 255}, default=""),
        Field("description", "cru", LONG_TEXT, default=""),
        Field("enabled", "cru", BOOLEAN, default=True),
        Field("links", "r", get=self_link("services")),
    ),
)


def load_service(ctx: Context, service_id: str) -> Service:
    """A service that the caller may see."""
    return seen(ctx, "identity:get_service", "service", service_id, SERVICES.get(ctx.tx, id=service_id))


@IDENTITY.op("GET", "/services", rule="identity:list_services", allow=READER, load=own_domain, gives=Many(SERVICE))
def list_services(ctx: Context, query: Query) -> Page:
    """List services."""
    return listed(ctx, SERVICE, Listing(SERVICES), query)


@IDENTITY.op(
    "GET", "/services/{service_id}", rule="identity:get_service", allow=READER, load=load_service, gives=SERVICE
)
def get_service(service: Service) -> Service:
    """Show a service."""
    return service


@IDENTITY.op(
    "POST", "/services", rule="identity:create_service", allow=ADMIN, load=own_domain, takes=SERVICE, gives=SERVICE,
    ok=201,
)  # fmt: skip
def create_service(ctx: Context, body: dict[str, Any]) -> Service:
    """Create a service."""
    service = Service(
        id=new_hex(), type=body["type"], name=body.get("name") or "", description=body.get("description") or "",
        enabled=body.get("enabled", True), extra=SERVICE.extra_of(body),
    )  # fmt: skip
    return SERVICES.insert(ctx.tx, service)


@IDENTITY.op(
    "PATCH", "/services/{service_id}", rule="identity:update_service", allow=ADMIN, load=load_service, takes=SERVICE,
    gives=SERVICE,
)  # fmt: skip
def update_service(ctx: Context, service: Service, body: dict[str, Any]) -> Service:
    """Update a service."""
    changes = SERVICE.changes(service, body)
    for name in ("name", "description"):
        if name in changes:
            changes[name] = changes[name] or ""
    SERVICES.update(ctx.tx, changes, id=service.id)
    return structs.replace(service, **changes)


@IDENTITY.op("DELETE", "/services/{service_id}", rule="identity:delete_service", allow=ADMIN, load=load_service, ok=204)
def delete_service(ctx: Context, service: Service) -> Reply:
    """Delete a service with its endpoints."""
    SERVICES.delete(ctx.tx, id=service.id)
    return Reply()
