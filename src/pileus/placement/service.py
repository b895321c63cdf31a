"""The placement API: its place, its error body, its shared rules and conventions.

Source: Placement API reference, "Errors", "Generations", "Version history".
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import Problem
from pileus.core.op import Reply, Service

CONCURRENT_UPDATE = "placement.concurrent_update"
DUPLICATE_NAME = "placement.duplicate_name"
INVENTORY_IN_USE = "placement.inventory.inuse"
PROVIDER_IN_USE = "placement.resource_provider.inuse"
PROVIDER_HAS_CHILDREN = "placement.resource_provider.cannot_delete_parent"
BAD_VALUE = "placement.query.bad_value"
MISSING_VALUE = "placement.query.missing_value"


def problem(error: Problem, request_id: str) -> dict[str, Any]:
    """Placement's error body: a list of errors, each with a code that programs may rely on."""
    fault: dict[str, Any] = {
        "status": error.status,
        "title": error.title,
        "detail": error.message,
        "code": error.code or "placement.undefined_code",
        "request_id": request_id,
    }
    if error.status == 406:
        fault |= {"max_version": "1.39", "min_version": "1.0"}
    return {"errors": [fault]}


PLACEMENT = Service(
    "placement",
    "placement",
    "/placement",
    "",
    problem=problem,
    versions=("1.0", "1.39"),
    version_header="placement",
)
PLACEMENT.rule("admin_api", "role:admin")
PLACEMENT.rule("service_api", "role:service")
PLACEMENT.rule("project_reader_api", "role:reader and project_id:%(project_id)s")
PLACEMENT.rule("admin_or_service_api", "role:admin or role:service")
PLACEMENT.rule("admin_or_project_reader_or_service_api", "role:admin or rule:project_reader_api or role:service")

ADMIN_OR_SERVICE = "rule:admin_or_service_api"
SERVICE = "rule:service_api"
READER = "rule:admin_or_project_reader_or_service_api"


def answer(ctx: Context, body: Any, *, status: int = 0, at: float | None = None, location: str = "") -> Reply:
    """A reply with the headers that tell how old the thing is (1.15) and where it stands."""
    headers = {"location": location} if location else {}
    if ctx.version >= (1, 15):
        headers |= {"last-modified": http_date(ctx.now if at is None else at), "cache-control": "no-cache"}
    return Reply(body, status=status, headers=headers)


def http_date(at: float) -> str:
    """RFC 9110 §5.6.7: Sun, 06 Nov 1994 08:49:37 GMT."""
    from email.utils import formatdate

    return formatdate(at, usegmt=True)
