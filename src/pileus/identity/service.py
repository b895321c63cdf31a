"""The identity API (Keystone v3): its place, its error body, its shared rules and list conventions.

Source: Identity API reference, v3.14.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pileus.core.context import Context
from pileus.core.errors import Forbidden, NotFound, Problem
from pileus.core.fields import LATEST, Fields
from pileus.core.op import Service
from pileus.identity.listing import listed as listed  # every list of identity is asked alike

R = TypeVar("R")


def problem(error: Problem, _request_id: str) -> dict[str, Any]:
    """Identity's error body."""
    return {"error": {"code": error.status, "message": error.message, "title": error.title}}


IDENTITY = Service("identity", "keystone", "/identity", "/v3", problem=problem, ends_with_tokens=True)
IDENTITY.rule("admin_required", "role:admin")
IDENTITY.rule("reader_required", "role:reader")
IDENTITY.rule("owner", "user_id:%(user_id)s")

ADMIN = "rule:admin_required"
SYSTEM_READER = "(role:reader and system_scope:all)"
READER = f"{ADMIN} or {SYSTEM_READER}"
# Rules on what lies in a domain; `domain_id` of the target is that domain.
DOMAIN_READER = f"{READER} or (role:reader and domain_id:%(domain_id)s)"
DOMAIN_MANAGER = f"{ADMIN} or (role:manager and domain_id:%(domain_id)s)"

_RESERVED = frozenset(("id", "links", "domain_id", "parent_id", "is_domain"))


class OpenFields(Fields):
    """Fields of a resource that also keeps, and shows, attributes that the API does not define."""

    def __init__(self, key: str, plural: str, fields: Any):
        super().__init__(key, plural, fields, extra=True)
        self._known = frozenset(f.name for f in self.fields)

    def render(self, row: Any, ctx: Context) -> dict[str, Any]:
        return {**row.extra, **super().render(row, ctx)}

    def extra_of(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a body holds beyond the table."""
        return {k: v for k, v in body.items() if k not in self._known and k not in _RESERVED}

    def changes(self, row: Any, body: Mapping[str, Any]) -> dict[str, Any]:
        """The columns that an update body changes; extra attributes are merged, null removes one."""
        columns = {f.name for f in self.at("u", LATEST)} & set(row.__struct_fields__)
        found = {k: v for k, v in body.items() if k in columns}
        if extra := self.extra_of(body):
            merged = {**row.extra, **extra}
            found["extra"] = {k: v for k, v in merged.items() if v is not None}
        return found


def own_domain(ctx: Context, **_path: str) -> Mapping[str, Any]:
    """Loader of lists and creations: the target is the domain of the caller's scope, if it is one."""
    return {} if ctx.caller.domain_id is None else {"domain_id": ctx.caller.domain_id}


def seen(ctx: Context, rule: str, kind: str, identifier: str, row: R | None, target: object = None) -> R:
    """The row, if the caller may see it; `target` is what the rule looks at, the row itself unless given.

    Who may not see it is refused (403) whether it exists or not; who may see everything gets NotFound
    for what does not exist.
    """
    if not ctx.allows(rule, target if target is not None else {} if row is None else row):
        raise Forbidden(f"Policy doesn't allow {rule} to be performed.")
    if row is None:
        raise NotFound(f"Could not find {kind}: {identifier}.")
    return row


def of_user(ctx: Context, user_id: str, **_path: str) -> Mapping[str, Any]:
    """Loader of what belongs to the user in the path, as rules see it."""
    return {"user_id": user_id}


def self_link(plural: str) -> Callable[[Any, Context], dict[str, str]]:
    """The getter of `links` for a resource of this plural name."""
    return lambda row, ctx: {"self": f"{ctx.url}/v3/{plural}/{row.id}"}


def links_beside(ctx: Context, path: str) -> dict[str, Any]:
    """The `links` of a list that is never paged."""
    return {"links": {"self": f"{ctx.url}/v3{path}", "previous": None, "next": None}}


def check_immutable(options: Mapping[str, Any], changes: Mapping[str, Any] | None, kind: str) -> None:
    """Refuse to delete (`changes` is None) or change what is immutable, unless the change ends that."""
    if options.get("immutable") is not True:
        return
    if changes is not None and changes.get("options", {}).get("immutable", True) is not True:
        return
    raise Forbidden(f"This {kind} is immutable: set its option immutable to false first.")


def merged_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Options after an update; null takes one away."""
    return {k: v for k, v in {**old, **new}.items() if v is not None}
