"""What a request for allocation candidates asks for, read from its query string.  Pure.

Source: Placement API reference, "Allocation candidates"; version history 1.25, 1.31, 1.33, 1.35, 1.36.
"""

import re

from msgspec import Struct

from pileus.core.errors import BadRequest
from pileus.core.fields import Version
from pileus.core.ids import is_uuid
from pileus.core.paging import Query
from pileus.placement.fits import MOST
from pileus.placement.query import Members, Traits, members, only, resources, traits
from pileus.placement.service import BAD_VALUE, MISSING_VALUE

_GROUP = re.compile(r"(resources|required|member_of|in_tree)([1-9][0-9]*)?")
_NAMED_GROUP = re.compile(r"(resources|required|member_of|in_tree)([a-zA-Z0-9_-]{1,64})?")
_SINCE = {
    "resources": (1, 10), "limit": (1, 16), "required": (1, 17), "member_of": (1, 21), "group_policy": (1, 25),
    "in_tree": (1, 31), "root_required": (1, 35), "same_subtree": (1, 36),
}  # fmt: skip
GROUPS_MOST = 64


class Group(Struct, frozen=True, kw_only=True):
    """Resources that belong together; with a suffix, they come from one provider."""

    suffix: str
    resources: dict[str, int] = {}
    traits: Traits = Traits()
    members: Members = Members()
    in_tree: str | None = None  # a provider of the tree that must serve it


class Request(Struct, frozen=True, kw_only=True):
    """A whole request."""

    groups: tuple[Group, ...]
    limit: int = MOST
    isolate: bool = False  # groups with a suffix come from different providers
    root: Traits = Traits()  # of the root of the tree
    same_subtree: tuple[frozenset[str], ...] = ()


def read(query: Query, version: Version) -> Request:
    """Raises BadRequest naming the parameter."""
    suffixes = _known(query, version)
    groups = tuple(_group(query, suffix, version) for suffix in suffixes)
    policy = query.one("group_policy")
    if policy not in (None, "none", "isolate"):
        raise BadRequest(f"Invalid query string parameters: group_policy: {policy[:80]!r} is not one of none, isolate")
    if policy is None and sum(1 for group in groups if group.suffix) > 1:
        raise BadRequest(
            'The "group_policy" parameter is required when specifying more than one "resources{N}" parameter.'
        )
    request = Request(
        groups=groups,
        limit=query.number("limit", MOST, least=1),
        isolate=policy == "isolate",
        root=traits(query, "root_required", version),
        same_subtree=tuple(frozenset(value.split(",")) for value in query.all("same_subtree")),
    )
    _check(request, version)
    return request


def _known(query: Query, version: Version) -> list[str]:
    """The suffixes of the request's groups; raises BadRequest for parameters that this version does not know."""
    allowed = [name for name, first in _SINCE.items() if version >= first]
    pattern = _NAMED_GROUP if version >= (1, 33) else _GROUP
    suffixes: list[str] = []
    repeatable = ["same_subtree"]
    for name in query.values:
        found = pattern.fullmatch(name)
        if not found or found[1] not in allowed or (found[2] and version < (1, 25)) or name in ("root_required",):
            continue
        allowed.append(name)
        if found[1] in ("required", "member_of"):
            repeatable.append(name)
        if (suffix := found[2] or "") not in suffixes:
            suffixes.append(suffix)
    only(query, allowed, repeatable=repeatable)
    if len(suffixes) > GROUPS_MOST:
        raise BadRequest(f"A request may have at most {GROUPS_MOST} groups.")
    return suffixes


def _group(query: Query, suffix: str, version: Version) -> Group:
    tree = query.one(f"in_tree{suffix}")
    if tree is not None and not is_uuid(tree):
        raise BadRequest(f"Expected 'in_tree' parameter to be a format of uuid. Got: {tree[:80]!r}.", code=BAD_VALUE)
    return Group(
        suffix=suffix,
        resources=resources(query.one(f"resources{suffix}")) if f"resources{suffix}" in query else {},
        traits=traits(query, f"required{suffix}", version),
        members=members(query, f"member_of{suffix}", version),
        in_tree=tree,
    )


def _check(request: Request, version: Version) -> None:
    """Groups without resources make sense only where `same_subtree` names them."""
    known = {group.suffix for group in request.groups}
    bare = {group.suffix for group in request.groups if not group.resources}
    named = frozenset().union(*request.same_subtree)
    if bare == known:
        raise BadRequest("There must be at least one resources or resources[$S] parameter.", code=MISSING_VALUE)
    if bare - named:
        where = "in `same_subtree`" if version >= (1, 36) else "with resources of their own"
        raise BadRequest(
            f"Request groups without resources must be named {where}: bad group(s) - {sorted(bare - named)}.",
            code=BAD_VALUE,
        )
    if "" in named or named - known:
        raise BadRequest(
            f"Real suffixes should be specified in `same_subtree`: {sorted(named - known)} not found in "
            f"{sorted(known)}.", code=BAD_VALUE,
        )  # fmt: skip
    for any_of in request.root.required:
        if len(any_of) > 1:
            raise BadRequest("root_required does not take `in:`.", code=BAD_VALUE)
