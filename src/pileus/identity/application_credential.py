"""Application credentials: a program's own way to log in, with some of its user's roles on one project.

Source: Identity API reference, "Application credentials".  What is delegated can only shrink: at each use
the roles are cut to those that the user still has, and without `unrestricted` no further credentials are made.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from pileus.core.clock import iso_micro, parse_iso
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Conflicted, Forbidden
from pileus.core.events import record_request
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_hex
from pileus.core.op import Many, Page, Reply
from pileus.core.paging import Listing, Query
from pileus.core.schema import BOOLEAN, NAME, TEXT, Schema
from pileus.db.connect import Conflict, Tx
from pileus.http.app import Call
from pileus.identity.access_rule import ACCESS_RULE_LIST, ensure_rules
from pileus.identity.passwords import MAX_LENGTH, keep_hash, passwords
from pileus.identity.rows import ACCESS_RULES, APPLICATION_CREDENTIALS, ROLES, ApplicationCredential
from pileus.identity.service import ADMIN, IDENTITY, SYSTEM_READER, listed, of_user, seen
from pileus.identity.standing import effective_roles
from pileus.identity.token import Payload

READ = f"{ADMIN} or {SYSTEM_READER} or rule:owner"
_ROLE_LIST: Schema = {
    "type": "array",
    "maxItems": 64,
    "items": {
        "type": "object",
        "properties": {"id": {"type": "string", "maxLength": 64}, "name": NAME},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    },
}


def roles_shown(row: ApplicationCredential, ctx: Context) -> list[dict[str, Any]]:
    """The roles as the API shows them."""
    found = ROLES.all(ctx.tx, id=row.roles, order="roles.name")
    return [{"id": r.id, "name": r.name, "domain_id": r.domain_id} for r in found]


def links(row: ApplicationCredential, ctx: Context) -> dict[str, str]:
    """Where the credential stands."""
    return {"self": f"{ctx.url}/v3/users/{row.user_id}/application_credentials/{row.id}"}


APPLICATION_CREDENTIAL = Fields(
    "application_credential",
    "application_credentials",
    (
        Field("id", "rq"),
        Field("name", "Crqs", NAME),
        Field("description", "cr", TEXT),
        Field("secret", "c", {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_LENGTH}),
        Field("expires_at", "cr", {"type": ["string", "null"], "maxLength": 64},
              get=lambda row, _ctx: iso_micro(row.expires_at)),
        Field("project_id", "r"),
        Field("user_id", "r"),
        Field("unrestricted", "cr", BOOLEAN, default=False),
        Field("roles", "cr", _ROLE_LIST, get=roles_shown),
        Field("access_rules", "c", ACCESS_RULE_LIST),
        Field("links", "r", get=links),
    ),
    extra=True,
)  # fmt: skip


def load_credential(ctx: Context, user_id: str, application_credential_id: str) -> ApplicationCredential:
    """A credential of the user in the path that the caller may see."""
    found = APPLICATION_CREDENTIALS.get(ctx.tx, id=application_credential_id, user_id=user_id)
    return seen(
        ctx, "identity:get_application_credential", "application credential", application_credential_id, found,
        {"user_id": user_id},
    )  # fmt: skip


def shown(ctx: Context, row: ApplicationCredential, **more: Any) -> dict[str, Any]:
    """A credential with its access rules (left out when there are none, as upstream does)."""
    found = APPLICATION_CREDENTIAL.render(row, ctx)
    if row.access_rules is not None:
        rules = ACCESS_RULES.all(ctx.tx, id=row.access_rules, order="access_rules.id")
        found["access_rules"] = [{"id": r.id, "service": r.service, "method": r.method, "path": r.path} for r in rules]
    return {**found, **more}


def check_unrestricted(ctx: Context, *, by_trust: bool = False) -> None:
    """Refuse a token by which somebody acts for a user what would outlive it (OSSA-2026-005, OSSA-2014-022).

    An unrestricted application credential may; with `by_trust` so may a trust, whose mark the new one must bear.
    """
    token = ctx.caller.token
    if not isinstance(token, Payload) or not token.delegated or (by_trust and token.trust_id):
        return
    if not token.application_credential_id:
        raise Forbidden("A token of what a user delegated cannot make or delete credentials.")
    credential = APPLICATION_CREDENTIALS.get(ctx.tx, id=token.application_credential_id)
    if credential is None or not credential.unrestricted:
        raise Forbidden("A restricted application credential cannot make or delete credentials.")


@IDENTITY.op(
    "GET", "/users/{user_id}/application_credentials", rule="identity:list_application_credentials", allow=READ,
    load=of_user, gives=Many(APPLICATION_CREDENTIAL),
)  # fmt: skip
def list_application_credentials(ctx: Context, user_id: str, query: Query) -> Page:
    """List a user's application credentials."""
    listing = Listing(APPLICATION_CREDENTIALS).equals("user_id", [user_id])
    path = f"/users/{user_id}/application_credentials"
    return listed(ctx, APPLICATION_CREDENTIAL, listing, query, path=path)


@IDENTITY.op(
    "GET", "/users/{user_id}/application_credentials/{application_credential_id}",
    rule="identity:get_application_credential", allow=READ, load=load_credential,
)  # fmt: skip
def get_application_credential(ctx: Context, credential: ApplicationCredential) -> dict[str, Any]:
    """Show an application credential; its secret is never shown again."""
    return {"application_credential": shown(ctx, credential)}


