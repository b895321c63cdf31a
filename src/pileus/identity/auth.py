"""Tokens over HTTP: issue, validate, check, revoke; what a token could be scoped to.

Source: Identity API reference, "Authentication and token management".
"""

import base64
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from pileus.core.clock import iso_micro_z
from pileus.core.context import Context
from pileus.core.errors import Forbidden, NotFound, Unauthorized
from pileus.core.events import record
from pileus.core.op import PUBLIC, Many, Page, Reply, collection, unguarded
from pileus.core.paging import Listing, Query
from pileus.http.app import Call
from pileus.identity.domain import DOMAIN
from pileus.identity.factors import prove
from pileus.identity.federation.rows import FEDERATED_USERS
from pileus.identity.federation.service_provider import enabled_providers
from pileus.identity.login import (
    LOGIN,
    WRONG,
    Proven,
    Wanted,
    check_rescope,
    check_unchanged,
    scope_for,
    wanted_scope,
)
from pileus.identity.multi_factor import ask_for_more, before, lacking
from pileus.identity.project import PROJECT
from pileus.identity.rows import MEMBERSHIPS, PROJECTS, USERS, Project, User
from pileus.identity.service import IDENTITY, READER, links_beside, listed
from pileus.identity.standing import LASTING, REACHABLE, Refused, Standing, effective_roles, standing
from pileus.identity.token import FEDERATED, Payload
from pileus.identity.tokens import Known, Tokens, revoke, tokens_of
from pileus.identity.trust_use import by_trust, is_limited, spend_use

log = logging.getLogger("pileus.identity")
JSON = "application/json"
IDENTITY.rule("service_role", "role:service")
IDENTITY.rule("token_subject", "user_id:%(user_id)s")


def tokens(ctx: Context) -> Tokens:
    """The keeper of this process's tokens."""
    return tokens_of(ctx.settings.keys_folder)


def reference(project: Project, domain: Project | None = None) -> dict[str, Any]:
    """A project (with its domain) or a domain as tokens show it."""
    found: dict[str, Any] = {"id": project.id, "name": project.name}
    if domain is not None:
        found["domain"] = {"id": domain.id, "name": domain.name}
    return found


def token_body(ctx: Context, payload: Payload, who: Standing, *, catalog: bool) -> dict[str, Any]:
    """A token as the API shows it."""
    body: dict[str, Any] = {
        "methods": list(payload.methods),
        "user": {
            "id": who.user.id, "name": who.user.name, "domain": reference(who.user_domain),
            "password_expires_at": iso_micro_z(who.user.password_expires_at),
        },
        "audit_ids": payload.audit_ids,
        "expires_at": iso_micro_z(payload.expires_at),
        "issued_at": iso_micro_z(payload.issued_at),
    }  # fmt: skip
    if who.scope == "project" and who.target is not None:
        body["project"] = reference(who.target, who.target_domain)
        body["is_domain"] = False
    elif who.scope == "domain" and who.target is not None:
        body["domain"] = reference(who.target)
    elif who.scope == "system":
        body["system"] = {"all": True}
    if who.scope != "unscoped":
        body["roles"] = [{"id": role_id, "name": name} for role_id, name in who.roles]
        if catalog:
            project_id = who.target.id if who.scope == "project" and who.target else ""
            body["catalog"] = tokens(ctx).catalog.render(ctx.tx, project_id=project_id, user_id=who.user.id)
        if providers := enabled_providers(ctx.tx):
            body["service_providers"] = providers
    if who.credential is not None:
        body["application_credential"] = credential_view(who)
    if who.trust is not None:
        body["OS-TRUST:trust"] = {
            "id": who.trust.id, "impersonation": who.trust.impersonation,
            "trustor_user": {"id": who.trust.trustor_user_id}, "trustee_user": {"id": who.trust.trustee_user_id},
        }  # fmt: skip
    if payload.certificate:
        body["oauth2_credential"] = {"x5t#S256": base64url(payload.certificate)}
    if who.access_token is not None:
        body["OS-OAUTH1"] = {"access_token_id": who.access_token.id, "consumer_id": who.access_token.consumer_id}
    if not payload.delegated and not FEDERATED.isdisjoint(payload.methods):
        body["user"] |= federated_view(ctx, who)
    return {"token": body}


