"""Routers: create, list, show, update, delete, extra routes.  Source: Networking API reference, "Routers"."""

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from pileus.core.context import Context
from pileus.core.errors import Conflicted
from pileus.core.events import record_request
from pileus.core.ids import new_id
from pileus.core.op import Reply, collection
from pileus.core.paging import Listing, Query
from pileus.core.reconcile import forget, poke
from pileus.core.schema import Schema
from pileus.network.conventions import (
    body_of,
    changes_of,
    check_revision,
    created,
    enforce_attributes,
    listed,
    project_of,
    shown,
)
from pileus.network.port.rows import OF_ROUTERS, PORTS
from pileus.network.quota import take
from pileus.network.router.fields import ROUTER, ROUTES
from pileus.network.router.gateway import clear_gateway, routes_of, set_gateway, set_routes
from pileus.network.router.rows import ROUTERS, Router, legs_of, load_router, seen_routers
from pileus.network.service import ADMIN, ADMIN_OR_MEMBER, ADMIN_OR_READER, NETWORK

NETWORK.rule("get_router", ADMIN_OR_READER)
for action in ("create", "update"):
    for attribute in ("distributed", "ha"):
        NETWORK.rule(f"{action}_router:{attribute}", ADMIN)
    NETWORK.rule(f"{action}_router:external_gateway_info", ADMIN_OR_MEMBER)
    NETWORK.rule(f"{action}_router:external_gateway_info:network_id", ADMIN_OR_MEMBER)
    NETWORK.rule(f"{action}_router:external_gateway_info:enable_snat", ADMIN)
    NETWORK.rule(f"{action}_router:external_gateway_info:external_fixed_ips", ADMIN)
for attribute in ("distributed", "ha"):
    NETWORK.rule(f"get_router:{attribute}", ADMIN)
ONLY_ROUTES: Schema = {
    "type": "object",
    "properties": {
        "router": {
            "type": "object",
            "properties": {"routes": ROUTES},
            "required": ["routes"],
            "additionalProperties": False,
        }
    },
    "required": ["router"],
    "additionalProperties": False,
}


def _enforce(ctx: Context, action: str, given: Mapping[str, Any], target: object) -> None:
    """The rules of single attributes, down to those of the gateway."""
    enforce_attributes(ctx, action, ROUTER, given, target)
    for part in given.get("external_gateway_info") or ():
        ctx.enforce(f"{action}:external_gateway_info:{part}", target)


@NETWORK.op("POST", "/routers", rule="create_router", allow=ADMIN_OR_MEMBER, load=collection, takes=body_of(ROUTER),
            ok=201)  # fmt: skip
def create_routers(ctx: Context, body: dict[str, Any]) -> Reply:
    """Create a router, or many."""
    return created(ctx, ROUTER, body, lambda given: create_router(ctx, given))


def create_router(ctx: Context, given: Mapping[str, Any]) -> Router:
    """One router as a caller asks for it."""
    project_id = project_of(ctx, "create_router", given)
    _enforce(ctx, "create_router", given, {"project_id": project_id})
    take(ctx.tx, project_id, router=1)
    router = ROUTERS.insert(
        ctx.tx,
        Router(
            id=new_id(), project_id=project_id, name=given.get("name", ""), description=given.get("description") or "",
            admin_state_up=given.get("admin_state_up", True),
            availability_zone_hints=given.get("availability_zone_hints", []), created_at=ctx.now, updated_at=ctx.now,
        ),
    )  # fmt: skip
    record_request(ctx, "router", router.id, "create", "success")
    return set_gateway(ctx, router, given["external_gateway_info"]) if given.get("external_gateway_info") else router


def _by_status(listing: Listing[Router], values: list[str]) -> None:
    wanted = {value.upper() for value in values}
    terms = {"ACTIVE": "routers.fault = ''", "ERROR": "routers.fault <> ''"}
    listing.where(" or ".join(term for status, term in terms.items() if status in wanted) or "1 = 0")


