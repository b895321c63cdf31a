"""The extensions of the API that are implemented, and no others.  Source: Networking API reference, "Extensions"."""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import NotFound
from pileus.core.op import collection
from pileus.network.service import NETWORK

EXTENSIONS = {
    "agent": ("agent", "The nodes that carry networking."),
    "allowed-address-pairs": ("Allowed Address Pairs", "What a port may send besides its own addresses."),
    "availability_zone": ("Availability Zone", "The zones of the nodes."),
    "binding": ("Port Binding", "The node of a port."),
    "dns-integration": ("DNS Integration", "Host names of ports."),
    "empty-string-filtering": ("Empty String Filtering", "Filters that match empty values."),
    "ext-gw-mode": ("Neutron L3 Configurable external gateway mode", "SNAT of a router on or off."),
    "external-net": ("Neutron external network", "Networks that routers lead to."),
    "extra_dhcp_opt": ("Neutron Extra DHCP options", "DHCP options of one port."),
    "extraroute": ("Neutron Extra Route", "Static routes of a router."),
    "extraroute-atomic": ("Atomically add/remove extra routes", "Routes added and removed one by one."),
    "filter-validation": ("Filter parameters validation", "Unknown filters are refused."),
    "fip-port-details": ("Floating IP Port Details Extension", "What a floating IP leads to."),
    "ip-substring-filtering": ("IP address substring filtering", "Ports by a part of an address."),
    "net-mtu": ("Network MTU", "The MTU of a network."),
    "net-mtu-writable": ("Network MTU (writable)", "The MTU of a network may be chosen."),
    "network-ip-availability": ("Network IP Availability", "Addresses in use and left."),
    "network_availability_zone": ("Network Availability Zone", "The zones of a network."),
    "pagination": ("Pagination support", "Lists by pages."),
    "port-security": ("Port Security", "Filters of a port on or off."),
    "port-security-groups-filtering": ("Port filtering on security groups", "Ports by security group."),
    "project-id": ("project_id field enabled", "project_id beside tenant_id."),
    "provider": ("Provider Network", "What carries a network."),
    "quota_details": ("Quota details management support", "Limits and what is used of them."),
    "quotas": ("Quota management support", "Limits of a project."),
    "router": ("Neutron L3 Router", "Routers and floating IPs."),
    "router_availability_zone": ("Router Availability Zone", "The zones of a router."),
    "security-group": ("security-group", "Security groups."),
    "security-groups-normalized-cidr": ("Normalized CIDR field for security group rules", "normalized_cidr of rules."),
    "service-type": ("Neutron Service Type Management", "Who provides a service."),
    "sorting": ("Sorting support", "Lists in a chosen order."),
    "standard-attr-description": ("standard-attr-description", "Descriptions."),
    "standard-attr-revisions": ("Resource revision numbers", "Revisions."),
    "revision-if-match": ("If-Match constraints based on revision_number", "Changes only of a known revision."),
    "standard-attr-tag": ("Tag support for resources with standard attribute", "Tags."),
    "standard-attr-timestamp": ("Resource timestamps", "Times of creation and change."),
    "subnet-service-types": ("Subnet service types", "Subnets for one kind of device."),
    "tag-ports-during-bulk-creation": ("Tag Ports During Bulk Creation", "Tags of new ports."),
    "quota-check-limit": ("Quota engine limit check", "Limits not below what is used."),
}
UPDATED = "2026-01-01T00:00:00-00:00"


def _shown(alias: str) -> dict[str, Any]:
    name, text = EXTENSIONS[alias]
    return {"alias": alias, "name": name, "description": text, "updated": UPDATED, "links": []}


@NETWORK.op("GET", "/extensions", rule="get_extensions", allow="@", load=collection)
def list_extensions(ctx: Context) -> dict[str, Any]:
    """List the extensions."""
    return {"extensions": [_shown(alias) for alias in EXTENSIONS]}


@NETWORK.op("GET", "/extensions/{alias}", rule="get_extensions", load=collection)
def get_extension(ctx: Context, alias: str) -> dict[str, Any]:
    """Show an extension."""
    if alias not in EXTENSIONS:
        raise NotFound(f"Extension with alias {alias} does not exist", kind="ExtensionNotFound")
    return {"extension": _shown(alias)}


@NETWORK.op("GET", "/service-providers", rule="get_service_provider", allow="@", load=collection)
def list_service_providers(ctx: Context) -> dict[str, Any]:
    """List who provides services."""
    return {"service_providers": [{"service_type": "L3_ROUTER_NAT", "name": "pileus", "default": True}]}
