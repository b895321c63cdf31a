"""Which images a caller may see, in SQL; what one may not see is 404."""

from pileus.core.context import Context
from pileus.core.errors import NotFound
from pileus.db.connect import Tx
from pileus.image.rows import IMAGES, MEMBERS, Image

SHARED_WITH = "exists (select 1 from image_members m where m.image_id = images.id and m.member_id = ?)"


def sees_all(ctx: Context) -> bool:
    """Administrators see every image."""
    return ctx.allows("context_is_admin")


def is_visible(tx: Tx, image: Image, project_id: str | None) -> bool:
    """Whether a project may see an image that somebody names by its id."""
    if image.project_id == project_id or image.visibility in ("public", "community"):
        return True
    return image.visibility == "shared" and MEMBERS.count(tx, image_id=image.id, member_id=project_id or "") > 0


def load_image(ctx: Context, image_id: str, **_path: str) -> Image:
    """An image that the caller may see; raises NotFound."""
    image = IMAGES.get(ctx.tx, id=image_id.lower(), deleting=False)
    if image is None or not (sees_all(ctx) or is_visible(ctx.tx, image, ctx.caller.project_id)):
        raise NotFound(f"No image found with ID {image_id}")
    return image
