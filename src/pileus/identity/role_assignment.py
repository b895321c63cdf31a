"""The list of role assignments, as they stand or as they take effect.

Source: Identity API reference, "Role assignments"; `effective` replaces groups by their users, inherited
roles by roles on each project below, and adds implied roles.  One query finds them; a long list is made beside
the event loop.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden
from pileus.core.op import Reply
from pileus.core.paging import Query
from pileus.db.connect import Tx
from pileus.http.app import Call
from pileus.identity.project import load_project
from pileus.identity.project_tree import subtree_below
from pileus.identity.service import ADMIN, DOMAIN_READER, IDENTITY, links_beside, own_domain
from pileus.identity.standing import LASTING

_NOT_TOGETHER = (
    ("scope.domain.id", "scope.project.id"), ("scope.domain.id", "scope.system"), ("scope.project.id", "scope.system"),
    ("user.id", "group.id"),
)  # fmt: skip
INHERITED = "scope.OS-INHERIT:inherited_to"
_STORED = """
select user_id, group_id, role_id, target_id, inherited, null, null from role_assignments
where {where} order by target_id, user_id, group_id, role_id, inherited
"""
# given: of users, with the group by which they have it; placed: on targets, with the one from which it is inherited.
_EFFECTIVE = """
with recursive
given(user_id, group_id, role_id, target_id, inherited) as (
    select user_id, null, role_id, target_id, inherited from role_assignments where user_id is not null and {direct}
    union all
    select memberships.user_id, memberships.group_id, role_id, target_id, inherited from role_assignments
    join memberships on memberships.group_id = role_assignments.group_id where {member}),
below(top, id) as (
    select parent_id, id from projects where parent_id in (select target_id from given where inherited = 1)
    union select below.top, projects.id from projects join below on projects.parent_id = below.id),
placed(user_id, group_id, role_id, target_id, from_id) as (
    select user_id, group_id, role_id, target_id, null from given where inherited = 0 and {kept}
    union all
    select given.user_id, given.group_id, given.role_id, below.id, below.top from given
    join below on below.top = given.target_id where given.inherited = 1 and {spread}),
means(prior, role_id) as (
    select id, id from roles
    union select means.prior, implied_roles.implied_role_id from means
    join implied_roles on implied_roles.prior_role_id = means.role_id)
select placed.user_id, placed.group_id, means.role_id, placed.target_id, 0, placed.from_id,
    case when means.role_id = placed.role_id then null else placed.role_id end
