"""Times: seconds since the epoch inside, ISO 8601 in UTC outside."""

import re
from datetime import UTC, datetime


def iso(at: float | None) -> str | None:
    """2026-11-23T09:12:14Z, as compute and most services write times."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")[:19] + "Z"


def iso_micro(at: float | None) -> str | None:
    """2026-11-23T09:12:14.000000, as block storage and instance actions write times."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")[:26]


def iso_micro_z(at: float | None) -> str | None:
    """2026-11-23T09:12:14.000000Z, as identity writes times."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")[:26] + "Z"


def parse_iso(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time (UTC unless it says otherwise); raises ValueError."""
    if not re.match(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}|$)", text):
        raise ValueError(f"{text!r} is no ISO 8601 time")
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
