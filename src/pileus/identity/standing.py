"""Who a user is on a scope right now: enabled, with which roles.  Tokens and log-ins are both judged here."""

from msgspec import Struct, structs

from pileus.db.connect import Tx
from pileus.identity.rows import (
    ACCESS_RULES,
    ACCESS_TOKENS,
    APPLICATION_CREDENTIALS,
    PROJECTS,
    TRUSTS,
    USERS,
    AccessRule,
    AccessToken,
    ApplicationCredential,
    Project,
    Trust,
    User,
)
from pileus.identity.token import ScopeKind

_NAMED = """
found(role_id) as (select role_id from given union
    select implied_role_id from implied_roles join found on implied_roles.prior_role_id = found.role_id)
select roles.id, roles.name from roles join found on roles.id = found.role_id where roles.domain_id is null
order by roles.name
"""
# Memberships that have not ended; the time is the parameter.
LASTING = "(memberships.expires_at is null or memberships.expires_at > ?)"
_GROUPS = f"select group_id from memberships where user_id = ? and {LASTING}"
_ACTOR = f"(user_id = ? or group_id in ({_GROUPS}))"
ROLES_ON_TARGET = f"""
with recursive above(id, parent_id, depth) as (select id, parent_id, 0 from projects where id = ? union all
    select projects.id, projects.parent_id, above.depth + 1 from projects join above on projects.id = above.parent_id),
given(role_id) as (select role_id from role_assignments join above on role_assignments.target_id = above.id
    where {_ACTOR} and ((inherited = 0 and depth = 0) or (inherited = 1 and depth > 0))),
{_NAMED}"""
ROLES_ON_SYSTEM = f"""
with recursive given(role_id) as (select role_id from role_assignments
    where {_ACTOR} and target_id is null and inherited = 0),
{_NAMED}"""
ROLES_OF_IDS = (
    """
with recursive given(role_id) as (select id from roles where id in ({marks})),
"""
    + _NAMED
)

# Ids of all projects and domains on which a user (given twice) has a role now (the time) by whatever way.
REACHABLE = f"""
with recursive mine(target_id, inherited) as (select target_id, inherited from role_assignments
    where target_id is not null
    and {_ACTOR}),
below(id) as (select projects.id from projects join mine on projects.parent_id = mine.target_id
    and mine.inherited = 1 union select projects.id from projects join below on projects.parent_id = below.id)
select target_id from mine where inherited = 0 union select id from below
"""


_PROVIDER_DISABLED = """
select 1 from federated_users join identity_providers on identity_providers.id = federated_users.idp_id
where federated_users.user_id = ? and identity_providers.enabled = 0
"""


class Refused(Exception):
    """Why somebody does not get in; for the log, never for the client."""


class Standing(Struct, frozen=True, kw_only=True):
    """A user on a scope, as the database knows them in this transaction."""

    user: User
    user_domain: Project
    scope: ScopeKind
    target: Project | None = None  # the project or domain
    target_domain: Project | None = None  # of a project
    roles: tuple[tuple[str, str], ...] = ()  # (id, name), implied ones included
    credential: ApplicationCredential | None = None
    access_rules: tuple[AccessRule, ...] | None = None  # None: the token may be used for everything
    trust: Trust | None = None
    partners: tuple[User, ...] = ()  # the other parties of the trust, and of those by which it was made
    access_token: AccessToken | None = None
    key_id: str = ""  # of the EC2 credential by which they come

    @property
    def generation(self) -> int:
        """Raised when tokens of any of the users behind it must end."""
        return self.user.generation + sum(partner.generation for partner in self.partners)

    @property
    def ends_at(self) -> float | None:
        """When what was delegated ends; None: never, or nothing was delegated."""
        given = self.credential or self.trust or self.access_token
        return given.expires_at if given is not None else None