async def make_secret(call: Call) -> Mapping[str, Any]:
    """`secret`: the one given, or a random one; `hashed`: what is stored of it."""
    secret = call.body["application_credential"].get("secret") or secrets.token_urlsafe(64)
    return {"secret": secret, "hashed": await passwords(call.app.settings.config.identity).hash(secret)}


@IDENTITY.op(
    "POST", "/users/{user_id}/application_credentials", rule="identity:create_application_credential",
    allow="rule:owner", load=of_user, takes=APPLICATION_CREDENTIAL, ok=201, slow=make_secret,
)  # fmt: skip
def create_application_credential(
    ctx: Context, user_id: str, body: dict[str, Any], secret: str, hashed: str
) -> dict[str, Any]:
    """Create an application credential on the project of the caller's token."""
    check_unrestricted(ctx)
    rules = body.get("access_rules")
    check_rules(ctx, rules)
    credential = ApplicationCredential(
        id=new_hex(), user_id=user_id, project_id=ctx.project_id, name=body["name"],
        description=body.get("description"), expires_at=life(ctx, body.get("expires_at")),
        unrestricted=body.get("unrestricted", False), roles=chosen_roles(ctx, body.get("roles")),
        access_rules=None if rules is None else ensure_rules(ctx.tx, user_id, rules), made_by=maker(ctx),
    )  # fmt: skip
    try:
        APPLICATION_CREDENTIALS.insert(ctx.tx, credential)
    except Conflict:
        raise Conflicted(
            f"Conflict occurred attempting to store application_credential - Duplicate name, {credential.name}."
        ) from None
    keep_hash(ctx.tx, credential.id, hashed)
    record_request(ctx, "application_credential", credential.id, "create", "success")
    return {"application_credential": shown(ctx, credential, secret=secret)}


def expiry(ctx: Context, given: str | None) -> float | None:
    """Seconds since the epoch of `expires_at`; raises BadRequest for a time that is none or has passed."""
    if given is None:
        return None
    try:
        at = parse_iso(given)
    except ValueError as error:
        raise BadRequest(f"expires_at: {error}.") from None
    if at <= ctx.now:
        raise BadRequest("expires_at: the time has passed already.")
    return at


def maker(ctx: Context) -> str | None:
    """The id of the application credential that the caller acts by."""
    token = ctx.caller.token
    return token.application_credential_id or None if isinstance(token, Payload) else None


def check_rules(ctx: Context, rules: list[dict[str, str]] | None) -> None:
    """A credential that is bound to some requests makes none that may do more."""
    if ctx.caller.access_rules is None:
        return
    own = {tuple(rule) for rule in ctx.caller.access_rules}
    wanted = {(r.get("service"), r.get("method"), r.get("path")) for r in rules or ()}
    if rules is None or not wanted <= own:
        raise Forbidden("access_rules: a credential with access rules makes only those with some of its own rules.")


def end(tx: Tx, credential_id: str) -> None:
    """Delete a credential with those made by it; their tokens end at once."""
    tx.run(
        "with recursive gone(id) as (select ? union select application_credentials.id from application_credentials"
        " join gone on application_credentials.made_by = gone.id)"
        " delete from password_hashes where owner_id in (select id from gone)",
        credential_id,
    )  # fmt: skip
    APPLICATION_CREDENTIALS.delete(tx, id=credential_id)


def life(ctx: Context, given: str | None) -> float | None:
    """When a new credential ends: as asked, and no later than the one by which it is made."""
    wanted, token = expiry(ctx, given), ctx.caller.token
    if not isinstance(token, Payload) or not token.application_credential_id:
        return wanted
    parent = APPLICATION_CREDENTIALS.get(ctx.tx, id=token.application_credential_id)
    if parent is None or parent.expires_at is None:
        return wanted
    if wanted is not None and wanted > parent.expires_at:
        raise Forbidden("expires_at: it cannot last longer than the credential by which it is made.")
    return wanted or parent.expires_at


def chosen_roles(ctx: Context, given: list[dict[str, str]] | None) -> list[str]:
    """Ids of the roles to delegate: all of the caller's, or those named; raises BadRequest for one not held."""
    assert ctx.caller.project_id is not None
    held: dict[str, str] = dict(effective_roles(ctx.tx, ctx.user_id, "project", ctx.caller.project_id, ctx.now))
    held = {role_id: name for role_id, name in held.items() if name.lower() in ctx.caller.roles}
    if not given:
        return sorted(held)
    by_name = {name: role_id for role_id, name in held.items()}
    chosen = set()
    for role in given:
        role_id = role.get("id") or by_name.get(role.get("name", ""), "")
        if role_id not in held:
            raise BadRequest(f"roles: you do not have the role {role.get('id') or role.get('name')} on this project.")
        chosen.add(role_id)
    return sorted(chosen)


@IDENTITY.op(
    "DELETE", "/users/{user_id}/application_credentials/{application_credential_id}",
    rule="identity:delete_application_credential", allow=f"{ADMIN} or rule:owner", load=load_credential, ok=204,
)  # fmt: skip
def delete_application_credential(ctx: Context, credential: ApplicationCredential) -> Reply:
    """Delete an application credential; its tokens end at once."""
    check_unrestricted(ctx)
    end(ctx.tx, credential.id)
    record_request(ctx, "application_credential", credential.id, "delete", "success")
    return Reply()
