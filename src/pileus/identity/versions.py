"""Version documents, by which clients find the API.  Source: Identity API reference, "API versions"."""

from typing import Any

from pileus.core.context import Context
from pileus.core.op import PUBLIC, Reply, unguarded
from pileus.identity.service import IDENTITY

VERSION = "v3.14"
MULTIPLE_CHOICES = 300


def version_document(ctx: Context) -> dict[str, Any]:
    """The one version that there is."""
    return {
        "id": VERSION,
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{ctx.url}/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


@IDENTITY.op("GET", "", base="", rule=PUBLIC, load=unguarded, ok=MULTIPLE_CHOICES)
def list_versions(ctx: Context) -> Reply:
    """List the versions of the API."""
    return Reply({"versions": {"values": [version_document(ctx)]}}, headers={"location": f"{ctx.url}/v3/"})


@IDENTITY.op("GET", "", rule=PUBLIC, load=unguarded)
def show_version(ctx: Context) -> dict[str, Any]:
    """Show version 3."""
    return {"version": version_document(ctx)}
