"""The image API (Glance v2): its place, its error body, the rules that several operations share.

Source: Image API reference, v2; default rules from Glance's policy reference.
"""

from typing import Any

from pileus.core.errors import Problem
from pileus.core.op import Service


def problem(error: Problem, _request_id: str) -> dict[str, Any]:
    """The error body that Glance gives to clients that accept JSON."""
    return {"message": error.message, "code": f"{error.status} {error.title}", "title": error.title}


IMAGE = Service("image", "glance", "/image", "/v2", problem=problem, empty_ids=False)

ADMIN = "role:admin"
OWNER = "role:admin or (role:member and project_id:%(project_id)s)"
_SEEN = (
    "project_id:%(project_id)s or project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s"
    " or 'shared':%(visibility)s"
)
SEEN = f"role:admin or (role:reader and ({_SEEN}))"
USED = f"role:admin or (role:member and ({_SEEN}))"
READER = "role:admin or (role:reader and project_id:%(project_id)s)"

IMAGE.rule("context_is_admin", ADMIN)
IMAGE.rule("publicize_image", ADMIN)
IMAGE.rule("communitize_image", OWNER)
IMAGE.rule("download_image", USED)
IMAGE.rule("upload_image", OWNER)