def effective_roles(tx: Tx, user_id: str, scope: ScopeKind, target_id: str, now: float) -> list[tuple[str, str]]:
    """(id, name) of all roles: direct, by groups, inherited from above, implied; without those of domains."""
    if scope == "system":
        rows = tx.all(ROLES_ON_SYSTEM, user_id, user_id, now)
    else:
        rows = tx.all(ROLES_ON_TARGET, target_id, user_id, user_id, now)
    return [(str(r[0]), str(r[1])) for r in rows]


def with_implied(tx: Tx, role_ids: list[str]) -> list[tuple[str, str]]:
    """(id, name) of these roles and of all that they imply."""
    if not role_ids:
        return []
    rows = tx.all(ROLES_OF_IDS.format(marks=", ".join("?" * len(role_ids))), *role_ids)
    return [(str(r[0]), str(r[1])) for r in rows]


def user_and_domain(tx: Tx, user_id: str) -> tuple[User, Project]:
    """The user and their domain, both enabled; raises Refused."""
    user = USERS.get(tx, id=user_id)
    if user is None or not user.enabled:
        raise Refused(f"user {user_id} is unknown or disabled")
    domain = PROJECTS.get(tx, id=user.domain_id)
    if domain is None or not domain.enabled:
        raise Refused(f"the domain of user {user_id} is disabled")
    if tx.one(_PROVIDER_DISABLED, user_id) is not None:
        raise Refused(f"the identity provider of user {user_id} is disabled")
    return user, domain


def memberships_end(tx: Tx, who: Standing, now: float) -> float | None:
    """When the first group membership ends of those on which a standing rests; None: all of them last."""
    ids = [user.id for user in (who.user, *who.partners)]
    marks = ", ".join("?" * len(ids))
    row = tx.one(f"select min(expires_at) from memberships where expires_at > ? and user_id in ({marks})", now, *ids)
    return None if row is None else row[0]


def standing(
    tx: Tx, user_id: str, scope: ScopeKind, target_id: str = "", *, credential_id: str = "", trust_id: str = "",
    access_token_id: str = "", key_id: str = "", now: float,
) -> Standing:  # fmt: skip
    """Judge a user on a scope; raises Refused unless they are enabled there and have a role.

    With a trust the user is the trustor where it impersonates, the trustee otherwise.
    """
    user, user_domain = user_and_domain(tx, user_id)
    if scope == "unscoped":
        return Standing(user=user, user_domain=user_domain, scope=scope)
    target = target_domain = None
    if scope != "system":
        target, target_domain = _target(tx, scope, target_id)
    if trust_id:
        who = Standing(user=user, user_domain=user_domain, scope=scope, target=target, target_domain=target_domain)
        return _by_trust(tx, trust_id, who, now)
    if key_id and not _has_key(tx, key_id, user_id, target_id):
        raise Refused("the key that signed is gone")
    roles = effective_roles(tx, user_id, scope, target_id, now)
    credential, rules, access_token = None, None, None
    if access_token_id:
        access_token = _access_token(tx, access_token_id, user_id, target_id, now)
        roles = _held(tx, access_token.roles, roles)
    elif credential_id:
        credential = _credential(tx, credential_id, user_id, target_id, now)
        granted = {role_id for role_id, _ in with_implied(tx, credential.roles)}
        roles = [role for role in roles if role[0] in granted]
        rules = rules_of(tx, credential)
    if not roles:
        raise Refused(f"user {user_id} has no role on {scope} {target_id}")
    return Standing(
        user=user, user_domain=user_domain, scope=scope, target=target, target_domain=target_domain,
        roles=tuple(roles), credential=credential, access_rules=rules, access_token=access_token, key_id=key_id,
    )  # fmt: skip


def _has_key(tx: Tx, key_id: str, user_id: str, project_id: str) -> bool:
    """Whether a user still has an EC2 credential on a project."""
    sql = "select 1 from credentials where id = ? and user_id = ? and project_id = ?"
    return tx.one(sql, key_id, user_id, project_id) is not None


