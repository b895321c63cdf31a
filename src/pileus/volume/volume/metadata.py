"""A volume's metadata, and what it remembers of its image.

Source: Block Storage API reference, "Volume metadata", "Image metadata" actions.
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.errors import NotFound
from pileus.core.op import Reply
from pileus.volume.metadata import register
from pileus.volume.service import MEMBER, READER, action, fields_of, op
from pileus.volume.volume.create import load_volume
from pileus.volume.volume.rows import Volume, edit

PATH = "/volumes/{volume_id}/action"
RULE = "volume_extension:volume_image_metadata:"
PAIRS = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-zA-Z0-9-_:. /]{1,255}$"},
    "additionalProperties": {"type": "string", "maxLength": 65535},
}


def _write(ctx: Context, volume: Volume, pairs: dict[str, str]) -> None:
    edit(ctx.tx, volume, ctx.now, metadata=pairs)


register("/volumes/{volume_id}", "volume", load_volume, _write, creates="volume:create_volume_metadata")


@op("POST", PATH, action="os-set_image_metadata", rule=RULE + "set", allow=MEMBER, load=load_volume,
    takes=action("os-set_image_metadata", fields_of(("metadata",), metadata=PAIRS)))  # fmt: skip
def set_image_metadata(ctx: Context, volume: Volume, body: dict[str, Any]) -> Reply:
    """Add to what the volume remembers of its image."""
    pairs = {**volume.image_metadata, **body["metadata"]}
    edit(ctx.tx, volume, ctx.now, image_metadata=pairs)
    return Reply({"metadata": pairs})


@op("POST", PATH, action="os-unset_image_metadata", rule=RULE + "remove", allow=MEMBER, load=load_volume,
    takes=action("os-unset_image_metadata", fields_of(
        ("key",), key={"type": "string", "minLength": 1, "maxLength": 255})))  # fmt: skip
def unset_image_metadata(ctx: Context, volume: Volume, body: dict[str, Any]) -> Reply:
    """Forget one pair of it."""
    key = body["key"]
    if key not in volume.image_metadata:
        raise NotFound(f"Metadata item {key} was not found.")
    edit(ctx.tx, volume, ctx.now, image_metadata={k: v for k, v in volume.image_metadata.items() if k != key})
    return Reply()


@op("POST", PATH, action="os-show_image_metadata", rule=RULE + "show", allow=READER, load=load_volume, reads=True,
    takes=action("os-show_image_metadata"))  # fmt: skip
def show_image_metadata(volume: Volume) -> Reply:
    """Show all of it."""
    return Reply({"metadata": volume.image_metadata})