from placed join means on means.prior = placed.role_id join roles on roles.id = means.role_id
where roles.domain_id is null and {where}
"""


class Effect(NamedTuple):
    """An assignment as shown, and what it came from."""

    user_id: str | None
    group_id: str | None  # who has it, or the group by which the user has it
    role_id: str
    target_id: str | None  # a project or domain; None: the system
    inherited: int
    from_id: str | None  # the project or domain above from which it is inherited
    prior_role_id: str | None  # the role that was given

    @property
    def detours(self) -> int:
        """How indirect it is."""
        return sum(1 for way in (self.group_id, self.from_id, self.prior_role_id) if way is not None)


class Filters(Struct, frozen=True, kw_only=True):
    """What the query asks for; None where it does not."""

    user_id: str | None = None
    group_id: str | None = None
    role_id: str | None = None
    targets: set[str | None] | None = None  # ids of projects or domains, {None} for the system
    domain_id: str | None = None  # the targets are in this domain, or it
    inherited: bool | None = None
    effective: bool = False
    now: float


def read_filters(ctx: Context, query: Query) -> Filters:
    """The query, checked; raises BadRequest for filters that exclude each other."""
    for one, other in _NOT_TOGETHER:
        if query.one(one) and query.one(other):
            raise BadRequest(f"Specify {one} or {other}, not both.")
    effective = query.truth("effective")
    inherited = query.one(INHERITED) == "projects" if INHERITED in query else None
    if effective and query.one("group.id"):
        raise BadRequest("Combining effective and group filter will always result in an empty list.")
    if effective and inherited and query.one("scope.domain.id"):
        raise BadRequest("Combining effective, domain and inherited filters will always result in an empty list.")
    return Filters(
        user_id=query.one("user.id"), group_id=query.one("group.id"), role_id=query.one("role.id"),
        targets=read_targets(ctx, query), domain_id=ctx.caller.domain_id, inherited=inherited, effective=effective,
        now=ctx.now,
    )  # fmt: skip


def read_targets(ctx: Context, query: Query) -> set[str | None] | None:
    """The ids that the scope filters ask for, the subtree included when it is wanted."""
    project_id = query.one("scope.project.id")
    if query.truth("include_subtree"):
        if not project_id:
            raise BadRequest("scope.project.id must be specified if include_subtree is also specified.")
        load_project(ctx, project_id)
        return {project_id, *(p.id for p in subtree_below(ctx.tx, project_id))}
    if query.one("scope.system"):
        return {None}
    target = project_id or query.one("scope.domain.id")
    return {target} if target else None


Term = tuple[str, list[Any]]


def both(terms: Iterable[Term]) -> Term:
    """All of some conditions."""
    chosen = list(terms)
    return " and ".join(sql for sql, _ in chosen) or "1 = 1", [p for _, params in chosen for p in params]


def equal(column: str, value: Any) -> list[Term]:
    """A condition, unless nothing is asked."""
    return [] if value is None else [(f"{column} = ?", [int(value) if isinstance(value, bool) else value])]


def in_targets(column: str, wanted: Filters) -> list[Term]:
    """The conditions on targets."""
    found: list[Term] = []
    if wanted.targets == {None}:
        found.append((f"{column} is null", []))
    elif wanted.targets is not None:
        ids = sorted(t for t in wanted.targets if t is not None)
        found.append((f"{column} in ({', '.join('?' * len(ids))})", list(ids)))
    if wanted.domain_id is not None:
        inside = f"{column} in (select id from projects where id = ? or domain_id = ?)"
        found.append((inside, [wanted.domain_id] * 2))
    return found


def stored(tx: Tx, wanted: Filters) -> list[Effect]:
    """The assignments as they were made."""
    terms = [t for c in ("user_id", "group_id", "role_id", "inherited") for t in equal(c, getattr(wanted, c))]
    where, params = both([*terms, *in_targets("target_id", wanted)])
    return [Effect(*row) for row in tx.all(_STORED.format(where=where), *params)]


def effects(tx: Tx, wanted: Filters) -> list[Effect]:
    """What the assignments amount to: of users, on targets, with implied roles; each once, the most direct one."""
    inherited = equal("inherited", wanted.inherited)
    parts = {
        "direct": both([*equal("user_id", wanted.user_id), *inherited]),
        "member": both([*equal("memberships.user_id", wanted.user_id), (LASTING, [wanted.now]), *inherited]),
        "kept": both(in_targets("target_id", wanted)),
        "spread": both(in_targets("below.id", wanted)),
        "where": both(equal("means.role_id", wanted.role_id)),
    }
    sql = _EFFECTIVE.format(**{name: text for name, (text, _) in parts.items()})
    found: dict[tuple[Any, ...], Effect] = {}
    for row in tx.all(sql, *(p for _, params in parts.values() for p in params)):
        effect = Effect(*row)
        key = (effect.user_id, effect.role_id, effect.target_id)
        if key not in found or effect.detours < found[key].detours:
            found[key] = effect
    return list(found.values())


Named = Mapping[str, dict[str, Any]]


class Renderer:
    """Assignments as the API shows them."""

    def __init__(self, ctx: Context, *, with_names: bool):
        self.url = f"{ctx.url}/v3"
        rows = ctx.tx.all("select id, name from projects where is_domain = 1")
        self.domains: dict[str, str] = {str(i): str(name) for i, name in rows}
        self.users, self.groups, self.roles, self.projects = (
            self.names(ctx.tx, table) if with_names else {}
            for table in ("users", "user_groups", "roles", "projects")
        )  # fmt: skip

    def names(self, tx: Tx, table: str) -> Named:
        """Id, name and domain of everything in a table of ours, as references show them."""
        found: dict[str, dict[str, Any]] = {}
        for identifier, name, domain_id in tx.all(f"select id, name, domain_id from {table}"):
            found[identifier] = {"id": identifier, "name": name}
            if domain_id is not None:
                found[identifier]["domain"] = {"id": domain_id, "name": self.domains[domain_id]}
        return found

    def scope(self, effect: Effect) -> dict[str, Any]:
        """Where it holds."""
        target_id = effect.target_id
        if target_id is None:
            return {"system": {"all": True}}
        kind = "domain" if target_id in self.domains else "project"
        found: dict[str, Any] = {kind: self.projects.get(target_id) or {"id": target_id}}
        if effect.inherited or effect.from_id:
            found["OS-INHERIT:inherited_to"] = "projects"
        return found

    def links(self, effect: Effect) -> dict[str, str]:
        """Where it came from."""
        target_id = effect.from_id or effect.target_id
        kind = "domains" if target_id in self.domains else "projects"
        place = f"{kind}/{target_id}" if target_id else "system"
        actor = f"groups/{effect.group_id}" if effect.group_id else f"users/{effect.user_id}"
        path = f"{place}/{actor}/roles/{effect.prior_role_id or effect.role_id}"
        if effect.inherited or effect.from_id:
            path = f"OS-INHERIT/{path}/inherited_to_projects"
        found = {"assignment": f"{self.url}/{path}"}
        if effect.group_id and effect.user_id:
            found["membership"] = f"{self.url}/groups/{effect.group_id}/users/{effect.user_id}"
        if effect.prior_role_id:
            found["prior_role"] = f"{self.url}/prior_role/{effect.prior_role_id}/implies/{effect.role_id}"
        return found

    def render(self, effect: Effect) -> dict[str, Any]:
        found = {
            "role": self.roles.get(effect.role_id) or {"id": effect.role_id},
            "scope": self.scope(effect),
            "links": self.links(effect),
        }
        if effect.user_id is not None:
            found["user"] = self.users.get(effect.user_id) or {"id": effect.user_id}
        elif effect.group_id is not None:
            found["group"] = self.groups.get(effect.group_id) or {"id": effect.group_id}
        return found


IDENTITY.rule("identity:list_role_assignments_for_tree", f"{ADMIN} or role:reader and domain_id:%(domain_id)s")


def collected(ctx: Context, query: Query) -> bytes:
    """The whole answer."""
    if query.truth("include_subtree") and not ctx.allows("identity:list_role_assignments_for_tree", own_domain(ctx)):
        raise Forbidden("Policy doesn't allow identity:list_role_assignments_for_tree to be performed.")
    wanted = read_filters(ctx, query)
    found = effects(ctx.tx, wanted) if wanted.effective else stored(ctx.tx, wanted)
    render = Renderer(ctx, with_names=query.truth("include_names")).render
    return msgspec.json.encode(
        {"role_assignments": [render(effect) for effect in found], **links_beside(ctx, "/role_assignments")}
    )


async def collect(call: Call) -> Mapping[str, Any]:
    """`answer`: made in a thread, since it may be long."""
    query = call.query
    return {"answer": await call.app.transactions.read_aside(lambda tx: collected(call.context(tx), query))}


@IDENTITY.op(
    "GET", "/role_assignments", rule="identity:list_role_assignments", allow=DOMAIN_READER, load=own_domain,
    slow=collect,
)  # fmt: skip
def list_role_assignments(answer: bytes) -> Reply:
    """List role assignments; a caller whose scope is a domain sees those in it."""
    return Reply(raw=answer, headers={"content-type": "application/json"})
