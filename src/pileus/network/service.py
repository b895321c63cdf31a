"""The networking API (Neutron v2.0): its place, its error body, the rules that its resources share.

Source: Networking API reference, v2.0; networking guide, "Authorization policy enforcement".
"""

from typing import Any

from pileus.core.errors import Problem
from pileus.core.op import Service

_TYPES = {
    400: "HTTPBadRequest",
    401: "Unauthorized",
    403: "PolicyNotAuthorized",
    404: "HTTPNotFound",
    405: "HTTPMethodNotAllowed",
    409: "HTTPConflict",
    412: "HTTPPreconditionFailed",
    413: "HTTPRequestEntityTooLarge",
    415: "HTTPUnsupportedMediaType",
    500: "HTTPInternalServerError",
    501: "HTTPNotImplemented",
    503: "ServiceUnavailable",
}


def problem(error: Problem, _request_id: str) -> dict[str, Any]:
    """Networking's error body: clients choose what to do by `type`."""
    kind = error.kind or _TYPES.get(error.status, type(error).__name__)
    return {"NeutronError": {"type": kind, "message": error.message, "detail": ""}}


NETWORK = Service("network", "neutron", "/networking", "/v2.0", problem=problem)

for name, text in {
    "context_is_admin": "role:admin",
    "service_api": "role:service",
    "owner": "project_id:%(project_id)s",
    "admin_or_owner": "rule:context_is_admin or rule:owner",
    "admin_only": "rule:context_is_admin",
    "regular_user": "",
    "network_owner": "project_id:%(network_project_id)s",
    "admin_or_network_owner": "rule:context_is_admin or rule:network_owner",
    "admin_owner_or_network_owner": "rule:owner or rule:admin_or_network_owner",
    "sg_owner": "project_id:%(security_group_project_id)s",
    "admin_or_sg_owner": "rule:context_is_admin or rule:sg_owner",
    "shared": "field:networks:shared=True",
    "external": "field:networks:external=True",
    "network_device": "field:port:device_owner=~^network:",
    "default": "rule:admin_or_owner",
}.items():
    NETWORK.rule(name, text)

ADMIN = "rule:admin_only"
SERVICE = "rule:service_api"
MEMBER = "role:member and project_id:%(project_id)s"
READER = "role:reader and project_id:%(project_id)s"
ADMIN_OR_MEMBER = f"({ADMIN}) or ({MEMBER})"
ADMIN_OR_READER = f"({ADMIN}) or ({READER})"
NET_OWNER_MEMBER = "role:member and rule:network_owner"
NET_OWNER_READER = "role:reader and rule:network_owner"
