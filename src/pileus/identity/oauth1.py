"""OAuth 1.0a: consumers, request tokens that a user authorizes, access tokens.

Source: Identity API reference, "OS-OAUTH1"; RFC 5849.
"""

import secrets
import string
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import oauthlib.oauth1 as oauth
from msgspec import structs

from pileus.core.clock import iso_micro_z
from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden, NotFound, Unauthorized
from pileus.core.events import record_request
from pileus.core.fields import Field, Fields
from pileus.core.ids import new_hex
from pileus.core.op import PUBLIC, Many, Page, Reply, unguarded
from pileus.core.paging import Listing, Query
from pileus.core.schema import LONG_TEXT, Schema
from pileus.identity.login import WRONG
from pileus.identity.oauth1_signature import (
    ACCESS_TOKEN_SECONDS,
    CONSUMERS,
    REQUEST_TOKEN_SECONDS,
    Consumer,
    RequestToken,
    Validator,
    addresses,
    answered,
    authorization,
    find_request_token,
)
from pileus.identity.role import ROLE
from pileus.identity.rows import ACCESS_TOKENS, ROLES, AccessToken, Role
from pileus.identity.sealing import seal
from pileus.identity.service import (
    ADMIN,
    IDENTITY,
    READER,
    OpenFields,
    links_beside,
    listed,
    of_user,
    own_domain,
    seen,
    self_link,
)
from pileus.identity.standing import effective_roles
from pileus.identity.token import Payload
from pileus.identity.watched import changed

FORM = "application/x-www-form-urlencoded"
READ = f"{READER} or rule:owner"
VERIFIER_CHARACTERS = string.ascii_letters + string.digits
CONSUMER = OpenFields(
    "consumer",
    "consumers",
    (
        Field("id", "rq"),
        Field("description", "cru", LONG_TEXT),
        Field("links", "r", get=self_link("OS-OAUTH1/consumers")),
    ),
)


def load_consumer(ctx: Context, consumer_id: str) -> Consumer:
    """A consumer that the caller may see."""
    return seen(ctx, "identity:get_consumer", "consumer", consumer_id, CONSUMERS.get(ctx.tx, id=consumer_id))


@IDENTITY.op(
    "GET", "/OS-OAUTH1/consumers", rule="identity:list_consumers", allow=READER, load=own_domain, gives=Many(CONSUMER)
)
def list_consumers(ctx: Context, query: Query) -> Page:
    """List consumers."""
    return listed(ctx, CONSUMER, Listing(CONSUMERS), query, path="/OS-OAUTH1/consumers")


@IDENTITY.op(
    "GET", "/OS-OAUTH1/consumers/{consumer_id}", rule="identity:get_consumer", allow=READER, load=load_consumer,
    gives=CONSUMER,
)  # fmt: skip
def get_consumer(consumer: Consumer) -> Consumer:
    """Show a consumer; its secret is never shown again."""
    return consumer


@IDENTITY.op(
    "POST", "/OS-OAUTH1/consumers", rule="identity:create_consumer", allow=ADMIN, load=own_domain, takes=CONSUMER,
    ok=201,
)  # fmt: skip
def create_consumer(ctx: Context, body: dict[str, Any]) -> dict[str, Any]:
    """Create a consumer with a secret of its own."""
    secret = new_hex()
    consumer = CONSUMERS.insert(ctx.tx, Consumer(
        id=new_hex(), description=body.get("description"), extra=CONSUMER.extra_of(body),
        sealed_secret=seal(ctx.settings.keys_folder, secret)))  # fmt: skip
    return {"consumer": {**CONSUMER.render(consumer, ctx), "secret": secret}}


@IDENTITY.op(
    "PATCH", "/OS-OAUTH1/consumers/{consumer_id}", rule="identity:update_consumer", allow=ADMIN, load=load_consumer,
    takes=CONSUMER, gives=CONSUMER,
)  # fmt: skip
def update_consumer(ctx: Context, consumer: Consumer, body: dict[str, Any]) -> Consumer:
    """Update a consumer; its secret stays."""
    if "secret" in body:
        raise BadRequest("secret: the secret of a consumer cannot be changed.")
    changes = CONSUMER.changes(consumer, body)
    CONSUMERS.update(ctx.tx, changes, id=consumer.id)
    return structs.replace(consumer, **changes)


