"""OAuth 2.0 client credentials: an application credential as client, its token as bearer token.

Sources: Identity API reference, "OS-OAUTH2"; RFC 6749 sections 4.4 and 5; RFC 8705: who comes by a certificate gets a
token that is nothing without it.
"""

import base64
import binascii
import json
from typing import Any
from urllib.parse import parse_qs, unquote

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Problem, Unauthorized
from pileus.core.op import PUBLIC, unguarded
from pileus.http.app import Call
from pileus.http.proxies import shown_certificate, thumbprint_of
from pileus.identity.auth import tokens, who_logs_in
from pileus.identity.certificate import is_mapped_to, keeps_certificate
from pileus.identity.factors import prove_credential
from pileus.identity.login import WRONG, Proven, check_unchanged
from pileus.identity.multi_factor import lacking
from pileus.identity.passwords import MAX_LENGTH
from pileus.identity.rows import USERS
from pileus.identity.service import IDENTITY
from pileus.identity.token import TOKEN_SECONDS

_HEADERS = {"content-type": "application/json", "cache-control": "no-store", "pragma": "no-cache"}


class Refusal(Exception):
    """What RFC 6749 §5.2 answers: a status, an error code, and words for people."""

    def __init__(self, status: int, code: str, text: str):
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


@IDENTITY.op("POST", "/OS-OAUTH2/token", rule=PUBLIC, load=unguarded, streams=True)
async def create_oauth2_token(call: Call) -> None:
    """Give a client an access token (grant type client_credentials)."""
    try:
        form = await read_form(call)
        proven = await prove_client(call, form)
    except Refusal as refusal:
        body = {"error": refusal.code, "error_description": refusal.text}
        headers = {**_HEADERS, **({"www-authenticate": "Basic"} if refusal.status == 401 else {})}
        await call.answer(refusal.status, json.dumps(body).encode(), headers)
        return
    answer: dict[str, Any] = await call.read(lambda ctx: issue(ctx, proven))
    await call.answer(200, json.dumps(answer).encode(), _HEADERS)


async def read_form(call: Call) -> dict[str, str]:
    """The form; raises Refusal unless it asks for the grant that there is."""
    if call.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Refusal(400, "invalid_request", "Content-Type: expected application/x-www-form-urlencoded.")
    text = (await call.read_body(16_384)).decode("latin-1")
    try:
        form = {name: values[-1] for name, values in parse_qs(text, max_num_fields=16).items()}
    except ValueError:
        raise Refusal(400, "invalid_request", "The form holds too many fields.") from None
    if form.get("grant_type") != "client_credentials":
        code = "unsupported_grant_type" if "grant_type" in form else "invalid_request"
        raise Refusal(400, code, "grant_type: expected client_credentials.")
    return form


async def prove_client(call: Call, form: dict[str, str]) -> Proven:
    """Whose client this is; raises Refusal."""
    scheme, _, encoded = call.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() == "basic":
            client, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
            return await prove_credential(call, {"id": unquote(client), "secret": secret[:MAX_LENGTH]})
        shown, user_id = shown_certificate(call), form.get("client_id", "")
        found: Proven | None = await call.read(lambda ctx: by_certificate(ctx, shown, user_id))
        if found is not None:
            return found
    except (binascii.Error, UnicodeDecodeError, Problem):
        pass
    raise Refusal(401, "invalid_client", "Client authentication failed.")


def by_certificate(ctx: Context, pem: str, user_id: str) -> Proven | None:
    """The user whose certificate this is, by which TLS let the client in (RFC 8705 §2)."""
    thumbprint, user = thumbprint_of(pem), USERS.get(ctx.tx, id=user_id)
    if thumbprint is None or user is None:
        return None
    if keeps_certificate(ctx.tx, user_id, thumbprint):
        return Proven(user_id=user_id, methods=("oauth2_credential",), certificate=thumbprint)
    if is_mapped_to(ctx, pem, user):
        return Proven(user_id=user_id, methods=("oauth2_credential", "external"), certificate=thumbprint)
    return None


def issue(ctx: Context, proven: Proven) -> dict[str, Any]:
    """The answer of RFC 6749 §5.1."""
    check_unchanged(ctx.tx, proven, ctx.settings.config.identity, ctx.now)
    user = USERS.get(ctx.tx, id=proven.user_id)
    if user is None or (proven.credential is None and lacking(user, proven.methods)):
        raise Unauthorized(WRONG)
    if proven.credential is None and user.default_project_id is None:
        raise BadRequest("A client that is known by its certificate needs a default project.")
    who = who_logs_in(ctx, user, proven, None)
    methods = ("application_credential",) if proven.credential else proven.methods
    token, payload = tokens(ctx).issue(who, methods=methods, now=ctx.now, certificate=proven.certificate)
    assert payload.expires_at - ctx.now <= TOKEN_SECONDS
    return {"access_token": token, "expires_in": int(payload.expires_at - ctx.now), "token_type": "Bearer"}
