"""What OAuth 1.0a asks of us, for oauthlib, which checks the signatures.

Source: RFC 5849; Identity API reference, "OS-OAUTH1".
"""

import hmac
from typing import Any

import oauthlib.oauth1 as oauth
from msgspec import Struct, structs
from oauthlib.oauth1.rfc5849.utils import parse_authorization_header

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Forbidden, Unauthorized
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.identity.login import WRONG
from pileus.identity.rows import ACCESS_TOKENS, PROJECTS, AccessToken
from pileus.identity.sealing import seal, unseal

REQUEST_TOKEN_SECONDS = 28_800.0
ACCESS_TOKEN_SECONDS = 86_400.0
CLOCK_SECONDS = 600  # how far a client's clock may be off; nonces are kept for twice as long
METHODS = (oauth.SIGNATURE_HMAC_SHA1, oauth.SIGNATURE_HMAC_SHA256, oauth.SIGNATURE_HMAC_SHA512)


class Consumer(Struct, frozen=True, kw_only=True):
    """A program that asks users to let it act for them."""

    id: str
    description: str | None = None
    sealed_secret: str
    extra: dict[str, Any] = {}


class RequestToken(Struct, frozen=True, kw_only=True):
    """A consumer's question to a user; user, roles and verifier are there when it was answered."""

    id: str
    consumer_id: str
    sealed_secret: str
    project_id: str
    callback: str
    verifier: str | None = None
    user_id: str | None = None
    roles: list[str] | None = None
    expires_at: float


CONSUMERS = Table(Consumer, "oauth_consumers")
REQUEST_TOKENS = Table(RequestToken, "oauth_request_tokens")


def find_request_token(ctx: Context, token_id: str) -> RequestToken | None:
    """A request token that has not expired."""
    found = REQUEST_TOKENS.get(ctx.tx, id=token_id)
    return found if found is not None and found.expires_at > ctx.now else None


class Validator(oauth.RequestValidator):  # type: ignore[misc]  # oauthlib has no types
    """One request's view of consumers and tokens; unknown ones cost what known ones cost."""

    dummy_client = dummy_request_token = dummy_access_token = "0" * 32
    enforce_ssl = False  # TLS ends in front of us
    timestamp_lifetime = CLOCK_SECONDS
    allowed_signature_methods = METHODS

    def __init__(self, ctx: Context):
        super().__init__()
        self.ctx = ctx
        self._fresh: set[tuple[str, str]] = set()  # nonces of this very request

    def check_client_key(self, client_key: str) -> bool:
        return _plain(client_key)

    check_request_token = check_access_token = check_nonce = check_verifier = check_client_key

    def _unsealed(self, sealed: str | None) -> str:
        return unseal(self.ctx.settings.keys_folder, sealed) if sealed else "0" * 32

    def get_client_secret(self, client_key: str, request: Any) -> str:
        found = CONSUMERS.get(self.ctx.tx, id=client_key)
        return self._unsealed(found.sealed_secret if found else None)

    def get_request_token_secret(self, client_key: str, token: str, request: Any) -> str:
        found = find_request_token(self.ctx, token)
        return self._unsealed(found.sealed_secret if found else None)

    def get_access_token_secret(self, client_key: str, token: str, request: Any) -> str:
        found = ACCESS_TOKENS.get(self.ctx.tx, id=token)
        return self._unsealed(found.sealed_secret if found else None)

    def validate_client_key(self, client_key: str, request: Any) -> bool:
        return CONSUMERS.get(self.ctx.tx, id=client_key) is not None

    def validate_request_token(self, client_key: str, token: str, request: Any) -> bool:
        found = find_request_token(self.ctx, token)
        return found is not None and found.consumer_id == client_key and found.user_id is not None

    def validate_access_token(self, client_key: str, token: str, request: Any) -> bool:
        found = ACCESS_TOKENS.get(self.ctx.tx, id=token)
        return found is not None and found.consumer_id == client_key and found.expires_at > self.ctx.now

    def validate_timestamp_and_nonce(
        self, client_key: str, timestamp: str, nonce: str, request: Any, request_token: str | None = None,
        access_token: str | None = None,
    ) -> bool:  # fmt: skip
        """RFC 5849 §3.3: a nonce is good once."""
        if (client_key, nonce) in self._fresh:
            return True
        self._fresh.add((client_key, nonce))
        return remember_nonce(self.ctx.tx, client_key, nonce, self.ctx.now)

    def validate_redirect_uri(self, client_key: str, redirect_uri: str, request: Any) -> bool:
        return True

    def validate_requested_realms(self, client_key: str, realms: Any, request: Any) -> bool:
        return True

    def get_default_realms(self, client_key: str, request: Any) -> list[str]:
        return []

    get_realms = get_default_realms

    def validate_realms(self, client_key: str, token: str, request: Any, uri: str | None = None,
                        realms: Any = None) -> bool:  # fmt: skip
        return True

    def validate_verifier(self, client_key: str, token: str, verifier: str, request: Any) -> bool:
        found = find_request_token(self.ctx, token)
        return hmac.compare_digest((found.verifier if found else None) or "0" * 8, verifier) and found is not None

    def save_request_token(self, token: dict[str, Any], request: Any) -> None:
        """Keep the question of a consumer, about the project that its header names."""
        project_id = self.ctx.headers.get("requested-project-id", "")
        if PROJECTS.get(self.ctx.tx, id=project_id, is_domain=False) is None:
            raise BadRequest("Requested-Project-Id: it must name a project.")
        expires = self.ctx.now + REQUEST_TOKEN_SECONDS
        self.ctx.tx.run("delete from oauth_request_tokens where expires_at <= ?", self.ctx.now)
        REQUEST_TOKENS.insert(self.ctx.tx, RequestToken(
            id=token["oauth_token"], consumer_id=request.client_key, project_id=project_id, expires_at=expires,
            sealed_secret=seal(self.ctx.settings.keys_folder, token["oauth_token_secret"]),
            callback=request.redirect_uri or "oob"))  # fmt: skip

    def save_access_token(self, token: dict[str, Any], request: Any) -> None:
        """Keep the answer of the user; the question is gone."""
        asked = find_request_token(self.ctx, request.resource_owner_key)
        assert asked is not None and asked.user_id is not None and asked.roles is not None, "validated before"
        self.ctx.tx.run("delete from oauth_access_tokens where expires_at <= ?", self.ctx.now)
        expires = self.ctx.now + ACCESS_TOKEN_SECONDS
        ACCESS_TOKENS.insert(self.ctx.tx, AccessToken(
            id=token["oauth_token"], consumer_id=asked.consumer_id, user_id=asked.user_id,
            sealed_secret=seal(self.ctx.settings.keys_folder, token["oauth_token_secret"]),
            project_id=asked.project_id, roles=asked.roles, expires_at=expires))  # fmt: skip

    def invalidate_request_token(self, client_key: str, request_token: str, request: Any) -> None:
        REQUEST_TOKENS.delete(self.ctx.tx, id=request_token)