@IDENTITY.op(
    "DELETE", "/OS-OAUTH1/consumers/{consumer_id}", rule="identity:delete_consumer", allow=ADMIN, load=load_consumer,
    ok=204,
)  # fmt: skip
def delete_consumer(ctx: Context, consumer: Consumer) -> Reply:
    """Delete a consumer with its tokens."""
    CONSUMERS.delete(ctx.tx, id=consumer.id)
    changed(ctx.tx)
    return Reply()


Exchange = Callable[[str], tuple[Any, str, int]]


def signed(ctx: Context, path: str, exchange: Exchange, life: float) -> Reply:
    """The tokens that oauthlib makes for a signed request; raises Unauthorized or BadRequest."""
    for url in addresses(ctx, path):
        _, text, status = exchange(url)
        if status == 200:
            more = urlencode({"oauth_expires_at": iso_micro_z(ctx.now + life)})
            return Reply(raw=f"{text}&{more}".encode(), headers={"content-type": FORM})
    if status == 400:
        raise BadRequest(f"The OAuth parameters are not good: {text[:200]}.")
    raise Unauthorized(WRONG)


@IDENTITY.op("POST", "/OS-OAUTH1/request_token", rule=PUBLIC, load=unguarded, ok=201)
def create_request_token(ctx: Context) -> Reply:
    """Let a consumer, known by its signature, ask for a project."""
    endpoint = oauth.RequestTokenEndpoint(Validator(ctx), token_generator=lambda *_: new_hex())
    return signed(
        ctx, "/OS-OAUTH1/request_token",
        lambda url: endpoint.create_request_token_response(url, "POST", None, authorization(ctx)),
        REQUEST_TOKEN_SECONDS,
    )  # fmt: skip


@IDENTITY.op("POST", "/OS-OAUTH1/access_token", rule=PUBLIC, load=unguarded, ok=201)
def create_access_token(ctx: Context) -> Reply:
    """Give a consumer the access token that a user authorized."""
    endpoint = oauth.AccessTokenEndpoint(Validator(ctx), token_generator=lambda *_: new_hex())
    return signed(
        ctx, "/OS-OAUTH1/access_token",
        lambda url: endpoint.create_access_token_response(url, "POST", None, authorization(ctx)),
        ACCESS_TOKEN_SECONDS,
    )  # fmt: skip


_ROLES: Schema = {
    "type": "object",
    "required": ["roles"],
    "properties": {"roles": {"type": "array", "minItems": 1, "maxItems": 64, "items": {
        "type": "object", "minProperties": 1,
        "properties": {"id": {"type": "string", "maxLength": 64}, "name": {"type": "string", "maxLength": 255}}}}},
}  # fmt: skip


def load_request_token(ctx: Context, request_token_id: str) -> RequestToken:
    """A question that any user may answer for themselves."""
    if not ctx.allows("identity:authorize_request_token"):
        raise Forbidden("Policy doesn't allow identity:authorize_request_token to be performed.")
    found = find_request_token(ctx, request_token_id)
    if found is None:
        raise NotFound(f"Could not find request token: {request_token_id[:64]}.")
    return found


@IDENTITY.op(
    "PUT", "/OS-OAUTH1/authorize/{request_token_id}", rule="identity:authorize_request_token",
    allow=f"{ADMIN} or role:member", load=load_request_token, takes=_ROLES,
)  # fmt: skip
def authorize_request_token(ctx: Context, token: RequestToken, body: dict[str, Any]) -> dict[str, Any]:
    """Say yes to a consumer, for some of one's own roles on the project that it asks for (OSSA-2020-005)."""
    mine = ctx.caller.token
    if isinstance(mine, Payload) and mine.delegated:
        raise Forbidden("A token of what a user delegated cannot authorize a request token.")
    held: dict[str, str] = dict(effective_roles(ctx.tx, ctx.user_id, "project", token.project_id, ctx.now))
    by_name = {name: role_id for role_id, name in held.items()}
    chosen = {role.get("id") or by_name.get(role.get("name", ""), "") for role in body["roles"]}
    if not chosen <= held.keys():
        raise Unauthorized("Authorizing user does not have role required.")
    verifier = "".join(secrets.choice(VERIFIER_CHARACTERS) for _ in range(16))
    answered(ctx, token, verifier, sorted(chosen))
    record_request(ctx, "request_token", token.id, "authorize", "success", consumer_id=token.consumer_id)
    return {"token": {"oauth_verifier": verifier}}


