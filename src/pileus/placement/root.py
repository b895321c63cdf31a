"""The version document.  Source: Placement API reference, "API Versions"."""

from typing import Any

from pileus.core.context import Context
from pileus.core.op import PUBLIC, Reply, unguarded
from pileus.placement.service import PLACEMENT, answer


@PLACEMENT.op("GET", "/", rule=PUBLIC, load=unguarded)
def list_versions(ctx: Context) -> Reply:
    """List versions."""
    version: dict[str, Any] = {
        "id": "v1.0",
        "max_version": "1.39",
        "min_version": "1.0",
        "status": "CURRENT",
        "links": [{"rel": "self", "href": f"{ctx.url}/"}],
    }
    return answer(ctx, {"versions": [version]})
