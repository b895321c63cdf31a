"""Logging in by what an identity provider asserts.  Source: Identity API reference, "OS-FEDERATION".

Whoever checked an assertion (OpenID Connect, SAML) calls `log_in` with its attributes; nothing else of it counts.
A user from outside is known by provider, protocol and unique id together, so that none of them can speak for another
one's users (OSSN-0047); the roles that they have are those of the mapped groups and projects alone (OSSA-2017-004).
"""

import hashlib
import logging

from pileus.core.context import Context
from pileus.core.errors import Forbidden, NotFound, Unauthorized
from pileus.core.ids import new_hex
from pileus.core.op import Reply
from pileus.core.schema import is_name
from pileus.identity.auth import token_reply
from pileus.identity.federation.rows import (
    FEDERATED_USERS,
    IDENTITY_PROVIDERS,
    MAPPINGS,
    PROTOCOLS,
    REMOTE_IDS,
    FederatedUser,
    IdentityProvider,
    Protocol,
)
from pileus.identity.federation.rules import Attributes, DomainRef, GroupRef, Mapped, ProjectRef, Unmapped, apply
from pileus.identity.login import WRONG
from pileus.identity.multi_factor import lacking
from pileus.identity.rows import (
    ASSIGNMENTS,
    GROUPS,
    MEMBERSHIPS,
    PROJECTS,
    ROLES,
    USERS,
    Assignment,
    Membership,
    Project,
    User,
)
from pileus.identity.standing import Refused, standing
from pileus.identity.token import TOKEN_SECONDS
from pileus.identity.watched import changed

log = logging.getLogger("pileus.identity")
_METHODS = ("saml2", "openid")  # protocols that are methods of their own in tokens; all others are "mapped"
_UNIQUE_LENGTH = 1024


def log_in(ctx: Context, idp_id: str, protocol_id: str, attributes: Attributes, *, until: float | None = None) -> Reply:
    """An unscoped token for whom the attributes of a checked assertion mean; call it in a writing transaction.

    `attributes`: every one with its values, by the names that the mapping's rules use.  `until`: when the session at
    the provider ends, if it said so, and with it the token.  Raises NotFound for an unknown provider or protocol,
    Forbidden for a disabled provider, Unauthorized when nobody is meant; why stands in the audit trail.
    """
    provider, protocol = find_provider(ctx, idp_id, protocol_id)
    try:
        check_remote_id(ctx, provider, protocol, attributes)
        mapped = read(ctx, protocol, attributes)
        user = local_user(ctx, mapped) if mapped.kind == "local" else federated_user(ctx, provider, protocol, mapped)
        method = protocol_id if protocol_id in _METHODS else "mapped"
        if lacking(user, (method,)):
            raise Unmapped(f"user {user.id} must prove more than an assertion")
        who = standing(ctx.tx, user.id, "unscoped", now=ctx.now)
    except (Unmapped, Refused) as why:
        log.info("federated log-in refused: %s", why)
        raise Unauthorized(WRONG, reason=str(why)) from None
    return token_reply(ctx, who, methods=(method,), until=until)


def find_provider(ctx: Context, idp_id: str, protocol_id: str) -> tuple[IdentityProvider, Protocol]:
    """A provider and its protocol; raises NotFound for unknown ones, Forbidden for a disabled provider."""
    provider = IDENTITY_PROVIDERS.get(ctx.tx, id=idp_id)
    protocol = PROTOCOLS.get(ctx.tx, idp_id=idp_id, id=protocol_id)
    if provider is None:
        raise NotFound(f"Could not find Identity Provider: {idp_id[:64]}.")
    if protocol is None:
        raise NotFound(f"Could not find federated protocol {protocol_id[:64]} for Identity Provider: {idp_id[:64]}.")
    if not provider.enabled:
        raise Forbidden(f"Identity Provider {idp_id} is disabled.")
    return provider, protocol


