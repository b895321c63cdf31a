"""Giving roles: to users and groups, on projects, domains and the system, also to all that lies below.

One function each for grant, check, revoke and list; the tables at the end give them their paths.
Source: Identity API reference, "Roles" and "OS-INHERIT".
"""

from typing import Any

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import Forbidden, NotFound
from pileus.core.op import Many, Page, Reply
from pileus.identity.application_credential import end
from pileus.identity.directory_work import look_soon
from pileus.identity.role import ROLE
from pileus.identity.rows import (
    APPLICATION_CREDENTIALS,
    ASSIGNMENTS,
    GROUPS,
    PROJECTS,
    ROLES,
    USERS,
    Assignment,
    Group,
    Project,
    Role,
    User,
)
from pileus.identity.service import ADMIN, IDENTITY, READER, links_beside
from pileus.identity.standing import effective_roles

# A manager of a domain gives, within it, the roles that do not reach beyond it (upstream's
# domain_managed_target_role).
IDENTITY.rule(
    "domain_managed_target_role", "'manager':%(role_name)s or 'member':%(role_name)s or 'reader':%(role_name)s"
)
_IN_DOMAIN = "domain_id:%(actor_domain_id)s and domain_id:%(target_domain_id)s"
_OWN_ROLE = "(None:%(role_domain_id)s or domain_id:%(role_domain_id)s)"
LIST = f"{READER} or role:reader and {_IN_DOMAIN}"
CHECK = f"{READER} or role:reader and {_IN_DOMAIN} and {_OWN_ROLE}"
CHANGE = f"{ADMIN} or role:manager and {_IN_DOMAIN} and {_OWN_ROLE} and rule:domain_managed_target_role"


class Grant(Struct, frozen=True, kw_only=True):
    """Who gets what where; `role` is None where a list is asked for."""

    actor: User | Group
    target: Project | None  # None: the system
    role: Role | None
    inherited: bool
    actor_domain_id: str
    target_domain_id: str  # "" of the system, which no domain's scope equals
    role_domain_id: str | None
    role_name: str

    @property
    def row(self) -> dict[str, Any]:
        """The columns by which the assignment is found."""
        assert self.role is not None
        return {"role_id": self.role.id, "inherited": self.inherited, **self.place}

    @property
    def place(self) -> dict[str, Any]:
        """Actor and target as columns."""
        user = isinstance(self.actor, User)
        return {
            "user_id": self.actor.id if user else None,
            "group_id": None if user else self.actor.id,
            "target_id": self.target.id if self.target else None,
        }


def load_grant(ctx: Context, rule: str, path: dict[str, str], *, inherited: bool) -> Grant:
    """Everything that a grant's path names.

    Who may not use the rule on it is refused whether it exists or not; an unknown id is NotFound to others.
    """
    tx, missing = ctx.tx, ""
    actor: User | Group | None = (
        USERS.get(tx, id=path["user_id"]) if "user_id" in path else GROUPS.get(tx, id=path["group_id"])
    )
    target, role = None, ROLES.get(tx, id=path["role_id"]) if "role_id" in path else None
    if "project_id" in path or "domain_id" in path:
        target = PROJECTS.get(tx, id=path.get("project_id") or path["domain_id"], is_domain="domain_id" in path)
        missing = "" if target else "project" if "project_id" in path else "domain"
    if actor is None:
        missing = "user" if "user_id" in path else "group"
    if "role_id" in path and role is None:
        missing = "role"
    if missing:
        if not ctx.allows(rule, {}):
            raise Forbidden(f"Policy doesn't allow {rule} to be performed.")
        raise NotFound(f"Could not find {missing}: {path[missing + '_id']}.")
    assert actor is not None
    return Grant(
        actor=actor, target=target, role=role, inherited=inherited, actor_domain_id=actor.domain_id,
        target_domain_id=(target.domain_id or target.id) if target else "",
        role_domain_id=role.domain_id if role else None, role_name=role.name if role else "",
    )  # fmt: skip


