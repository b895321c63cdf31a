"""The attributes of images and members, what bodies may hold, and how both are shown.

Source: Image API reference v2, "Images" and "Sharing".
"""

from collections.abc import Mapping
from typing import Any

from pileus.core.clock import iso
from pileus.core.context import Context
from pileus.core.errors import Forbidden
from pileus.core.fields import FIRST, Field, Fields
from pileus.core.schema import BOOLEAN, NATURAL, UUID, Schema
from pileus.image.rows import Image, Member

DISK_FORMATS = ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "ploop", "iso")
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
VISIBILITIES = ("community", "public", "private", "shared")
MEMBER_STATUSES = ("pending", "accepted", "rejected")
STATUSES = (
    "queued",
    "saving",
    "active",
    "killed",
    "deleted",
    "uploading",
    "importing",
    "pending_delete",
    "deactivated",
)
STORE = "file"  # the one store there is
MOST = 128  # tags, properties, members of one image

NAME: Schema = {"type": ["string", "null"], "maxLength": 255, "pattern": "^[^\\x00-\\x1f\\x7f]*$"}
TAG: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[^\\x00-\\x1f\\x7f]*$"}
TAGS: Schema = {"type": "array", "items": TAG}
PROPERTY: Schema = {"type": "string", "maxLength": 65535}
PROPERTY_NAME: Schema = {"minLength": 1, "maxLength": 255, "pattern": '^[^"\\\\\\x00-\\x1f\\x7f]*$'}


def _or_null(values: tuple[str, ...]) -> Schema:
    return {"enum": [*values, None]}


IMAGE_FIELDS = Fields(
    "image",
    "images",
    (
        Field("id", "crqs", UUID, doc="An identifier for the image"),
        Field("name", "cruqs", NAME, doc="Descriptive name for the image"),
        Field("status", "rqs", {"enum": list(STATUSES)}, doc="Status of the image"),
        Field("visibility", "crus", {"enum": list(VISIBILITIES)}, default="shared", doc="Scope of accessibility"),
        Field("protected", "cru", BOOLEAN, default=False, doc="If true, image will not be deletable."),
        Field("os_hidden", "cru", BOOLEAN, get="hidden", default=False, doc="If true, left out of default lists"),
        Field("owner", "crqs", {"type": ["string", "null"], "maxLength": 255}, get="project_id", doc="Owner"),
        Field("disk_format", "cruqs", _or_null(DISK_FORMATS), doc="Format of the disk"),
        Field("container_format", "cruqs", _or_null(CONTAINER_FORMATS), doc="Format of the container"),
        Field("min_disk", "cruqs", NATURAL, default=0, doc="Disk space in GiB that booting needs"),
        Field("min_ram", "cruqs", NATURAL, default=0, doc="RAM in MiB that booting needs"),
        Field("tags", "cru", TAGS, doc="List of strings related to the image"),
        Field("size", "rqs", get=lambda i, _: i.size if i.location else None, column="size", doc="Size in bytes"),
        Field("virtual_size", "r", get=lambda i, _: i.virtual_size if i.location else None, doc="Disk size in bytes"),
        Field("checksum", "rq", doc="MD5 hash of the image contents"),
        Field("os_hash_algo", "r", get=lambda i, _: "sha512" if i.hash_value else None, doc="Secure hash algorithm"),
        Field("os_hash_value", "rq", get="hash_value", doc="Hexdigest of the image contents by os_hash_algo"),
        Field("created_at", "rqs", get=lambda i, _: iso(i.created_at), column="created_at", doc="Registration time"),
        Field("updated_at", "rqs", get=lambda i, _: iso(i.updated_at), column="updated_at", doc="Last modification"),
        Field("self", "r", get=lambda i, _: f"/v2/images/{i.id}", doc="URL of the image"),
        Field("file", "r", get=lambda i, _: f"/v2/images/{i.id}/file", doc="URL of the image's data"),
        Field("schema", "r", get=lambda i, _: "/v2/schemas/image", doc="URL of the schema"),
    ),
)
BASE = frozenset(field.name for field in IMAGE_FIELDS.fields)
COLUMNS = {"os_hidden": "hidden", "owner": "project_id"}  # where the name differs
WRITABLE = {field.name: field.schema for field in IMAGE_FIELDS.at("u", FIRST)}
READ_ONLY = frozenset({
    "status", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "created_at", "updated_at",
    "self", "file", "schema", "direct_url", "stores",
})  # fmt: skip
RESERVED = frozenset({"deleted", "deleted_at", "is_public", "location", "locations"})

CREATE: Schema = {
    "type": "object",
    "properties": {
        **{field.name: field.schema for field in IMAGE_FIELDS.at("c", FIRST)},
        **{name: {} for name in READ_ONLY | RESERVED},  # refused by name, with 403, whatever they hold
    },
    "propertyNames": PROPERTY_NAME,
    "additionalProperties": PROPERTY,
}
UPDATE: Schema = {"type": "object", "properties": WRITABLE, "additionalProperties": PROPERTY}


def refuse_reserved(name: str) -> None:
    """Raise Forbidden for what is not the user's to set."""
    if name in READ_ONLY:
        raise Forbidden(f"Attribute '{name}' is read-only.")
    if name in RESERVED or name.startswith("os_glance_"):
        raise Forbidden(f"Attribute '{name}' is reserved.")


def render(image: Image, ctx: Context) -> dict[str, Any]:
    """An image as the API shows it: its properties stand beside its attributes."""
    shown: dict[str, Any] = {**image.properties, **IMAGE_FIELDS.render(image, ctx)}
    if image.location:
        shown["stores"] = STORE
    if image.fault and image.status != "active":  # the reserved names in which Glance reports failed imports
        shown["os_glance_failed_import"] = STORE
        shown["os_glance_fault"] = image.fault
    return shown


MEMBER_FIELDS = Fields(
    "member",
    "members",
    (
        Field("member_id", "r", doc="The project with which the image is shared"),
        Field("image_id", "r", doc="The image"),
        Field("status", "ru", {"enum": list(MEMBER_STATUSES)}, doc="Whether the member takes the image"),
        Field("created_at", "r", get=lambda m, _: iso(m.created_at), doc="When it was shared"),
        Field("updated_at", "r", get=lambda m, _: iso(m.updated_at), doc="Last change of the status"),
        Field("schema", "r", get=lambda m, _: "/v2/schemas/member", doc="URL of the schema"),
    ),
)


def render_member(member: Member, ctx: Context) -> Mapping[str, Any]:
    """A member as the API shows it."""
    return MEMBER_FIELDS.render(member, ctx)
