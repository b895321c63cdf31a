"""The attributes of a network.  Source: Networking API reference, "Networks"."""

from pileus.core.context import Context
from pileus.core.fields import Field, Fields
from pileus.core.schema import BOOLEAN, Schema
from pileus.network.conventions import identity_fields, standard_fields
from pileus.network.network.rows import Network

MTU: Schema = {"type": "integer", "minimum": 0, "maximum": 65535}
ZONES: Schema = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 255}, "maxItems": 16}
DOMAIN: Schema = {
    "type": ["string", "null"],
    "maxLength": 253,
    "pattern": r"^([A-Za-z0-9]([A-Za-z0-9\-]{0,61}[A-Za-z0-9])?(\.|$))*$",
}
PHYSICAL: Schema = {"type": ["string", "null"], "maxLength": 64, "pattern": r"^[A-Za-z0-9_.\-]*$"}


def _subnets(network: Network, ctx: Context) -> list[str]:
    rows = ctx.tx.all("select id from subnets where network_id = ? order by created_at, id", network.id)
    return [str(row[0]) for row in rows]


def _zones(network: Network, ctx: Context) -> list[str]:
    marks = ", ".join("?" * len(network.nodes)) or "null"
    rows = ctx.tx.all(f"select distinct zone from nodes where id in ({marks}) order by zone", *network.nodes)
    return [str(row[0]) for row in rows]


NETWORK = Fields(
    "network",
    "networks",
    (
        *identity_fields(),
        Field("admin_state_up", "cruqs", BOOLEAN, default=True),
        Field("status", "r", get=lambda _row, _ctx: "ACTIVE"),
        Field("subnets", "r", get=_subnets),
        Field("shared", "cruqs", BOOLEAN, default=False),
        Field("router:external", "cruqs", BOOLEAN, get="external", default=False),
        Field("is_default", "cruqs", BOOLEAN, default=False),
        Field("mtu", "cruqs", MTU),
        Field("port_security_enabled", "cruqs", BOOLEAN, default=True),
        Field("provider:network_type", "crqs", {"type": ["string", "null"], "maxLength": 32}, get="network_type",
              see="get_network:provider:network_type"),
        Field("provider:physical_network", "crqs", PHYSICAL, get="physical_network",
              see="get_network:provider:physical_network"),
        Field("provider:segmentation_id", "crqs", {"type": ["integer", "null"]}, get="segmentation_id",
              see="get_network:provider:segmentation_id"),
        Field("availability_zone_hints", "cr", ZONES, default=[]),
        Field("availability_zones", "r", get=_zones),
        Field("dns_domain", "cruqs", DOMAIN, default=""),
        *standard_fields(),
    ),
)  # fmt: skip