@NETWORK.op("GET", "/routers", rule="get_router", load=collection)
def list_routers(ctx: Context, query: Query) -> dict[str, Any]:
    """List routers."""
    return listed(ctx, ROUTER, seen_routers(ctx), query, {"status": _by_status})


@NETWORK.op("GET", "/routers/{router_id}", rule="get_router", load=load_router)
def get_router(ctx: Context, router: Router, query: Query) -> dict[str, Any]:
    """Show a router."""
    return shown(ctx, ROUTER, router, query)


@NETWORK.op("PUT", "/routers/{router_id}", rule="update_router", allow=ADMIN_OR_MEMBER, load=load_router, takes=ROUTER,
            gives=ROUTER)  # fmt: skip
def update_router(ctx: Context, router: Router, body: dict[str, Any]) -> Router:
    """Update a router."""
    check_revision(ctx, router)
    _enforce(ctx, "update_router", body, router)
    plain = {k: body[k] if body[k] is not None else "" for k in ("name", "description", "admin_state_up") if k in body}
    changed = changes_of(ctx, router, **plain)
    ROUTERS.update(ctx.tx, changed, id=router.id)
    router = structs.replace(router, **changed)
    if "admin_state_up" in body:
        poke(ctx.tx, "router", router.id, ctx.now)
    if "external_gateway_info" in body:
        router = set_gateway(ctx, router, body["external_gateway_info"])
    if "routes" in body:
        router = set_routes(ctx, router, routes_of(body["routes"]))
    return router


@NETWORK.op("PUT", "/routers/{router_id}/add_extraroutes", rule="add_extraroutes", allow=ADMIN_OR_MEMBER,
            load=load_router, takes=ONLY_ROUTES, gives=ROUTER)  # fmt: skip
def add_extraroutes(ctx: Context, router: Router, body: dict[str, Any]) -> Router:
    """Add routes to those that a router has."""
    more = [route for route in routes_of(body["router"]["routes"]) if route not in router.routes]
    return set_routes(ctx, _revised(ctx, router), [*router.routes, *more])


@NETWORK.op("PUT", "/routers/{router_id}/remove_extraroutes", rule="remove_extraroutes", allow=ADMIN_OR_MEMBER,
            load=load_router, takes=ONLY_ROUTES, gives=ROUTER)  # fmt: skip
def remove_extraroutes(ctx: Context, router: Router, body: dict[str, Any]) -> Router:
    """Take routes off a router; those that it has not are no error."""
    gone = routes_of(body["router"]["routes"])
    return set_routes(ctx, _revised(ctx, router), [route for route in router.routes if route not in gone])


def _revised(ctx: Context, router: Router) -> Router:
    changed = changes_of(ctx, router)
    ROUTERS.update(ctx.tx, changed, id=router.id)
    return structs.replace(router, **changed)


@NETWORK.op("DELETE", "/routers/{router_id}", rule="delete_router", allow=ADMIN_OR_MEMBER, load=load_router, ok=204)
def delete_router(ctx: Context, router: Router) -> Reply:
    """Delete a router that is on no network inside; its node forgets it before its row goes."""
    check_revision(ctx, router)
    if legs_of(ctx.tx, router.id):
        raise Conflicted(f"Router {router.id} still has ports", kind="RouterInUse")
    router = clear_gateway(ctx, router)
    record_request(ctx, "router", router.id, "delete", "success")
    if router.node_id or router.left_nodes or PORTS.count(ctx.tx, device_id=router.id, device_owner=OF_ROUTERS):
        ROUTERS.update(ctx.tx, {"deleting": True}, id=router.id)
        poke(ctx.tx, "router", router.id, ctx.now)
    else:
        ROUTERS.delete(ctx.tx, id=router.id)
        forget(ctx.tx, "router", router.id)
    return Reply()