def _plain(text: str) -> bool:
    return text.isascii() and text.isalnum() and 1 <= len(text) <= 64


def remember_nonce(tx: Tx, client_key: str, nonce: str, now: float) -> bool:
    """Whether a nonce is new; it is kept for as long as its timestamp would be accepted."""
    tx.run("delete from oauth_nonces where at <= ?", now - 2 * CLOCK_SECONDS)
    return bool(tx.run(
        "insert into oauth_nonces (client, nonce, at) values (?, ?, ?) on conflict do nothing", client_key, nonce, now
    ))  # fmt: skip


def addresses(ctx: Context, path: str) -> list[str]:
    """The URLs by which a client may have reached a path: the signature is over the one that it used."""
    return [f"{ctx.url}/v3{path}", f"{ctx.url.removesuffix('/identity')}/v3{path}"]


def authorization(ctx: Context) -> dict[str, str]:
    """The one header that OAuth looks at; raises Unauthorized for one that it cannot read."""
    given = ctx.headers.get("authorization", "")
    try:
        parse_authorization_header(given)
    except ValueError:
        raise Unauthorized(WRONG) from None
    return {"Authorization": given}


def prove_access_token(ctx: Context, method: str, path: str) -> AccessToken:
    """The access token whose signature the request bears; raises Unauthorized."""
    validator = Validator(ctx)
    endpoint = oauth.ResourceEndpoint(validator)
    for url in addresses(ctx, path):
        valid, request = endpoint.validate_protected_resource_request(url, method, None, authorization(ctx), [])
        if valid:
            found = ACCESS_TOKENS.get(ctx.tx, id=request.resource_owner_key)
            assert found is not None, "validated before"
            return found
    raise Unauthorized(WRONG)


def answered(ctx: Context, token: RequestToken, verifier: str, roles: list[str]) -> None:
    """A user's yes to a request token; raises Forbidden when somebody answered before."""
    done = structs.replace(token, verifier=verifier, roles=roles, user_id=ctx.user_id)
    if not REQUEST_TOKENS.update(
        ctx.tx, {"verifier": done.verifier, "roles": done.roles, "user_id": done.user_id}, id=token.id, user_id=None
    ):
        raise Forbidden("The request token was authorized already.")