def federated_view(ctx: Context, who: Standing) -> dict[str, Any]:
    """Who vouches for a user from outside, and the groups in which they say that the user is."""
    found = FEDERATED_USERS.get(ctx.tx, user_id=who.user.id)
    if found is None:  # a local user whom a mapping named
        return {}
    rows = MEMBERSHIPS.query(
        ctx.tx, f"where user_id = ? and idp_id = ? and {LASTING} order by group_id", who.user.id, found.idp_id, ctx.now
    )
    return {"OS-FEDERATION": {
        "identity_provider": {"id": found.idp_id}, "protocol": {"id": found.protocol_id},
        "groups": [{"id": row.group_id} for row in rows],
    }}  # fmt: skip


def base64url(digits: str) -> str:
    """Hexadecimal digits as RFC 7515 §2 writes bytes."""
    return base64.urlsafe_b64encode(bytes.fromhex(digits)).rstrip(b"=").decode()


def credential_view(who: Standing) -> dict[str, Any]:
    """The application credential behind a token."""
    credential, rules = who.credential, who.access_rules
    assert credential is not None
    found: dict[str, Any] = {
        "id": credential.id, "name": credential.name, "restricted": not credential.unrestricted,
    }  # fmt: skip
    if rules is not None:
        found["access_rules"] = [
            {"id": r.id, "service": r.service, "method": r.method, "path": r.path} for r in rules
        ]  # fmt: skip
    return found


class Asking(Struct, frozen=True, kw_only=True):
    """Somebody who asks for a token."""

    user: User
    methods: tuple[str, ...]
    parent: Payload | None


async def prove_and_spend(call: Call) -> Mapping[str, Any]:
    """`proven`, as factors.prove has it; a log-in by a trust takes one of its uses, if these are limited."""
    extra = await prove(call)
    auth = call.body["auth"]
    scope = auth.get("scope")
    trust = scope.get("OS-TRUST:trust") if isinstance(scope, dict) else None

    def spend(ctx: Context) -> None:
        asking = who_asks(ctx, auth, extra["proven"])
        if not lacking(asking.user, asking.methods):
            spend_use(ctx, scope["OS-TRUST:trust"]["id"], asking.user.id)

    if trust is not None and await call.read(lambda ctx: is_limited(ctx.tx, trust["id"])):
        await call.write(spend)
    return extra


@IDENTITY.op(
    "POST", "/auth/tokens", rule=PUBLIC, load=unguarded, ok=201, takes=LOGIN, slow=prove_and_spend, reads=True,
    body_limit=65_536,
)  # fmt: skip
def issue_token(ctx: Context, body: dict[str, Any], query: Query, proven: Proven) -> Reply:
    """Log in, or exchange a token for one of another scope."""
    asking = who_asks(ctx, body["auth"], proven)
    if wanted := lacking(asking.user, asking.methods):
        return ask_for_more(ctx, tokens(ctx).ring, asking.user, asking.methods, wanted)
    who = who_logs_in(ctx, asking.user, proven, body["auth"].get("scope"))
    return token_reply(ctx, who, methods=asking.methods, parent=asking.parent, catalog="nocatalog" not in query)


