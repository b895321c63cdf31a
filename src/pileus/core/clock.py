"""Times: seconds since the epoch inside, ISO 8601 in UTC outside."""

import re
import time
from datetime import UTC, datetime

_FORMAT = "%Y-%m-%dT%H:%M:%S"  # by strftime: a long list shows thousands of times, and datetime takes thrice as long


def iso(at: float | None) -> str | None:
    """2026-11-23T09:12:14Z, as compute and most services write times."""
    return None if at is None else time.strftime(_FORMAT, time.gmtime(at)) + "Z"


def iso_micro(at: float | None) -> str | None:
    """2026-11-23T09:12:14.000000, as block storage and instance actions write times."""
    if at is None:
        return None
    seconds, fraction = divmod(at, 1.0)
    micro = round(fraction * 1e6)
    if micro == 1_000_000:
        seconds, micro = seconds + 1, 0
    return f"{time.strftime(_FORMAT, time.gmtime(seconds))}.{micro:06}"


def iso_micro_z(at: float | None) -> str | None:
    """2026-11-23T09:12:14.000000Z, as identity writes times."""
    return None if at is None else f"{iso_micro(at)}Z"


def parse_iso(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time (UTC unless it says otherwise); raises ValueError."""
    if not re.match(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}|$)", text):
        raise ValueError(f"{text!r} is no ISO 8601 time")
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