def _held(tx: Tx, delegated: list[str], held: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Delegated roles with what they imply; raises Refused when one of them is no longer held."""
    ids = {role_id for role_id, _ in held}
    if not ids.issuperset(delegated):
        raise Refused("a role that was delegated is no longer held")
    granted = {role_id for role_id, _ in with_implied(tx, delegated)}
    return [role for role in held if role[0] in granted]


def _by_trust(tx: Tx, trust_id: str, who: Standing, now: float) -> Standing:
    """The standing of a trust's token; raises Refused unless all its parties are enabled and the trust is alive."""
    trust = TRUSTS.get(tx, id=trust_id)
    if trust is None or who.target is None or who.scope != "project" or trust.project_id != who.target.id:
        raise Refused(f"trust {trust_id} is gone, or of another project")
    if trust.expires_at is not None and trust.expires_at <= now:
        raise Refused(f"trust {trust_id} has expired")
    if who.user.id != (trust.trustor_user_id if trust.impersonation else trust.trustee_user_id):
        raise Refused(f"trust {trust_id} is of others")
    roles = _held(tx, trust.roles, effective_roles(tx, trust.trustor_user_id, "project", trust.project_id, now))
    if not roles:
        raise Refused(f"trust {trust_id} gives no role")
    others = sorted(parties(tx, trust) - {who.user.id})
    partners = tuple(user_and_domain(tx, user_id)[0] for user_id in others)
    return structs.replace(who, roles=tuple(roles), trust=trust, partners=partners)


def parties(tx: Tx, trust: Trust) -> set[str]:
    """Ids of trustor and trustee, and of those of the trusts by which this one was made."""
    found = {trust.trustor_user_id, trust.trustee_user_id}
    while trust.redelegated_trust_id is not None:
        above = TRUSTS.get(tx, id=trust.redelegated_trust_id)
        assert above is not None, "the schema keeps trusts no longer than those above them"
        trust = above
        found |= {trust.trustor_user_id, trust.trustee_user_id}
    return found


def _access_token(tx: Tx, token_id: str, user_id: str, project_id: str, now: float) -> AccessToken:
    """The OAuth access token, alive and of this user and project; raises Refused."""
    found = ACCESS_TOKENS.get(tx, id=token_id)
    if found is None or found.user_id != user_id or found.project_id != project_id or found.expires_at <= now:
        raise Refused(f"access token {token_id} is gone")
    return found


def _target(tx: Tx, scope: ScopeKind, target_id: str) -> tuple[Project, Project | None]:
    """The project with its domain, or the domain; raises Refused unless all are enabled."""
    target = PROJECTS.get(tx, id=target_id)
    if target is None or not target.enabled or target.is_domain != (scope == "domain"):
        raise Refused(f"{scope} {target_id} is unknown or disabled")
    if target.domain_id is None:
        return target, None
    domain = PROJECTS.get(tx, id=target.domain_id)
    if domain is None or not domain.enabled:
        raise Refused(f"the domain of {scope} {target_id} is disabled")
    return target, domain


def _credential(tx: Tx, credential_id: str, user_id: str, project_id: str, now: float) -> ApplicationCredential:
    """The application credential, alive and of this user and project; raises Refused."""
    found = APPLICATION_CREDENTIALS.get(tx, id=credential_id)
    if found is None or found.user_id != user_id or found.project_id != project_id:
        raise Refused(f"application credential {credential_id} is gone")
    if found.expires_at is not None and found.expires_at <= now:
        raise Refused(f"application credential {credential_id} has expired")
    return found


def rules_of(tx: Tx, credential: ApplicationCredential) -> tuple[AccessRule, ...] | None:
    """What an application credential may be used for; None: everything."""
    if credential.access_rules is None:
        return None
    return tuple(ACCESS_RULES.all(tx, id=credential.access_rules, order="access_rules.id"))
