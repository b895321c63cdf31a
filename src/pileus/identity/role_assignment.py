"""The list of role assignments, as they stand or as they take effect.

Source: Identity API reference, "Role assignments"; `effective` replaces groups by their users, inherited
roles by roles on each project below, and adds implied roles.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct, structs

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden
from pileus.core.paging import Listing, Query
from pileus.db.connect import Tx
from pileus.identity.project import load_project
from pileus.identity.project_tree import subtree_below
from pileus.identity.rows import ASSIGNMENTS, GROUPS, PROJECTS, ROLES, USERS, Assignment, Group, Project, Role, User
from pileus.identity.service import ADMIN, DOMAIN_READER, IDENTITY, own_domain

_NOT_TOGETHER = (
    ("scope.domain.id", "scope.project.id"), ("scope.domain.id", "scope.system"), ("scope.project.id", "scope.system"),
    ("user.id", "group.id"),
)  # fmt: skip
INHERITED = "scope.OS-INHERIT:inherited_to"


class Effect(Struct, frozen=True, kw_only=True):
    """An assignment as shown, and what it came from."""

    row: Assignment
    group_id: str | None = None  # the group by which the user has it
    from_id: str | None = None  # the project or domain above from which it is inherited
    prior_role_id: str | None = None  # the role that was given


class Filters(Struct, frozen=True, kw_only=True):
    """What the query asks for; None where it does not."""

    user_id: str | None
    group_id: str | None
    role_id: str | None
    targets: set[str | None] | None  # ids of projects or domains, {None} for the system
    inherited: bool | None
    effective: bool


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
        targets=read_targets(ctx, query), inherited=inherited, effective=effective,
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


class Names:
    """Everything that assignments point at, read once for one list."""

    def __init__(self, tx: Tx):
        self.projects: dict[str, Project] = {p.id: p for p in PROJECTS.all(tx)}
        self.roles: dict[str, Role] = {r.id: r for r in ROLES.all(tx)}
        self.below: dict[str, list[str]] = {}
        for project in self.projects.values():
            if project.parent_id is not None:
                self.below.setdefault(project.parent_id, []).append(project.id)
        self.implied: dict[str, list[str]] = {}
        for prior, implied in tx.all("select prior_role_id, implied_role_id from implied_roles"):
            self.implied.setdefault(prior, []).append(implied)

    def subtree(self, project_id: str) -> Iterator[str]:
        """All ids below one."""
        for child in self.below.get(project_id, ()):
            yield child
            yield from self.subtree(child)

    def closure(self, role_id: str) -> set[str]:
        """All roles that a role implies, without itself."""
        found: set[str] = set()
        waiting = [role_id]
        while waiting:
            for implied in self.implied.get(waiting.pop(), ()):
                if implied not in found and implied != role_id:
                    found.add(implied)
                    waiting.append(implied)
        return found


def stored(tx: Tx, wanted: Filters) -> list[Effect]:
    """The assignments as they were made."""
    listing = Listing(ASSIGNMENTS)
    for column in ("user_id", "group_id", "role_id"):
        value = getattr(wanted, column)
        if value is not None:
            listing.equals(column, [value])
    if wanted.inherited is not None:
        listing.equals("inherited", [wanted.inherited])
    if wanted.targets == {None}:
        listing.where("role_assignments.target_id is null")
    elif wanted.targets is not None:
        listing.equals("target_id", sorted(t for t in wanted.targets if t is not None))
    sort = [(c, False) for c in ("target_id", "user_id", "group_id", "role_id", "inherited")]
    return [Effect(row=row) for row in listing.page(tx, sort=sort)]


def effects(tx: Tx, wanted: Filters, names: Names) -> list[Effect]:
    """What the assignments amount to: of users, on targets, with implied roles."""
    rows = ASSIGNMENTS.all(tx) if wanted.user_id is None else assignments_of_user(tx, wanted.user_id)
    if wanted.inherited is not None:
        rows = [row for row in rows if row.inherited == wanted.inherited]
    found = of_users(tx, (Effect(row=row) for row in rows), wanted.user_id)
    found = with_implied_roles(on_targets(found, names, wanted.targets), names)
    unique = {structs.astuple(e.row): e for e in found if wanted.role_id in (None, e.row.role_id)}
    return list(unique.values())


def assignments_of_user(tx: Tx, user_id: str) -> list[Assignment]:
    """Those of a user and of the groups in which they are."""
    return ASSIGNMENTS.query(
        tx, "where user_id = ? or group_id in (select group_id from memberships where user_id = ?)", user_id, user_id
    )  # fmt: skip


def of_users(tx: Tx, found: Iterable[Effect], only: str | None) -> Iterator[Effect]:
    """Groups replaced by their users."""
    members: dict[str, list[str]] = {}
    for user_id, group_id in tx.all("select user_id, group_id from memberships"):
        members.setdefault(group_id, []).append(user_id)
    for effect in found:
        group_id = effect.row.group_id
        if group_id is None:
            yield effect
            continue
        for user_id in members.get(group_id, ()):
            if only in (None, user_id):
                row = structs.replace(effect.row, user_id=user_id, group_id=None)
                yield structs.replace(effect, row=row, group_id=group_id)


def on_targets(found: Iterable[Effect], names: Names, only: set[str | None] | None) -> Iterator[Effect]:
    """Inherited roles replaced by roles on each project below."""
    for effect in found:
        target_id = effect.row.target_id
        if not effect.row.inherited or target_id is None:
            if only is None or target_id in only:
                yield effect
            continue
        for below in names.subtree(target_id):
            if only is None or below in only:
                row = structs.replace(effect.row, target_id=below, inherited=False)
                yield structs.replace(effect, row=row, from_id=target_id)


def with_implied_roles(found: Iterable[Effect], names: Names) -> Iterator[Effect]:
    """Each role and all that it implies; roles of domains only stand for what they imply."""
    closures: dict[str, set[str]] = {}
    for effect in found:
        role_id = effect.row.role_id
        if names.roles[role_id].domain_id is None:
            yield effect
        if role_id not in closures:
            closures[role_id] = names.closure(role_id)
        for implied in closures[role_id]:
            if names.roles[implied].domain_id is None:
                yield structs.replace(
                    effect, row=structs.replace(effect.row, role_id=implied), prior_role_id=role_id
                )  # fmt: skip


def in_domain(effect: Effect, names: Names, domain_id: str) -> bool:
    """Whether the target is the domain or lies in it."""
    target = names.projects.get(effect.row.target_id or "")
    return target is not None and domain_id in (target.id, target.domain_id)


class Renderer:
    """Assignments as the API shows them."""

    def __init__(self, ctx: Context, names: Names, *, with_names: bool):
        self.url, self.names, self.with_names = f"{ctx.url}/v3", names, with_names
        self.users: dict[str, User] = {u.id: u for u in USERS.all(ctx.tx)} if with_names else {}
        self.groups: dict[str, Group] = {g.id: g for g in GROUPS.all(ctx.tx)} if with_names else {}

    def reference(self, row: Any) -> dict[str, Any]:
        """Id, name and domain of a user, group, role or project."""
        found: dict[str, Any] = {"id": row.id, "name": row.name}
        domain = self.names.projects.get(row.domain_id or "")
        if domain is not None:
            found["domain"] = {"id": domain.id, "name": domain.name}
        return found

    def named(self, rows: Any, identifier: str) -> dict[str, Any]:
        row = rows.get(identifier) if self.with_names else None
        return self.reference(row) if row is not None else {"id": identifier}

    def scope(self, effect: Effect) -> dict[str, Any]:
        """Where it holds."""
        target_id = effect.row.target_id
        if target_id is None:
            return {"system": {"all": True}}
        kind = "domain" if self.names.projects[target_id].is_domain else "project"
        found: dict[str, Any] = {kind: self.named(self.names.projects, target_id)}
        if effect.row.inherited or effect.from_id:
            found["OS-INHERIT:inherited_to"] = "projects"
        return found

    def links(self, effect: Effect) -> dict[str, str]:
        """Where it came from."""
        row, target_id = effect.row, effect.from_id or effect.row.target_id
        kind = "domains" if target_id and self.names.projects[target_id].is_domain else "projects"
        place = f"{kind}/{target_id}" if target_id else "system"
        group_id = effect.group_id or row.group_id
        actor = f"groups/{group_id}" if group_id else f"users/{row.user_id}"
        path = f"{place}/{actor}/roles/{effect.prior_role_id or row.role_id}"
        if row.inherited or effect.from_id:
            path = f"OS-INHERIT/{path}/inherited_to_projects"
        found = {"assignment": f"{self.url}/{path}"}
        if effect.group_id:
            found["membership"] = f"{self.url}/groups/{effect.group_id}/users/{row.user_id}"
        if effect.prior_role_id:
            found["prior_role"] = f"{self.url}/prior_role/{effect.prior_role_id}/implies/{row.role_id}"
        return found

    def render(self, effect: Effect) -> dict[str, Any]:
        row = effect.row
        found = {
            "role": self.named(self.names.roles, row.role_id),
            "scope": self.scope(effect),
            "links": self.links(effect),
        }
        if row.user_id is not None:
            found["user"] = self.named(self.users, row.user_id)
        elif row.group_id is not None:
            found["group"] = self.named(self.groups, row.group_id)
        return found


IDENTITY.rule("identity:list_role_assignments_for_tree", f"{ADMIN} or role:reader and domain_id:%(domain_id)s")


@IDENTITY.op(
    "GET", "/role_assignments", rule="identity:list_role_assignments", allow=DOMAIN_READER, load=own_domain
)  # fmt: skip
def list_role_assignments(ctx: Context, query: Query) -> dict[str, Any]:
    """List role assignments; a caller whose scope is a domain sees those in it."""
    if query.truth("include_subtree") and not ctx.allows("identity:list_role_assignments_for_tree", own_domain(ctx)):
        raise Forbidden("Policy doesn't allow identity:list_role_assignments_for_tree to be performed.")
    wanted, names = read_filters(ctx, query), Names(ctx.tx)
    found = effects(ctx.tx, wanted, names) if wanted.effective else stored(ctx.tx, wanted)
    if ctx.caller.domain_id is not None:
        found = [effect for effect in found if in_domain(effect, names, ctx.caller.domain_id)]
    renderer = Renderer(ctx, names, with_names=query.truth("include_names"))
    links = {"self": f"{ctx.url}/v3/role_assignments", "previous": None, "next": None}
    return {"role_assignments": [renderer.render(effect) for effect in found], "links": links}
