"""Logging in by SAML: where browsers and clients are sent on, and where the assertions that they bring are taken.

Source: Identity API reference, "OS-FEDERATION"; the place of assertions is this cloud's own (upstream leaves it to
modules of a web server).
"""

import base64
import binascii
import hashlib
import logging
from urllib.parse import parse_qs

from msgspec import Struct

from pileus.core.context import Context
from pileus.core.errors import BadRequest, Unauthorized
from pileus.core.op import PUBLIC, Reply, unguarded
from pileus.db.connect import Conflict
from pileus.db.rows import Table
from pileus.http.app import Call
from pileus.identity.federation.doors import answer_token
from pileus.identity.federation.federated_login import find_provider, log_in
from pileus.identity.federation.saml_message import MOST_BYTES, Message, Wrong, enveloped_message, plain_message
from pileus.identity.federation.saml_peer import Peer, metadata_of, peer_of
from pileus.identity.federation.saml_pool import beside
from pileus.identity.federation.saml_request import (
    PAOS_TYPE,
    Asked,
    ask_browser,
    ask_ecp,
    cookie,
    cookie_name,
    known_request,
    speaks_ecp,
)
from pileus.identity.federation.saml_response import Asserted, check
from pileus.identity.login import WRONG
from pileus.identity.service import IDENTITY

log = logging.getLogger("pileus.identity")
HERE = "/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/saml2"
UNASKED = Asked(id="", url="", until=0.0)


class UsedAssertion(Struct, frozen=True, kw_only=True):
    """An assertion by which somebody logged in; none is taken twice."""

    digest: str  # of issuer and id
    expires_at: float  # after which it would not be taken anyway


USED_ASSERTIONS = Table(UsedAssertion, "saml_used_assertions", ("digest",))


@IDENTITY.op("GET", HERE, rule=PUBLIC, load=unguarded, streams=True)
async def show_sp_metadata(call: Call, idp_id: str, protocol_id: str) -> None:
    """Show the SAML metadata of this cloud as a service provider of one identity provider."""
    peer = peer_of(call.app.settings, idp_id, protocol_id)
    metadata = await beside(lambda: metadata_of(peer))
    await call.answer(200, metadata, {"content-type": "application/samlmetadata+xml"})


@IDENTITY.op("POST", HERE, rule=PUBLIC, load=unguarded, streams=True)
async def take_assertion(call: Call, idp_id: str, protocol_id: str) -> None:
    """Take an identity provider's response and answer with a token, or with the dashboard's form for it."""
    peer = peer_of(call.app.settings, idp_id, protocol_id)
    await call.read(lambda ctx: find_provider(ctx, idp_id, protocol_id))
    raw = await call.read_body(2 * MOST_BYTES)
    content_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    cookies, now = call.headers.get("cookie", ""), call.app.clock()
    try:
        if content_type == PAOS_TYPE:
            asked, asserted = await beside(lambda: from_client(peer, raw, now))
        elif content_type == "application/x-www-form-urlencoded":
            asked, asserted = await beside(lambda: from_browser(peer, form_field(raw), cookies, now))
        else:
            raise BadRequest(f"Content-Type: expected {PAOS_TYPE} or application/x-www-form-urlencoded.")
    except Wrong as why:
        log.info("SAML response for %s refused: %s", idp_id, why)
        raise Unauthorized(WRONG, reason=str(why)) from None
    reply: Reply = await call.write(lambda ctx: log_in_once(ctx, peer, asserted))
    await hand_over(call, peer, asked, reply)


def form_field(raw: bytes) -> bytes:
    """The response in a posted form; raises Wrong."""
    try:
        form = parse_qs(raw.decode("ascii"), max_num_fields=8)
        (encoded,) = form.get("SAMLResponse", [])
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (ValueError, binascii.Error):
        raise Wrong("the form holds no SAMLResponse, or not one in base64") from None


def kept_cookie(header: str, wanted: str) -> str:
    """What a browser kept under a name; other cookies, however odd, are not looked at."""
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == wanted:
            return value
    return ""


def from_browser(peer: Peer, response: bytes, cookies: str, now: float) -> tuple[Asked, Asserted]:
    """What a browser brings, which must be the answer to what that browser asked; raises Wrong."""
    message = plain_message(response)
    kept = kept_cookie(cookies, cookie_name(message.answers))
    if not kept:
        raise Wrong("this browser did not ask for what is answered")
    asked = known_request(peer, kept, now)
    return asked, check(peer, message.response, asked.id, now)


def from_client(peer: Peer, raw: bytes, now: float) -> tuple[Asked, Asserted]:
    """What a client of the enhanced profile brings: an answer, or what another cloud says unasked; raises Wrong."""
    message: Message = enveloped_message(raw)
    try:
        asked = known_request(peer, message.relay_state, now)
    except Wrong:
        asked = UNASKED
    return asked, check(peer, message.response, asked.id, now)


def log_in_once(ctx: Context, peer: Peer, asserted: Asserted) -> Reply:
    """The token for an assertion that nobody used before; raises Unauthorized."""
    digest = hashlib.sha256(f"{asserted.issuer}\0{asserted.id}".encode()).hexdigest()
    ctx.tx.run("delete from saml_used_assertions where expires_at <= ?", ctx.now)
    try:
        USED_ASSERTIONS.insert(ctx.tx, UsedAssertion(digest=digest, expires_at=asserted.until))
    except Conflict:
        raise Unauthorized(WRONG, reason="the assertion was used before") from None
    return log_in(ctx, peer.idp_id, peer.protocol_id, asserted.attributes, until=asserted.session_until)


async def hand_over(call: Call, peer: Peer, asked: Asked, reply: Reply) -> None:
    """Give the token to who asked, and end what its browser kept."""
    await answer_token(call, reply, asked.origin, {"set-cookie": cookie(peer, asked, "")} if asked.id else {})


async def ask(call: Call, idp_id: str, protocol_id: str, origin: str) -> None:
    """Send whoever called to the identity provider; what comes back goes to `origin` ("": to them)."""
    peer, now = peer_of(call.app.settings, idp_id, protocol_id), call.app.clock()
    if not origin and speaks_ecp(call.headers):
        question = await beside(lambda: ask_ecp(peer, now))
    else:
        question = await beside(lambda: ask_browser(peer, origin, now))
    await call.answer(question.status, question.body, question.headers)