def check_remote_id(ctx: Context, provider: IdentityProvider, protocol: Protocol, attributes: Attributes) -> None:
    """The assertion is of this provider; raises Unmapped (OSSN-0047: one provider spoke for another)."""
    known = {row.remote_id for row in REMOTE_IDS.all(ctx.tx, idp_id=provider.id)}
    if not protocol.remote_id_attribute or not known:
        return
    given = set(attributes.get(protocol.remote_id_attribute, ()))
    if len(given) != 1 or not given <= known:
        raise Unmapped(f"{protocol.remote_id_attribute} of the assertion is no remote id of the provider {provider.id}")


def read(ctx: Context, protocol: Protocol, attributes: Attributes) -> Mapped:
    """What the protocol's mapping makes of the attributes; raises Unmapped."""
    mapping = MAPPINGS.get(ctx.tx, id=protocol.mapping_id)
    if mapping is None:
        raise Unmapped(f"the mapping {protocol.mapping_id} does not exist")
    return apply(mapping.rules, mapping.schema_version, attributes)


def local_user(ctx: Context, mapped: Mapped) -> User:
    """A user who is here already; raises Unmapped."""
    if mapped.user_id:
        user = USERS.get(ctx.tx, id=mapped.user_id)
    elif mapped.name and mapped.domain is not None:
        user = USERS.get(ctx.tx, name=mapped.name, domain_id=find_domain(ctx, mapped.domain).id)
    else:
        raise Unmapped("the mapping names a local user neither by id nor by name and domain")
    if user is None:
        raise Unmapped("the local user that the mapping names does not exist")
    return user


def find_domain(ctx: Context, wanted: DomainRef) -> Project:
    """A domain that the mapping names; raises Unmapped."""
    if wanted.id:
        found = PROJECTS.get(ctx.tx, id=wanted.id, is_domain=True)
    else:
        found = PROJECTS.get(ctx.tx, name=wanted.name, is_domain=True, domain_id=None)
    if found is None:
        raise Unmapped(f"the mapping names the domain {wanted.id or wanted.name!r}, which does not exist")
    return found


def federated_user(ctx: Context, provider: IdentityProvider, protocol: Protocol, mapped: Mapped) -> User:
    """The user from outside, made at their first log-in, with the groups and projects that they are mapped to."""
    unique_id, name = mapped.user_id or mapped.name, mapped.name or mapped.user_id
    if not unique_id:
        raise Unmapped("the mapping gives the user neither id nor name")
    if len(unique_id) > _UNIQUE_LENGTH or len(name) > 255 or not is_name(name):
        raise Unmapped("the user's id or name is too long, or holds control characters")
    domain_id = find_domain(ctx, mapped.domain).id if mapped.domain else provider.domain_id
    known = FEDERATED_USERS.get(ctx.tx, idp_id=provider.id, protocol_id=protocol.id, unique_id=unique_id)
    if known is None:
        known = FederatedUser(
            user_id=new_hex(), idp_id=provider.id, protocol_id=protocol.id, unique_id=unique_id, display_name=name
        )
        user = User(id=known.user_id, name=free_name(ctx, domain_id, known), domain_id=domain_id)
        USERS.insert(ctx.tx, user)
        FEDERATED_USERS.insert(ctx.tx, known)
    user = refreshed(ctx, known, name, mapped.email)
    join_groups(ctx, provider, user, mapped.groups)
    for project in mapped.projects:
        join_project(ctx, provider, user, project)
    return user


def free_name(ctx: Context, domain_id: str, known: FederatedUser) -> str:
    """The display name, with a mark of where it comes from if another user of the domain has it.

    So nobody from outside is ever taken for somebody who is here already.
    """
    holder = USERS.get(ctx.tx, domain_id=domain_id, name=known.display_name)
    if holder is None or holder.id == known.user_id:
        return known.display_name
    whose = f"{known.idp_id}\0{known.protocol_id}\0{known.unique_id}".encode()
    return f"{known.display_name[:200]} ({hashlib.sha256(whose).hexdigest()[:32]})"