def who_asks(ctx: Context, auth: dict[str, Any], proven: Proven) -> Asking:
    """The user behind a log-in, with all that was proven: now, by a receipt, for the token that is exchanged."""
    check_unchanged(ctx.tx, proven, ctx.settings.config.identity, ctx.now)
    parent = None
    if "token" in proven.methods:
        known = tokens(ctx).examine(ctx.tx, auth["identity"]["token"]["id"], ctx.now)
        if known is None:
            raise NotFound("Could not find token.")  # not 401, as upstream and its test suite have it
        parent = known.payload
        check_rescope(parent, proven)
    user_id = parent.user_id if parent else proven.user_id
    earlier = before(ctx, tokens(ctx).ring, user_id).methods
    user = USERS.get(ctx.tx, id=user_id)
    if user is None:
        raise Unauthorized(WRONG)
    methods = dict.fromkeys((*proven.methods, *(parent.methods if parent else ()), *earlier))
    return Asking(user=user, methods=tuple(methods), parent=parent)


def token_reply(
    ctx: Context, who: Standing, *, methods: tuple[str, ...], parent: Payload | None = None, catalog: bool = True,
    until: float | None = None,
) -> Reply:  # fmt: skip
    """A new token for a standing, as the API answers it; `until` ends it sooner than usual."""
    token, payload = tokens(ctx).issue(who, methods=methods, now=ctx.now, parent=parent, until=until)
    shown = token_body(ctx, payload, who, catalog=catalog)
    return Reply(shown, headers={"x-subject-token": token, "vary": "X-Auth-Token"})


def who_logs_in(ctx: Context, user: User, proven: Proven, given: Any) -> Standing:
    """Where the user will stand; raises Unauthorized or Forbidden, telling the log alone why."""
    scope = scope_for(ctx.tx, user, proven, wanted_scope(ctx.tx, given))
    if scope.trust is not None:
        return by_trust(ctx.tx, scope.trust, user.id, ctx.now)
    credential_id = proven.credential.id if proven.credential else ""
    access_token_id = proven.access_token.id if proven.access_token else ""
    try:
        return standing(
            ctx.tx, user.id, scope.scope, scope.target_id, credential_id=credential_id,
            access_token_id=access_token_id, now=ctx.now,
        )  # fmt: skip
    except Refused as why:
        if not scope.explicit and scope.scope != "unscoped":
            return who_logs_in_unscoped(ctx, user.id)  # the default project is only a wish
        log.info("log-in refused: %s", why)
        raise Unauthorized(WRONG) from None