def give(ctx: Context, grant: Grant) -> Reply:
    """Give a role."""
    role, target = grant.role, grant.target
    assert role is not None
    if role.domain_id is not None and (target is None or role.domain_id != (target.domain_id or target.id)):
        raise Forbidden("A role of a domain can be given in that domain only.")
    if ASSIGNMENTS.get(ctx.tx, **grant.row) is None:
        ASSIGNMENTS.insert(ctx.tx, Assignment(**grant.row))
    if isinstance(grant.actor, Group):
        look_soon(ctx.tx, grant.actor.id, ctx.now)
    return Reply()


def check(ctx: Context, grant: Grant) -> Reply:
    """Check whether a role is given."""
    if ASSIGNMENTS.get(ctx.tx, **grant.row) is None:
        raise NotFound(f"Could not find role assignment with role: {grant.row['role_id']}.")
    return Reply()


def take(ctx: Context, grant: Grant) -> Reply:
    """Take a role back; application credentials that rested on a role on the project go."""
    if not ASSIGNMENTS.delete(ctx.tx, **grant.row):
        raise NotFound(f"Could not find role assignment with role: {grant.row['role_id']}.")
    if isinstance(grant.actor, User) and grant.target is not None and not grant.target.is_domain:
        drop_credentials(ctx, grant.actor.id, grant.target.id)
    return Reply()


def drop_credentials(ctx: Context, user_id: str, project_id: str) -> None:
    """Delete the application credentials that hold a role which the user no longer has on the project."""
    held = {role_id for role_id, _ in effective_roles(ctx.tx, user_id, "project", project_id, ctx.now)}
    for credential in APPLICATION_CREDENTIALS.all(ctx.tx, user_id=user_id, project_id=project_id):
        if not held.issuperset(credential.roles):
            end(ctx.tx, credential.id)


def roles_given(ctx: Context, grant: Grant) -> Page:
    """List the roles given directly."""
    ids = [a.role_id for a in ASSIGNMENTS.all(ctx.tx, inherited=grant.inherited, **grant.place)]
    where = "projects" if grant.target and not grant.target.is_domain else "domains"
    target = f"/{where}/{grant.target.id}" if grant.target else "/system"
    actor = "users" if isinstance(grant.actor, User) else "groups"
    found = ROLES.all(ctx.tx, id=ids, order="roles.name")
    here = f"{target}/{actor}/{grant.actor.id}/roles"
    return Page(found, links_beside(ctx, f"/OS-INHERIT{here}/inherited_to_projects" if grant.inherited else here))


def register(path: str, rules: tuple[str, str, str, str], *, inherited: bool = False) -> None:
    """The four operations of one kind of target and actor; `rules` are those of list, check, give, take."""
    before, after = ("/OS-INHERIT", "/inherited_to_projects") if inherited else ("", "")
    item = f"{before}{path}/roles/{{role_id}}{after}"

    def loader(rule: str) -> Any:
        return lambda ctx, **names: load_grant(ctx, rule, names, inherited=inherited)

    listing, checking, giving, taking = rules
    several = f"{before}{path}/roles{after}"
    IDENTITY.op("GET", several, rule=listing, allow=LIST, load=loader(listing), gives=Many(ROLE))(roles_given)
    IDENTITY.op("GET", item, rule=checking, allow=CHECK, load=loader(checking), ok=204)(check)
    IDENTITY.op("PUT", item, rule=giving, allow=CHANGE, load=loader(giving), ok=204)(give)
    IDENTITY.op("DELETE", item, rule=taking, allow=CHANGE, load=loader(taking), ok=204)(take)


def grant_rules(suffix: str = "") -> tuple[str, str, str, str]:
    """The names of the rules for list, check, give, take."""
    system = "system_" if suffix else ""
    listing = f"identity:list_{system}grants{suffix}"
    return (listing, *(f"identity:{verb}_{system}grant{suffix}" for verb in ("check", "create", "revoke")))  # type: ignore[return-value]  # as many names as the tuple has places


for _actor in ("user", "group"):
    _who = f"/{_actor}s/{{{_actor}_id}}"
    for _target in ("/projects/{project_id}", "/domains/{domain_id}"):
        register(_target + _who, grant_rules())
        register(_target + _who, grant_rules(), inherited=True)
    register("/system" + _who, grant_rules(f"_for_{_actor}"))
