"""Changes of an image as lists of operations, in Glance's two patch languages.

v2.1: [{"op": "replace", "path": "/name", "value": "x"}]  (RFC 6902, restricted)
v2.0: [{"replace": "/name", "value": "x"}]
Source: Image API reference v2, "Update image" and "HTTP PATCH media types".
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, structs

from pileus.core.errors import BadRequest, Conflicted, Forbidden, TooLarge, UnsupportedMediaType
from pileus.core.schema import compile_schema
from pileus.image.fields import COLUMNS, MOST, PROPERTY_NAME, UPDATE, WRITABLE, refuse_reserved
from pileus.image.rows import Image

OPERATIONS = ("add", "replace", "remove")
_V20 = "application/openstack-images-v2.0-json-patch"
_V21 = "application/openstack-images-v2.1-json-patch"


class Change(Struct, frozen=True, kw_only=True):
    """One operation on one attribute or property."""

    op: str
    name: str
    value: Any = None
    strict: bool = False  # v2.0: `add` of what is there is a conflict


def parse(body: Any, content_type: str) -> list[Change]:
    """The operations of a body; raises BadRequest, Forbidden (read-only), UnsupportedMediaType."""
    content_type = content_type.partition(";")[0].strip().lower()
    if content_type not in (_V20, _V21):
        raise UnsupportedMediaType(
            f"Unsupported Content-Type {content_type[:80]}: send {_V21}.", headers={"accept-patch": f"{_V21}, {_V20}"}
        )
    if not isinstance(body, list):
        raise BadRequest("Request body must be a JSON array of operation objects.")
    read = _read_v20 if content_type == _V20 else _read_v21
    return [_check(read(_operation(item))) for item in body]


def _operation(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise BadRequest("Operations must be JSON objects.")
    return item


def _read_v21(item: dict[str, Any]) -> Change:
    op = item.get("op")
    if op not in OPERATIONS:
        raise BadRequest(f"Operations must have a member 'op', one of {', '.join(OPERATIONS)}.")
    return Change(op=op, name=_name(item.get("path")), value=_value(item, op))


def _read_v20(item: dict[str, Any]) -> Change:
    found = [op for op in OPERATIONS if op in item]
    if len(found) != 1:
        raise BadRequest('Operation objects must contain exactly one member named "add", "remove", or "replace".')
    return Change(op=found[0], name=_name(item[found[0]]), value=_value(item, found[0]), strict=True)


def _value(item: dict[str, Any], op: str) -> Any:
    if op != "remove" and "value" not in item:
        raise BadRequest(f'Operation "{op}" requires a member named "value".')
    return item.get("value")


def _name(pointer: Any) -> str:
    """The one name of a JSON pointer (RFC 6901)."""
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        raise BadRequest(f'Pointer `{str(pointer)[:80]}` does not start with "/".')
    shown = pointer[:80]
    if re.search(r"~(?![01])", pointer):
        raise BadRequest(f'Pointer `{shown}` contains "~" not part of a recognized escape sequence.')
    parts = [part.replace("~1", "/").replace("~0", "~").strip() for part in pointer[1:].split("/")]
    if not all(parts):
        raise BadRequest(f"Pointer `{shown}` does not name an attribute.")
    if parts[0] == "locations":
        raise Forbidden("It's not allowed to add/remove/replace locations: they are the store's own.")
    if len(parts) != 1:
        raise BadRequest(f"Invalid JSON pointer for this resource: '{shown}'")
    return parts[0]


_check_value = compile_schema(UPDATE)
_check_name = compile_schema({"type": "object", "propertyNames": PROPERTY_NAME})


def _check(change: Change) -> Change:
    """What may be changed at all, and to what; `owner` is decided by policy later."""
    if change.name == "id":
        raise Forbidden("Attribute 'id' is read-only.")
    refuse_reserved(change.name)
    _check_name({change.name: None})
    if change.op != "remove" and change.name != "owner":
        _check_value({change.name: change.value})
    if change.name == "owner" and not (isinstance(change.value, str) and 0 < len(change.value) <= 255):
        raise BadRequest("Invalid input for field/attribute owner: it must be the id of a project.")
    return change


def apply(image: Image, changes: list[Change], allow: Callable[[str, Any], None]) -> dict[str, Any]:
    """The columns that change; `allow(name, value)` raises for what this caller may not set.

    Raises Conflicted where the image lacks or already has what an operation names, Forbidden where an
    attribute cannot be removed or no longer be changed, TooLarge past the limits.
    """
    columns: dict[str, Any] = {}
    properties = dict(image.properties)
    for change in changes:
        if change.name in WRITABLE or change.name == "owner":
            columns |= _set_attribute(image, change, allow)
        else:
            _set_property(properties, change)
    if len(properties) > MOST:
        raise TooLarge(f"Maximum number of properties exceeded: at most {MOST} are allowed.")
    if properties != image.properties:
        columns["properties"] = properties
    return columns


def _set_attribute(image: Image, change: Change, allow: Callable[[str, Any], None]) -> Mapping[str, Any]:
    if change.op == "remove":
        raise Forbidden(f"Property {change.name} may not be removed.")
    if change.op == "add" and change.strict:
        raise Conflicted(f"Property {change.name} already present.")
    if change.name in ("disk_format", "container_format") and image.status != "queued":
        raise Forbidden(f"Attribute {change.name} can be only replaced for a queued image.")
    allow(change.name, change.value)
    value = list(dict.fromkeys(change.value)) if change.name == "tags" else change.value
    if change.name == "tags" and len(value) > MOST:
        raise TooLarge(f"Maximum number of tags exceeded: at most {MOST} are allowed.")
    return {COLUMNS.get(change.name, change.name): value}


def _set_property(properties: dict[str, str], change: Change) -> None:
    there = change.name in properties
    if change.op == "add" and there and change.strict:
        raise Conflicted(f"Property {change.name} already present.")
    if change.op != "add" and not there:
        raise Conflicted(f"Property {change.name} does not exist.")
    if change.op == "remove":
        del properties[change.name]
    else:
        properties[change.name] = change.value


def changed(image: Image, columns: Mapping[str, Any]) -> Image:
    """The image as it is after the changes."""
    return structs.replace(image, **columns)
