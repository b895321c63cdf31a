"""Which versions of the image API are spoken.  Source: Image API reference, "Versions"."""

from typing import Any

from pileus.core.context import Context
from pileus.core.op import PUBLIC, unguarded
from pileus.image.service import IMAGE

_MINORS = (17, 16, 15, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)  # 2.14 is the cache API, which is not here


def show_versions(ctx: Context) -> dict[str, Any]:
    """List the versions of this API."""
    links = [{"rel": "self", "href": f"{ctx.url}/v2/"}]
    found = [
        {"id": f"v2.{minor}", "status": "CURRENT" if minor == _MINORS[0] else "SUPPORTED", "links": links}
        for minor in _MINORS
    ]
    return {"versions": found}


for _path, _status in (("", 300), ("/versions", 200), ("/v2", 200)):
    IMAGE.op("GET", _path, rule=PUBLIC, load=unguarded, base="", ok=_status)(show_versions)
