"""The mapping engine: from what an identity provider asserts to a user, groups and projects.  Pure.

Source: Identity administration guide, "Mapping Combinations".  Values of an assertion only ever fill the places that
the rules leave for them: they are never read as lists, formats or patterns themselves.
"""

import ast
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from pileus.core.errors import BadRequest
from pileus.core.schema import Schema, short

Attributes = Mapping[str, Sequence[str]]  # of an assertion: each has one or more values
VALUE_LENGTH = 4096  # characters of a value that patterns are tried on; a longer one fits no rule
PATTERN_SECONDS = 0.1
_PLACE = re.compile(r"\{(\d{1,3})\}")

_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_DOMAIN: Schema = {"type": "object", "properties": {"id": _TEXT, "name": _TEXT}, "additionalProperties": False}
_GROUP: Schema = {
    "type": "object", "properties": {"id": _TEXT, "name": _TEXT, "domain": _DOMAIN}, "additionalProperties": False,
}  # fmt: skip
_USER: Schema = {
    "type": "object", "additionalProperties": False,
    "properties": {"id": _TEXT, "name": _TEXT, "email": _TEXT, "domain": _DOMAIN,
                   "type": {"enum": ["ephemeral", "local"]}},
}  # fmt: skip
_ROLES: Schema = {
    "type": "array", "maxItems": 64,
    "items": {"type": "object", "required": ["name"], "properties": {"name": _TEXT}, "additionalProperties": False},
}  # fmt: skip
_VALUES: Schema = {"type": "array", "maxItems": 1000, "items": {"type": "string", "maxLength": 1024}}
_REMOTE: Schema = {
    "type": "object", "required": ["type"], "additionalProperties": False,
    "properties": {"type": _TEXT, "any_one_of": _VALUES, "not_any_of": _VALUES, "blacklist": _VALUES,
                   "whitelist": _VALUES, "regex": {"type": "boolean"}},
}  # fmt: skip
CONDITIONS = ("any_one_of", "not_any_of", "blacklist", "whitelist")


def _rules_schema(project: Mapping[str, Schema]) -> Schema:
    """The schema of rules whose projects have these attributes."""
    projects: Schema = {
        "type": "array", "maxItems": 64,
        "items": {"type": "object", "required": ["name", "roles"], "properties": {**project},
                  "additionalProperties": False},
    }  # fmt: skip
    local: Schema = {
        "type": "object", "additionalProperties": False,
        "properties": {"user": _USER, "projects": projects, "group": _GROUP, "domain": _DOMAIN,
                       "groups": {"type": "string", "maxLength": 4096},
                       "group_ids": {"type": "string", "maxLength": 4096}},
    }  # fmt: skip
    rule: Schema = {
        "type": "object", "required": ["local", "remote"], "additionalProperties": False,
        "properties": {"local": {"type": "array", "items": local, "maxItems": 64},
                       "remote": {"type": "array", "items": _REMOTE, "minItems": 1, "maxItems": 64}},
    }  # fmt: skip
    return {"type": "array", "items": rule, "minItems": 1, "maxItems": 256}


# By schema version: in 2.0 users and projects may name a domain of their own.
RULES: Mapping[str, Schema] = {
    "1.0": _rules_schema({"name": _TEXT, "roles": _ROLES}),
    "2.0": _rules_schema({"name": _TEXT, "roles": _ROLES, "domain": _DOMAIN}),
}


class Unmapped(Exception):
    """Why an assertion leads to nobody; for the audit trail, never for the client."""


class DomainRef(Struct, frozen=True, kw_only=True):
    """A domain by id or name."""

    id: str = ""
    name: str = ""


class GroupRef(Struct, frozen=True, kw_only=True):
    """A group by its id, or by its name in a domain."""

    id: str = ""
    name: str = ""
    domain: DomainRef | None = None


class ProjectRef(Struct, frozen=True, kw_only=True):
    """A project that the user has roles on; it is made where there is none.  No domain: the provider's."""

    name: str
    roles: tuple[str, ...]  # names
    domain: DomainRef | None = None


