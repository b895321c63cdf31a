"""The version documents by which clients find the API.  Source: Networking API reference, "API versions"."""

from typing import Any

from pileus.core.context import Context
from pileus.core.op import PUBLIC, unguarded
from pileus.network.service import NETWORK

RESOURCES = (
    "networks", "subnets", "ports", "routers", "floatingips", "security-groups", "security-group-rules", "quotas",
    "agents", "extensions", "availability_zones", "network-ip-availabilities", "service-providers",
)  # fmt: skip


@NETWORK.op("GET", "", rule=PUBLIC, load=unguarded, base="")
def list_versions(ctx: Context) -> dict[str, Any]:
    """List the versions of the API."""
    link = {"rel": "self", "href": f"{ctx.url}/v2.0/"}
    return {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]}


@NETWORK.op("GET", "", rule=PUBLIC, load=unguarded)
def list_resources(ctx: Context) -> dict[str, Any]:
    """List the collections of the API."""
    return {
        "resources": [
            {
                "name": name.removesuffix("s"),
                "collection": name,
                "links": [{"rel": "self", "href": f"{ctx.url}/v2.0/{name}"}],
            }
            for name in RESOURCES
        ]
    }
