"""The Range header for one part of an image.  Source: RFC 9110 §14.2."""

import re

from msgspec import Struct


class Part(Struct, frozen=True, kw_only=True):
    """What is sent of `size` bytes."""

    first: int
    length: int
    partial: bool


def parse_range(text: str, size: int) -> Part | None:
    """The part that a Range header asks for, all of it without one; None when it cannot be served."""
    if not text:
        return Part(first=0, length=size, partial=False)
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", text.strip())
    if match is None or match[0].endswith("=-"):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        return Part(first=size - length, length=length, partial=True) if length else None
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    return Part(first=first, length=last - first + 1, partial=True) if first <= last else None