def place(token: AccessToken) -> str:
    """Where an access token stands."""
    return f"/users/{token.user_id}/OS-OAUTH1/access_tokens/{token.id}"


ACCESS_TOKEN = Fields(
    "access_token",
    "access_tokens",
    (
        Field("id", "r"),
        Field("consumer_id", "r"),
        Field("project_id", "r"),
        Field("authorizing_user_id", "r", get="user_id"),
        Field("expires_at", "r", get=lambda row, _ctx: iso_micro_z(row.expires_at)),
        Field("links", "r", get=lambda row, ctx: {
            "self": f"{ctx.url}/v3{place(row)}", "roles": f"{ctx.url}/v3{place(row)}/roles"}),
    ),
)  # fmt: skip


def load_access_token(ctx: Context, user_id: str, access_token_id: str, **_path: str) -> AccessToken:
    """An access token of the user in the path that the caller may see."""
    found = ACCESS_TOKENS.get(ctx.tx, id=access_token_id, user_id=user_id)
    return seen(ctx, "identity:get_access_token", "access token", access_token_id, found, {"user_id": user_id})


_PLACE = "/users/{user_id}/OS-OAUTH1/access_tokens"


@IDENTITY.op(
    "GET", _PLACE, rule="identity:list_access_tokens", allow=READ, load=of_user, gives=Many(ACCESS_TOKEN)
)  # fmt: skip
def list_access_tokens(ctx: Context, user_id: str, query: Query) -> Page:
    """List what a user lets consumers do."""
    listing = Listing(ACCESS_TOKENS).equals("user_id", [user_id])
    return listed(ctx, ACCESS_TOKEN, listing, query, path=f"/users/{user_id}/OS-OAUTH1/access_tokens")


@IDENTITY.op(
    "GET", _PLACE + "/{access_token_id}", rule="identity:get_access_token", allow=READ, load=load_access_token,
    gives=ACCESS_TOKEN,
)  # fmt: skip
def get_access_token(token: AccessToken) -> AccessToken:
    """Show an access token; its secret is never shown again."""
    return token


@IDENTITY.op(
    "DELETE", _PLACE + "/{access_token_id}", rule="identity:delete_access_token", allow=f"{ADMIN} or rule:owner",
    load=load_access_token, ok=204,
)  # fmt: skip
def delete_access_token(ctx: Context, token: AccessToken) -> Reply:
    """Take back what a consumer may do; its tokens end."""
    ACCESS_TOKENS.delete(ctx.tx, id=token.id)
    record_request(ctx, "access_token", token.id, "delete", "success")
    return Reply()


@IDENTITY.op(
    "GET", _PLACE + "/{access_token_id}/roles", rule="identity:list_access_token_roles", allow=READ,
    load=load_access_token, gives=Many(ROLE),
)  # fmt: skip
def list_access_token_roles(ctx: Context, token: AccessToken) -> Page:
    """List the roles that a consumer has by an access token."""
    return Page(ROLES.all(ctx.tx, id=token.roles, order="roles.name"), links_beside(ctx, place(token) + "/roles"))


@IDENTITY.op(
    "GET", _PLACE + "/{access_token_id}/roles/{role_id}", rule="identity:get_access_token_role", allow=READ,
    load=load_access_token, gives=ROLE,
)  # fmt: skip
def get_access_token_role(ctx: Context, token: AccessToken, role_id: str) -> Role:
    """Show a role that a consumer has by an access token."""
    found = ROLES.get(ctx.tx, id=role_id) if role_id in token.roles else None
    if found is None:
        raise NotFound(f"Could not find role: {role_id}.")
    return found
