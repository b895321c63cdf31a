"""The attributes of a router.  Source: Networking API reference, "Routers"."""

from typing import Any

from pileus.core.context import Context
from pileus.core.fields import Field, Fields
from pileus.core.schema import BOOLEAN, CIDR, IP, Schema
from pileus.network.conventions import ID, identity_fields, standard_fields
from pileus.network.port.fields import fixed_ips
from pileus.network.port.rows import PORTS
from pileus.network.router.rows import Router

GATEWAY_INFO: Schema = {
    "type": ["object", "null"],
    "properties": {
        "network_id": ID,
        "enable_snat": BOOLEAN,
        "external_fixed_ips": {
            "type": ["array", "null"],
            "maxItems": 16,
            "items": {
                "type": "object",
                "properties": {"subnet_id": ID, "ip_address": IP},
                "additionalProperties": False,
                "minProperties": 1,
            },
        },
    },
    "additionalProperties": False,
}
ROUTES: Schema = {
    "type": ["array", "null"],
    "maxItems": 1000,
    "items": {
        "type": "object",
        "properties": {"destination": CIDR, "nexthop": IP},
        "required": ["destination", "nexthop"],
        "additionalProperties": False,
    },
}


def _gateway(router: Router, ctx: Context) -> dict[str, Any] | None:
    port = PORTS.get(ctx.tx, id=router.gateway_port_id) if router.gateway_port_id else None
    if port is None:
        return None
    return {
        "network_id": port.network_id,
        "external_fixed_ips": fixed_ips(port, ctx),
        "enable_snat": router.enable_snat,
    }


def _zones(router: Router, ctx: Context) -> list[str]:
    row = ctx.tx.one("select zone from nodes where id = ?", router.node_id) if router.node_id else None
    return [str(row[0])] if row else []


def _never(_router: Router, _ctx: Context) -> bool:
    return False


ROUTER = Fields(
    "router",
    "routers",
    (
        *identity_fields(),
        Field("admin_state_up", "cruqs", BOOLEAN, default=True),
        Field("status", "r", get=lambda router, _: "ERROR" if router.fault else "ACTIVE"),
        Field("external_gateway_info", "cru", GATEWAY_INFO, get=_gateway),
        Field("routes", "ru", ROUTES, get=lambda router, _: [
            {"destination": r.destination, "nexthop": r.nexthop} for r in router.routes]),
        Field("distributed", "cru", {"enum": [False]}, get=_never, default=False, see="get_router:distributed"),
        Field("ha", "cru", {"enum": [False]}, get=_never, default=False, see="get_router:ha"),
        Field("availability_zone_hints", "cr", {"type": "array", "items": {"type": "string", "maxLength": 255},
                                                "maxItems": 16}, default=[]),
        Field("availability_zones", "r", get=_zones),
        *standard_fields(),
    ),
)  # fmt: skip