def who_logs_in_unscoped(ctx: Context, user_id: str) -> Standing:
    """The user without a scope; raises Unauthorized."""
    try:
        return standing(ctx.tx, user_id, Wanted().scope, now=ctx.now)
    except Refused as why:
        log.info("log-in refused: %s", why)
        raise Unauthorized(WRONG) from None


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The token that is asked about, as rules see it."""

    user_id: str
    known: Known


def load_subject(ctx: Context) -> Subject:
    """The token in X-Subject-Token; raises NotFound for one that never was valid, or ended but for its time."""
    token = ctx.headers.get("x-subject-token", "")
    if not token:
        raise NotFound("The header X-Subject-Token is missing.")
    known = tokens(ctx).examine(ctx.tx, token, ctx.now, window=ctx.settings.config.identity.allow_expired_window)
    if known is None:
        raise NotFound("Could not find token.")
    rules = known.standing.access_rules
    if rules is not None and not ctx.headers.get("openstack-identity-access-rules"):
        raise NotFound("The token has access rules, which the asking service does not enforce.")
    return Subject(user_id=known.payload.user_id, known=known)


def check_life(ctx: Context, subject: Subject, query: Query) -> None:
    """Raise NotFound for a token that has expired, unless the query allows that."""
    if subject.known.payload.expires_at <= ctx.now and not query.truth("allow_expired"):
        raise NotFound("Could not find token.")


@IDENTITY.op(
    "GET", "/auth/tokens", rule="identity:validate_token", load=load_subject,
    allow=f"{READER} or rule:service_role or rule:token_subject",
)  # fmt: skip
def validate_token(ctx: Context, subject: Subject, query: Query) -> Reply:
    """Validate a token and show it; with `allow_expired`, also one that expired within the window."""
    check_life(ctx, subject, query)
    known, catalog = subject.known, "nocatalog" not in query
    if catalog not in known.bodies:
        shown = token_body(ctx, known.payload, known.standing, catalog=catalog)
        known.bodies[catalog] = msgspec.json.encode(shown)
    headers = {"content-type": JSON, "x-subject-token": known.token, "vary": "X-Auth-Token"}
    return Reply(raw=known.bodies[catalog], headers=headers)


@IDENTITY.op(
    "HEAD", "/auth/tokens", rule="identity:check_token", load=load_subject, allow=f"{READER} or rule:token_subject"
)
def check_token(ctx: Context, subject: Subject, query: Query) -> Reply:
    """Check a token; with `allow_expired`, also one that expired within the window."""
    check_life(ctx, subject, query)
    return Reply(raw=b"", headers={"x-subject-token": subject.known.token, "vary": "X-Auth-Token"})


@IDENTITY.op(
    "DELETE", "/auth/tokens", rule="identity:revoke_token", load=load_subject, ok=204,
    allow="rule:admin_required or rule:token_subject",
)  # fmt: skip
def revoke_token(ctx: Context, subject: Subject, query: Query) -> Reply:
    """Revoke a token, and with it those made from it (unless `cascade=false`)."""
    check_life(ctx, subject, Query({}))
    window = ctx.settings.config.identity.allow_expired_window
    revoke(ctx.tx, subject.known.payload, ctx.now, cascade=query.truth("cascade", default=True), window=window)
    record(
        ctx.tx, now=ctx.now, kind="token", resource_id=subject.known.payload.audit_id, action="revoke",
        phase="success", user_id=ctx.user_id, request_id=ctx.request_id,
    )  # fmt: skip
    return Reply()


def reachable(ctx: Context, *, domains: bool) -> Listing[Project]:
    """The enabled projects of enabled domains, or the domains, on which the caller has a role by whatever way."""
    listing = Listing(PROJECTS).where(f"projects.id in ({REACHABLE})", ctx.user_id, ctx.user_id, ctx.now)
    listing.equals("is_domain", [domains]).equals("enabled", [True])
    alive = "select id from projects where is_domain = 1 and enabled = 1"
    return listing.where(f"projects.domain_id is null or projects.domain_id in ({alive})")


@IDENTITY.op(
    "GET", "/auth/projects", rule="identity:get_auth_projects", allow="@", load=collection, gives=Many(PROJECT)
)
def list_auth_projects(ctx: Context, query: Query) -> Page:
    """List the projects to which a token of the caller could be scoped."""
    return listed(ctx, PROJECT, reachable(ctx, domains=False), query, path="/auth/projects")


@IDENTITY.op("GET", "/auth/domains", rule="identity:get_auth_domains", allow="@", load=collection, gives=Many(DOMAIN))
def list_auth_domains(ctx: Context, query: Query) -> Page:
    """List the domains to which a token of the caller could be scoped."""
    return listed(ctx, DOMAIN, reachable(ctx, domains=True), query, path="/auth/domains")


@IDENTITY.op("GET", "/auth/system", rule="identity:get_auth_system", allow="@", load=collection)
def list_auth_system(ctx: Context) -> dict[str, Any]:
    """Say whether a token of the caller could be scoped to the system."""
    granted = effective_roles(ctx.tx, ctx.user_id, "system", "", ctx.now)
    return {"system": [{"all": True}] if granted else [], **links_beside(ctx, "/auth/system")}


@IDENTITY.op("GET", "/auth/catalog", rule="identity:get_auth_catalog", allow="@", load=collection)
def show_auth_catalog(ctx: Context) -> dict[str, Any]:
    """Show the catalog for the caller's project."""
    if ctx.caller.project_id is None:
        raise Forbidden("A project-scoped token is required to produce a service catalog.")
    found = tokens(ctx).catalog.render(ctx.tx, project_id=ctx.caller.project_id, user_id=ctx.user_id)
    return {"catalog": found, **links_beside(ctx, "/auth/catalog")}