class Mapped(Struct, frozen=True, kw_only=True):
    """What rules make of an assertion."""

    kind: Literal["ephemeral", "local"] = "ephemeral"
    user_id: str = ""  # unique at the provider; of a local user the id here
    name: str = ""
    email: str = ""
    domain: DomainRef | None = None  # of the user; None: the provider's
    groups: tuple[GroupRef, ...] = ()
    projects: tuple[ProjectRef, ...] = ()


def check_rules(rules: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what the schema cannot say; raises BadRequest naming the field."""
    for at, rule in enumerate(rules):
        for place, remote in enumerate(rule["remote"]):
            here = f"rules/{at}/remote/{place}"
            given = [name for name in CONDITIONS if name in remote]
            if len(given) > 1:
                raise BadRequest(f"{here}: only one of {', '.join(CONDITIONS)}.")
            if "regex" in remote and not given:
                raise BadRequest(f"{here}/regex: there is nothing that it could be about.")
            if remote.get("regex"):
                check_patterns(f"{here}/{given[0]}", remote[given[0]])
        for place, local in enumerate(rule["local"]):
            check_local(f"rules/{at}/local/{place}", local)


def check_patterns(here: str, patterns: Sequence[str]) -> None:
    """Refuse what is no regular expression."""
    import regex

    for at, pattern in enumerate(patterns):
        try:
            regex.compile(pattern)
        except (regex.error, OverflowError, RecursionError) as error:
            raise BadRequest(f"{here}/{at}: no regular expression: {short(str(error), 200)}.") from None


def check_local(here: str, local: Mapping[str, Any]) -> None:
    """Refuse groups that name no group."""
    group = local.get("group")
    if group is not None and ("id" in group) == ("name" in group):
        raise BadRequest(f"{here}/group: either id, or name and domain.")
    if group is not None and "name" in group and not group.get("domain"):
        raise BadRequest(f"{here}/group/domain: a group named by its name needs the id or name of its domain.")
    if "groups" in local and not local.get("domain"):
        raise BadRequest(f"{here}/domain: groups are names, which need the id or name of their domain.")


def apply(rules: Sequence[Mapping[str, Any]], schema_version: str, attributes: Attributes) -> Mapped:
    """What the rules make of an assertion; raises Unmapped.  Source: as the module's."""
    found: list[Mapping[str, Any]] = []
    patience = Patience()
    for rule in rules:
        direct = direct_maps(rule["remote"], attributes, patience)
        if direct is not None:
            found.extend(filled(local, direct) for local in rule["local"])
    if not found:
        raise Unmapped("no rule of the mapping fits the assertion")
    users = [local for local in found if "user" in local]
    owner = users[0] if users else {}
    user = owner.get("user", {})
    honors_domains = schema_version == "2.0"
    domain = domain_ref(user.get("domain") or owner.get("domain")) if honors_domains or is_local(user) else None
    return Mapped(
        kind="local" if is_local(user) else "ephemeral", user_id=user.get("id", ""), name=user.get("name", ""),
        email=user.get("email", ""), domain=domain, groups=groups_of(found),
        projects=tuple(p for local in found for p in projects_of(local, honors_domains=honors_domains)),
    )  # fmt: skip


def is_local(user: Mapping[str, Any]) -> bool:
    """Whether rules mean a user who is here already."""
    return user.get("type") == "local"


class Patience:
    """Time for the patterns of one log-in, which one of a kind can use up by itself ((a+)+$ on many a's and a b)."""

    def __init__(self, seconds: float = PATTERN_SECONDS):
        self.left = seconds

    def search(self, pattern: str, value: str) -> bool:
        """Whether a pattern is found in a value; raises Unmapped when no time is left."""
        import regex  # 30 ms of start time that few processes need

        began = time.monotonic()
        try:
            return regex.search(pattern, value, timeout=max(self.left, 0.001)) is not None
        except TimeoutError:
            raise Unmapped(f"the patterns of the mapping take too long: {pattern[:80]!r}") from None
        finally:
            self.left -= time.monotonic() - began


def direct_maps(
    remote: Sequence[Mapping[str, Any]], attributes: Attributes, patience: Patience
) -> list[list[str]] | None:
    """The values that the places {0}, {1}, … of a rule stand for; None when the rule does not apply."""
    found = []
    for wanted in remote:
        values = list(attributes.get(wanted["type"], ()))
        if not values:
            return None
        matches = fits(wanted, patience)
        if "any_one_of" in wanted:
            if not any(matches(value) for value in values):
                return None
        elif "not_any_of" in wanted:
            if any(matches(value) or len(value) > VALUE_LENGTH for value in values):
                return None
        elif "blacklist" in wanted:
            found.append([value for value in values if not matches(value) and len(value) <= VALUE_LENGTH])
        elif "whitelist" in wanted:
            found.append([value for value in values if matches(value)])
        else:
            found.append(values)
    return found


def fits(wanted: Mapping[str, Any], patience: Patience) -> Callable[[str], bool]:
    """Whether a value is one of those that a condition names, or fits one of its patterns."""
    named: list[str] = next((wanted[name] for name in CONDITIONS if name in wanted), [])
    if not wanted.get("regex"):
        return set(named).__contains__
    return lambda value: len(value) <= VALUE_LENGTH and any(patience.search(p, value) for p in named)


def filled(local: Mapping[str, Any], direct: list[list[str]]) -> dict[str, Any]:
    """A local part with its places filled; `groups` and `group_ids` become lists."""
    found: dict[str, Any] = {}
    for name, value in local.items():
        if name in ("groups", "group_ids"):
            found[name] = many(value, direct)
        elif isinstance(value, Mapping):
            found[name] = filled(value, direct)
        elif isinstance(value, list):
            found[name] = [filled(inner, direct) for inner in value]
        else:
            found[name] = one(value, direct)
    return found


def values_at(place: str, direct: list[list[str]]) -> list[str]:
    """The values of a place; raises Unmapped when the rule has no attribute for it."""
    if int(place) >= len(direct):
        raise Unmapped(f"the mapping has no attribute for the place {{{place}}}")
    return direct[int(place)]


def one(text: str, direct: list[list[str]]) -> str:
    """A text with its places filled, each by the one value that there must be."""

    def value(match: re.Match[str]) -> str:
        values = values_at(match[1], direct)
        if len(values) != 1:
            raise Unmapped(f"{text[:80]!r} needs one value, and the assertion has {len(values)}")
        return values[0]

    return _PLACE.sub(value, text)


def many(text: str, direct: list[list[str]]) -> list[str]:
    """The texts that one with places stands for: one for each value of a place that has several.

    Without places it may be a list as upstream's documentation writes it: "['a', 'b']".
    """
    places = sorted(set(_PLACE.findall(text)))
    if not places:
        return literal_list(text)
    several = [place for place in places if len(values_at(place, direct)) != 1]
    if not several:
        return [one(text, direct)]
    if len(several) > 1:
        raise Unmapped(f"{text[:80]!r} holds two attributes with several values each")
    place = int(several[0])
    return [one(text, [*direct[:place], [value], *direct[place + 1 :]]) for value in direct[place]]


def literal_list(text: str) -> list[str]:
    """What an administrator wrote: a list of names, or one name."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return [text]
    return [str(v) for v in value] if isinstance(value, list | tuple) else [text]


def domain_ref(given: Any) -> DomainRef | None:
    """A domain that rules name."""
    return DomainRef(id=given.get("id", ""), name=given.get("name", "")) if given else None


def groups_of(found: Sequence[Mapping[str, Any]]) -> tuple[GroupRef, ...]:
    """All groups, each once."""
    groups: dict[GroupRef, None] = {}
    for local in found:
        if group := local.get("group"):
            reference = GroupRef(id=group["id"]) if "id" in group else GroupRef(
                name=group["name"], domain=domain_ref(group["domain"]))  # fmt: skip
            groups[reference] = None
        for name in local.get("groups", ()):
            groups[GroupRef(name=name, domain=domain_ref(local.get("domain")))] = None
        for group_id in local.get("group_ids", ()):
            groups[GroupRef(id=group_id)] = None
    return tuple(groups)


def projects_of(local: Mapping[str, Any], *, honors_domains: bool) -> list[ProjectRef]:
    """The projects of one local part."""
    return [
        ProjectRef(
            name=given["name"],
            roles=tuple(role["name"] for role in given["roles"]),
            domain=domain_ref(given.get("domain") or local.get("domain")) if honors_domains else None,
        )
        for given in local.get("projects", ())
    ]
