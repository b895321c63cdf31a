"""Regular expressions of list filters, in time that grows with text times pattern whatever a client sends.

Understood are literals, `.`, classes (`[a-z0-9]`, `[^x]`), `\\d` `\\w` `\\s`, `*`, `+`, `?`, and anchors at the
ends: what upstream's database takes of what clients use.  Groups and alternatives are refused, since with them a
pattern could cost exponential time (CWE-1333).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from pileus.core.errors import BadRequest

MOST = 128  # characters of a pattern
_TOKEN = re.compile(r"(\[\^?\]?[^\]]*\]|\\.|\.|[^\\\[\]])([*+?]?)", re.DOTALL)


@dataclass(frozen=True)
class Token:
    """One element: which characters it takes, and how often."""

    takes: Callable[[str], bool]
    many: bool
    optional: bool
    literal: str  # the character, when it is just that, taken exactly once


def _token(text: str, often: str) -> Token:
    many, optional = often in ("*", "+"), often in ("*", "?")
    plain = text[-1] if len(text) == 2 and not text[1].isalnum() else text
    if len(plain) == 1 and text != ".":
        return Token(lambda char: char == plain, many, optional, "" if often else plain)
    try:
        one = re.compile(text, re.DOTALL)
    except re.error:
        raise BadRequest(f"Invalid regular expression: {text[:40]}") from None
    return Token(lambda char: one.fullmatch(char) is not None, many, optional, "")


class Pattern:
    """A compiled filter; raises BadRequest for what is not understood."""

    def __init__(self, text: str):
        if len(text) > MOST or re.search(r"(?<!\\)[(){}|]", text):
            raise BadRequest(f"This regular expression is not supported: {text[:80]}")
        self.at_start, self.at_end = text.startswith("^"), text.endswith("$") and not text.endswith("\\$")
        inner = text[int(self.at_start) : len(text) - int(self.at_end)]
        if "".join(m.group(0) for m in _TOKEN.finditer(inner)) != inner or re.search(r"(?<!\\)[*+?]{2}|^[*+?]", inner):
            raise BadRequest(f"This regular expression is not supported: {text[:80]}")
        self.tokens = [_token(m.group(1), m.group(2)) for m in _TOKEN.finditer(inner)]
        self._many = sum(1 << place for place, token in enumerate(self.tokens) if token.many)
        self._optional = sum(1 << place for place, token in enumerate(self.tokens) if token.optional)
        self._takes: dict[str, int] = {}  # character → the tokens that take it, one bit each

    @property
    def literal(self) -> str:
        """The longest run of plain characters, which every match holds: for the database to look for."""
        runs = "".join(t.literal or "\0" for t in self.tokens).split("\0")
        return max(runs, key=len)

    @property
    def plain(self) -> bool:
        """Whether it says no more than `literal`."""
        return not self.at_start and not self.at_end and all(t.literal for t in self.tokens)

    def found_in(self, text: str) -> bool:
        """Whether some part of the text fits: all ways through the tokens are followed at once, one bit each."""
        end = 1 << len(self.tokens)
        anew = 0 if self.at_start else 1
        places = self._skip(1)
        for char in text:
            if places & end and not self.at_end:
                return True
            taken = places & self._taking(char)
            places = self._skip(taken << 1 | taken & self._many | anew)
        return places & end != 0

    def _taking(self, char: str) -> int:
        if char not in self._takes:
            self._takes[char] = sum(1 << place for place, token in enumerate(self.tokens) if token.takes(char))
        return self._takes[char]

    def _skip(self, places: int) -> int:
        """Add what is reached by leaving out what may be left out."""
        while more := ((places & self._optional) << 1) & ~places:
            places |= more
        return places
