"""Identifiers: random ones for what users make, derived ones for what belongs to them."""

import re
import uuid

_NAMESPACE = uuid.UUID("9f1c7c3e-6b0e-5d43-8f59-1d0f9c2a7e11")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def new_id() -> str:
    """A random UUID in its canonical form (RFC 4122)."""
    return str(uuid.uuid4())


def new_hex() -> str:
    """A random UUID without dashes, as identity names its objects."""
    return uuid.uuid4().hex


def derived_id(owner: str, *parts: str) -> str:
    """The same UUID for the same owner and parts, so that a repeated step finds its own work."""
    return str(uuid.uuid5(_NAMESPACE, "/".join((owner, *parts))))


def is_uuid(text: object) -> bool:
    """Whether this is a UUID, with or without dashes (the API reference accepts both)."""
    return isinstance(text, str) and (
        _UUID.fullmatch(text) is not None or re.fullmatch(r"[0-9a-fA-F]{32}", text) is not None
    )