def refreshed(ctx: Context, known: FederatedUser, name: str, email: str) -> User:
    """The user with the name and address that the provider gives them now."""
    user = USERS.get(ctx.tx, id=known.user_id)
    assert user is not None, "the schema keeps no federated identity without its user"
    changes: dict[str, object] = {}
    if name != known.display_name:
        FEDERATED_USERS.update(ctx.tx, {"display_name": name}, user_id=known.user_id)
        renamed = FederatedUser(
            user_id=known.user_id, idp_id=known.idp_id, protocol_id=known.protocol_id, unique_id=known.unique_id,
            display_name=name,
        )  # fmt: skip
        changes["name"] = free_name(ctx, user.domain_id, renamed)
    if email and user.extra.get("email") != email:
        changes["extra"] = {**user.extra, "email": email}
    if changes:
        USERS.update(ctx.tx, changes, id=user.id)
    found = USERS.get(ctx.tx, id=user.id)
    assert found is not None
    return found


def join_groups(ctx: Context, provider: IdentityProvider, user: User, wanted: tuple[GroupRef, ...]) -> None:
    """Let the user be in the mapped groups, and by this provider in no others, for as long as it authorizes that."""
    minutes = provider.authorization_ttl
    if minutes is None:
        minutes = ctx.settings.config.federation.authorization_ttl_minutes
    expires_at = ctx.now + (minutes * 60.0 or TOKEN_SECONDS)
    ctx.tx.run("delete from memberships where expires_at <= ?", ctx.now)
    held = {row.group_id: row for row in MEMBERSHIPS.all(ctx.tx, user_id=user.id)}
    # Who stays in a group, and not shorter than before, gives no reason to judge tokens anew: this raises no version.
    ctx.tx.run(
        "update memberships set expires_at = ? where user_id = ? and idp_id = ?", expires_at, user.id, provider.id
    )
    if any(row.idp_id == provider.id and (row.expires_at or 0.0) > expires_at for row in held.values()):
        changed(ctx.tx)
    mapped = group_ids(ctx, wanted)
    for group_id, row in held.items():
        if row.idp_id == provider.id and group_id not in mapped:
            MEMBERSHIPS.delete(ctx.tx, user_id=user.id, group_id=group_id)
    for group_id in mapped:
        if group_id not in held:
            MEMBERSHIPS.insert(
                ctx.tx, Membership(user_id=user.id, group_id=group_id, expires_at=expires_at, idp_id=provider.id)
            )


def group_ids(ctx: Context, wanted: tuple[GroupRef, ...]) -> list[str]:
    """Ids of the mapped groups; a name that no group has is left out, an id that none has raises Unmapped."""
    found: dict[str, None] = {}
    for reference in wanted:
        if reference.id:
            if GROUPS.get(ctx.tx, id=reference.id) is None:
                raise Unmapped(f"the mapping names the group {reference.id!r}, which does not exist")
            found[reference.id] = None
        elif reference.domain is not None:
            domain = find_domain(ctx, reference.domain)
            group = GROUPS.get(ctx.tx, name=reference.name, domain_id=domain.id)
            if group is None:
                log.info("no group %r in the domain %s", reference.name[:80], domain.id)
            else:
                found[group.id] = None
    return list(found)


def join_project(ctx: Context, provider: IdentityProvider, user: User, wanted: ProjectRef) -> None:
    """Give the user roles on a mapped project, which is made when there is none; raises Unmapped."""
    domain_id = find_domain(ctx, wanted.domain).id if wanted.domain else provider.domain_id
    project = PROJECTS.get(ctx.tx, name=wanted.name, domain_id=domain_id)
    if project is None:
        if len(wanted.name) > 64 or not is_name(wanted.name):
            raise Unmapped("the name of a mapped project is too long, or holds control characters")
        project = Project(id=new_hex(), name=wanted.name, domain_id=domain_id, parent_id=domain_id)
        PROJECTS.insert(ctx.tx, project)
    for name in wanted.roles:
        role = ROLES.get(ctx.tx, name=name, domain_id=None)
        if role is None:
            raise Unmapped(f"the mapping names the role {name!r}, which does not exist")
        given = {"role_id": role.id, "user_id": user.id, "target_id": project.id, "inherited": False}
        if ASSIGNMENTS.get(ctx.tx, group_id=None, **given) is None:
            ASSIGNMENTS.insert(ctx.tx, Assignment(role_id=role.id, user_id=user.id, target_id=project.id))
