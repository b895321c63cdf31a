"""Tasks of images: the imports that were asked for, told from the image's history and its status.

Source: Image API reference v2.12, "Show tasks associated with image".
"""

from typing import Any

from pileus.core.clock import iso
from pileus.core.context import Context
from pileus.core.events import Event, story
from pileus.image.access import load_image
from pileus.image.rows import Image
from pileus.image.service import IMAGE


def _shown(image: Image, asked: Event, *, last: bool) -> dict[str, Any]:
    """One import; only the last of an image may still be under way, or be what made it active."""
    status = {"importing": "processing", "active": "success", "deactivated": "success"}.get(image.status, "failure")
    failed = not last or status == "failure"
    return {
        "id": asked.id, "type": "api_image_import", "status": status if last else "failure", "owner": image.project_id,
        "image_id": image.id, "user_id": asked.user_id, "request_id": asked.request_id, "created_at": iso(asked.at),
        "updated_at": iso(image.updated_at if last else asked.at), "expires_at": None, "result": None,
        "message": (image.fault or "") if failed and last else "",
        "input": {"image_id": image.id, "import_req": {"method": {"name": asked.data.get("method", "")}}},
    }  # fmt: skip


@IMAGE.op("GET", "/images/{image_id}/tasks", rule="get_image", load=load_image)
def list_tasks(ctx: Context, image: Image) -> dict[str, Any]:
    """List the imports of an image."""
    asked = [event for event in story(ctx.tx, "image", image.id) if event.action == "import"]
    return {"tasks": [_shown(image, event, last=event is asked[-1]) for event in asked]}
