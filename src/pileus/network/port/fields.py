"""The attributes of a port.  Source: Networking API reference, "Ports"."""

from typing import Any

from pileus.core.context import Context
from pileus.core.fields import Field, Fields
from pileus.core.schema import BOOLEAN, CIDR, IP, MAC, TEXT, Schema
from pileus.network.conventions import ID, identity_fields, standard_fields
from pileus.network.port.rows import Port

DOMAIN = "novalocal"  # of names that no network gives a domain of its own
LABEL = r"^[A-Za-z0-9]([A-Za-z0-9\-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9\-]{0,61}[A-Za-z0-9])?)*\.?$"
FIXED_IPS: Schema = {
    "type": ["array", "null"],
    "maxItems": 64,
    "items": {
        "type": "object",
        "properties": {"subnet_id": ID, "ip_address": IP},
        "additionalProperties": False,
        "minProperties": 1,
    },
}
PAIRS: Schema = {
    "type": ["array", "null"],
    "maxItems": 64,
    "items": {
        "type": "object",
        "properties": {"ip_address": {"type": "string", "anyOf": [IP, CIDR]}, "mac_address": MAC},
        "required": ["ip_address"],
        "additionalProperties": False,
    },
}
# A name or number that dnsmasq knows, and a value that stays one value of one line of its file.
OPTIONS: Schema = {
    "type": ["array", "null"],
    "maxItems": 64,
    "items": {
        "type": "object",
        "properties": {
            "opt_name": {"type": "string", "pattern": r"^([a-z][a-z0-9\-]{0,63}|[1-9]\d{0,2})$"},
            "opt_value": {"type": ["string", "null"], "pattern": r"^[^\x00-\x1f\x7f,\"#\\]{1,255}$"},
            "ip_version": {"enum": [4, 6, "4", "6"]},
        },
        "required": ["opt_name", "opt_value"],
        "additionalProperties": False,
    },
}
GROUP_IDS: Schema = {"type": ["array", "null"], "items": ID, "maxItems": 64}
TAG: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[^,/\x00-\x1f\x7f]+$"}
TAGS: Schema = {"type": "array", "items": TAG, "maxItems": 50}
DNS_NAME: Schema = {"type": ["string", "null"], "maxLength": 255, "anyOf": [{"pattern": LABEL}, {"enum": ["", None]}]}
DEVICE: Schema = {"type": ["string", "null"], "maxLength": 255}


def fixed_ips(port: Port, _ctx: Context) -> list[dict[str, Any]]:
    """The addresses as the API shows them."""
    return [{"subnet_id": fixed.subnet_id, "ip_address": fixed.ip_address} for fixed in port.fixed_ips]


def host_name(port: Port, ip: str) -> str:
    """The name that DNS knows an address of a port by."""
    return port.dns_name or "host-" + ip.replace(".", "-").replace(":", "-")


def _assignment(port: Port, _ctx: Context) -> list[dict[str, Any]]:
    return [
        {"ip_address": ip, "hostname": host_name(port, ip), "fqdn": f"{host_name(port, ip)}.{DOMAIN}."}
        for ip in port.ips
    ]


def _vif_type(port: Port, _ctx: Context) -> str:
    if not port.host:
        return "unbound"
    return "bridge" if port.node_id or port.device_owner.startswith("network:") else "binding_failed"


def _vif_details(port: Port, _ctx: Context) -> dict[str, Any]:
    return {"port_filter": True, "connectivity": "l2"} if port.host else {}


PORT = Fields(
    "port",
    "ports",
    (
        *identity_fields(),
        Field("network_id", "Crqs", ID),
        Field("mac_address", "cruqs", MAC),
        Field("admin_state_up", "cruqs", BOOLEAN, default=True),
        Field("status", "rqs"),
        Field("fixed_ips", "cru", FIXED_IPS, get=fixed_ips),
        Field("device_id", "cruqs", DEVICE, default=""),
        Field("device_owner", "cruqs", DEVICE, default=""),
        Field("security_groups", "cru", GROUP_IDS),
        Field("port_security_enabled", "cruqs", BOOLEAN),
        Field("allowed_address_pairs", "cru", PAIRS, default=[]),
        Field("extra_dhcp_opts", "cru", OPTIONS, default=[]),
        Field("dns_name", "cruqs", DNS_NAME, default=""),
        Field("dns_assignment", "r", get=_assignment),
        Field("binding:vnic_type", "cruqs", {"enum": ["normal"]}, get="vnic_type", default="normal"),
        Field("binding:host_id", "cruqs", TEXT, get="host", default="", see="get_port:binding:host_id"),
        Field("binding:profile", "cru", {"type": ["object", "null"]}, get="binding_profile", default={},
              see="get_port:binding:profile"),
        Field("binding:vif_type", "r", get=_vif_type, see="get_port:binding:vif_type"),
        Field("binding:vif_details", "r", get=_vif_details, see="get_port:binding:vif_details"),
        *standard_fields(),
        Field("tags", "c", TAGS),
    ),
)  # fmt: skip
