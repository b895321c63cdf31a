"""The JSON schemas by which clients learn what images and members look like, and what this site can do.

Source: Image API reference v2, "Image schemas", "Import information", "Stores", "Usage".
"""

from typing import Any

from pileus.core.context import Context
from pileus.core.fields import FIRST, Fields
from pileus.core.op import collection
from pileus.image.api import IMPORT_METHODS
from pileus.image.fields import IMAGE_FIELDS, MEMBER_FIELDS, STORE
from pileus.image.quota import QUOTA
from pileus.image.service import ADMIN, IMAGE


def document(fields: Fields, *, extra: bool = False) -> dict[str, Any]:
    """The schema of one resource, derived from its table of fields."""
    shown: dict[str, Any] = {}
    for field in fields.at("r", FIRST):
        read_only = {} if set("cu") & set(field.on) else {"readOnly": True}
        shown[field.name] = {"description": field.doc, **(field.schema or {"type": ["null", "string"]}), **read_only}
    whole: dict[str, Any] = {"name": fields.key, "properties": shown}
    return {**whole, "additionalProperties": {"type": "string"}} if extra else whole


def collection_document(fields: Fields, inner: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list of resources."""
    links = [{"rel": rel, "href": f"{{{rel}}}"} for rel in ("first", "next")] + [
        {"rel": "describedby", "href": "{schema}"}
    ]
    properties = {
        fields.plural: {"type": "array", "items": inner},
        **{name: {"type": "string"} for name in ("first", "next", "schema")},
    }
    return {"name": fields.plural, "properties": properties, "links": links}


IMAGE_SCHEMA = document(IMAGE_FIELDS, extra=True)
MEMBER_SCHEMA = document(MEMBER_FIELDS)
SCHEMAS = {
    "image": IMAGE_SCHEMA,
    "images": collection_document(IMAGE_FIELDS, IMAGE_SCHEMA),
    "member": MEMBER_SCHEMA,
    "members": collection_document(MEMBER_FIELDS, MEMBER_SCHEMA),
}


def _answering(name: str) -> Any:
    def show_schema() -> dict[str, Any]:
        return SCHEMAS[name]

    show_schema.__doc__ = f"Show the schema of {name}."
    return show_schema


for _name in SCHEMAS:
    IMAGE.op("GET", f"/schemas/{_name}", rule="get_images", load=collection)(_answering(_name))


@IMAGE.op("GET", "/info/import", rule="get_images", load=collection)
def show_import_methods() -> dict[str, Any]:
    """Show by which methods images can be imported."""
    methods = {"description": "Import methods available.", "type": "array", "value": list(IMPORT_METHODS)}
    return {"import-methods": methods}


@IMAGE.op("GET", "/info/stores", rule="get_images", load=collection)
def list_stores() -> dict[str, Any]:
    """List where the data of images may be kept."""
    return {"stores": [{"id": STORE, "description": "Files of the controller", "default": "true"}]}


@IMAGE.op("GET", "/info/stores/detail", rule="stores_info_detail", allow=ADMIN, load=collection)
def list_stores_detailed() -> dict[str, Any]:
    """List stores with what administrators may know."""
    store = {**list_stores()["stores"][0], "type": "file", "weight": 0, "properties": {}}
    return {"stores": [store]}


@IMAGE.op("GET", "/info/usage", rule="get_images", load=collection)
def show_usage(ctx: Context) -> dict[str, Any]:
    """Show how much of its limits the caller's project uses; sizes in MiB, -1 is unlimited."""
    limits, usage = QUOTA.limits(ctx.tx, ctx.project_id), QUOTA.usage(ctx.tx, ctx.project_id)
    return {"usage": {name: {"limit": limits[name], "usage": usage[name]} for name in limits}}
