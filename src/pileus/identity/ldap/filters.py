"""LDAP filters (RFC 4515): every value is escaped, so that none of them can be anything but a value."""

import string
from collections.abc import Iterable
from uuid import UUID

GUID = "objectguid"  # Active Directory's id, which is bytes: shown as a UUID
_PLAIN = frozenset((string.ascii_letters + string.digits).encode())


def escaped(text: str) -> str:
    """A value as it stands in a filter: all but letters and digits by its number, since parsers also strip blanks."""
    return "".join(chr(byte) if byte in _PLAIN else f"\\{byte:02x}" for byte in text.encode("utf-8", "replace"))


def value_of(attribute: str, text: str) -> str:
    """The escaped value of an attribute that we show as this text."""
    if attribute.lower() != GUID:
        return escaped(text)
    try:
        return "".join(f"\\{byte:02x}" for byte in UUID(text).bytes_le)
    except ValueError:
        return escaped(text)  # which nothing equals


def text_of(attribute: str, raw: bytes) -> str:
    """The text as which we show a value of an attribute; raises ValueError for bytes that are no text."""
    if attribute.lower() == GUID and len(raw) == 16:
        return str(UUID(bytes_le=raw))
    return raw.decode()


def equals(attribute: str, text: str) -> str:
    """The attribute has this value, in the directory's own sense of equal."""
    return f"({attribute}={value_of(attribute, text)})"


def compared(attribute: str, comparison: str, text: str) -> str:
    """The attribute equals, contains, starts or ends with a text."""
    if comparison == "equals" or not text:
        return equals(attribute, text) if text else f"({attribute}=*)"
    before = "*" if comparison in ("contains", "endswith") else ""
    after = "*" if comparison in ("contains", "startswith") else ""
    return f"({attribute}={before}{escaped(text)}{after})"


def both(parts: Iterable[str | None]) -> str:
    """All of these filters; what is None or empty asks for nothing."""
    return "(&" + "".join(part for part in parts if part) + ")"


def any_of(parts: Iterable[str]) -> str:
    """One of these filters."""
    return "(|" + "".join(parts) + ")"
