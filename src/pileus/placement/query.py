"""The little languages of placement's query strings: resources, traits, aggregates.  Pure.

Source: Placement API reference, "Request query parameters"; version history 1.3, 1.4, 1.17, 1.18, 1.21, 1.22,
1.24, 1.32, 1.39.
"""

from collections.abc import Collection, Iterable, Set

from msgspec import Struct

from pileus.core.errors import BadRequest
from pileus.core.fields import Version
from pileus.core.ids import is_uuid
from pileus.core.paging import Query
from pileus.placement.fits import MOST
from pileus.placement.service import BAD_VALUE

ILLEGAL_DUPLICATE = "placement.query.duplicate_key"


class Traits(Struct, frozen=True, kw_only=True):
    """One of each set of `required`, and none of `forbidden`."""

    required: tuple[frozenset[str], ...] = ()
    forbidden: frozenset[str] = frozenset()

    @property
    def names(self) -> set[str]:
        return set(self.forbidden).union(*self.required)

    def __bool__(self) -> bool:
        return bool(self.required or self.forbidden)

    def fit(self, having: Set[str]) -> bool:
        """Whether a provider with these traits will do."""
        return not (self.forbidden & having) and all(any_of & having for any_of in self.required)


class Members(Struct, frozen=True, kw_only=True):
    """In one of each set of `wanted` aggregates, and in none of `forbidden`."""

    wanted: tuple[frozenset[str], ...] = ()
    forbidden: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.wanted or self.forbidden)

    def fit(self, having: Set[str]) -> bool:
        """Whether a provider in these aggregates will do."""
        return not (self.forbidden & having) and all(any_of & having for any_of in self.wanted)


def only(query: Query, allowed: Iterable[str], *, repeatable: Collection[str] = ()) -> None:
    """Raise BadRequest for parameters that this version does not know, or that may not be repeated."""
    known = list(allowed)
    for name, values in query.values.items():
        if name not in known:
            raise BadRequest(
                f"Invalid query string parameters: {name[:80]!r} was unexpected; known here: {', '.join(known)}"
            )
        if len(values) > 1 and name not in repeatable:
            raise BadRequest(f"Invalid query string parameters: {name} may be given once only.", code=ILLEGAL_DUPLICATE)


def resources(text: str | None) -> dict[str, int]:
    """`VCPU:2,MEMORY_MB:1024` → amounts by class; raises BadRequest."""
    found: dict[str, int] = {}
    for part in (text or "").split(","):
        name, colon, amount = part.partition(":")
        if not name or not colon:
            raise BadRequest(
                "Badly formed resources parameter. Expected resources query string parameter in form: "
                f"?resources=VCPU:2,MEMORY_MB:1024. Got: {part[:80] or 'empty string'}."
            )
        if not (amount.isascii() and amount.isdigit() and 1 <= int(amount[:12]) <= MOST):
            raise BadRequest(
                f"Requested resource {name[:80]} expected positive integer amount, at most {MOST}. Got: {amount[:80]}."
            )
        found[name] = int(amount)
    return found


def traits(query: Query, name: str, version: Version) -> Traits:
    """`required=T1,!T2` and, from 1.39, `required=in:T3,T4`, repeated as often as one likes."""
    values = query.all(name)
    if len(values) > 1 and version < (1, 39):
        raise BadRequest(f"Query parameter {name} may be given once only before 1.39.", code=ILLEGAL_DUPLICATE)
    required: list[frozenset[str]] = []
    forbidden: set[str] = set()
    for value in values:
        if value.startswith("in:") and version >= (1, 39):
            required.append(frozenset(_listed(name, value.removeprefix("in:"))))
            continue
        for trait in _listed(name, value):
            if not trait.startswith("!"):
                required.append(frozenset((trait,)))
            elif version >= (1, 22):
                forbidden.add(trait[1:])
            else:
                raise BadRequest(f"Invalid query string parameters: {name}: {trait[:80]!r} is no trait name")
    clash = [any_of for any_of in required if any_of <= forbidden]
    if clash:
        shown = ", ".join(f"{name}: ({', '.join(sorted(any_of))})" for any_of in clash)
        raise BadRequest(f"Conflicting required and forbidden traits found in the following traits keys: {shown}")
    return Traits(required=tuple(required), forbidden=frozenset(forbidden))


def _listed(name: str, value: str) -> list[str]:
    """The parts of a comma-separated list, none of which may be empty, or start with `!` in an `in:` list."""
    parts = value.split(",")
    if any(not part.strip("!") for part in parts):
        raise BadRequest(
            f"Invalid query string parameters: Expected '{name}' parameter value of the form: "
            f"HW_CPU_X86_VMX,CUSTOM_MAGIC. Got: {value[:80]}"
        )
    return parts


def members(query: Query, name: str, version: Version) -> Members:
    """`member_of=A`, `in:A,B`, and from 1.32 `!A`, `!in:A,B`; repeated (1.24) they all hold."""
    values = query.all(name)
    if len(values) > 1 and version < (1, 24):
        raise BadRequest("Multiple member_of parameters are not supported", code=ILLEGAL_DUPLICATE)
    wanted: list[frozenset[str]] = []
    forbidden: set[str] = set()
    for value in values:
        negated = value.startswith("!") and version >= (1, 32)
        text = value[1:] if negated else value
        listed = text.removeprefix("in:").split(",")
        if len(listed) > 1 and not text.startswith("in:"):
            raise BadRequest(
                "Multiple values for 'member_of' must be prefixed with the 'in:' keyword using the valid "
                "microversion.", code=BAD_VALUE
            )  # fmt: skip
        if wrong := [one for one in listed if not is_uuid(one)]:
            raise BadRequest(
                f"Expected '{name}' parameter to contain valid UUID(s), got {wrong[0][:80]!r}.", code=BAD_VALUE
            )
        if negated:
            forbidden.update(listed)
        else:
            wanted.append(frozenset(listed))
    return Members(wanted=tuple(wanted), forbidden=frozenset(forbidden))
