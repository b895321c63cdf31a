"""Logging in by OpenID Connect: by a token of the provider, or by way of the browser.  This cloud is the relying party.

Sources: OpenID Connect Core 1.0 §3.1 (authorization code flow), RFC 7636 (PKCE), RFC 9207 (issuer in the answer),
RFC 9700 (security practice); Identity API reference, "OS-FEDERATION".
"""

import base64
import hashlib
import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from msgspec import Struct

from pileus.core.config import OidcProvider
from pileus.core.errors import ServiceUnavailable
from pileus.core.paging import Query
from pileus.identity.federation.fetch import check_address
from pileus.identity.federation.oidc_provider import Claims, Untrue, provider_of
from pileus.identity.sealing import seal, unseal

COOKIE = "pileus-oidc"
ANSWER_SECONDS = 900  # time to log in at the provider
_DEPTH, _VALUES = 4, 4096  # of objects in claims; of their values altogether


class Asked(Struct, frozen=True, kw_only=True, tag_field="kind", tag="oidc-request"):
    """A log-in under way; sealed, the browser keeps it, so that the answer is taken from that browser alone."""

    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    origin: str  # the dashboard that gets the token
    until: float


def redirect_uri(settings: Any, idp_id: str, protocol_id: str) -> str:
    """Our address to which the provider sends browsers back; to be registered there."""
    path = f"identity_providers/{quote(idp_id, safe='')}/protocols/{quote(protocol_id, safe='')}/oidc"
    return f"{settings.public_url}/identity/v3/OS-FEDERATION/{path}"


def is_for_us(claims: Claims, settings: OidcProvider) -> bool:
    """Whether a token was made for this cloud, or for a client whose tokens it takes (RFC 9068 §4)."""
    audience = claims.get("aud", [])
    named = {*(audience if isinstance(audience, list) else [audience]), claims.get("client_id"), claims.get("azp")}
    return not named.isdisjoint({settings.client_id, *settings.audiences})


async def by_token(settings: OidcProvider, token: str) -> dict[str, list[str]]:
    """The attributes of the user of an access or ID token; raises Untrue or Unreachable."""
    provider = provider_of(settings)
    claims = await (provider.signed(token) if token.count(".") == 2 else provider.introspected(token))
    if not is_for_us(claims, settings):
        raise Untrue("the token was made for another audience")
    sub = claims.get("sub")
    if not isinstance(sub, str) or not sub:
        raise Untrue("the token names no user")
    return attributes_of({**await provider.about_user(token, sub), **claims})


async def ask_browser(settings: OidcProvider, redirect: str, origin: str, now: float) -> tuple[str, Asked]:
    """Where to send a browser, and what must be known when it comes back; raises Unreachable."""
    endpoint = await provider_of(settings).endpoint("authorization_endpoint")
    check_address(endpoint, settings.issuer, settings.hosts)
    asked = Asked(
        state=secrets.token_urlsafe(32), nonce=secrets.token_urlsafe(32), verifier=secrets.token_urlsafe(48),
        redirect_uri=redirect, origin=origin, until=now + ANSWER_SECONDS,
    )  # fmt: skip
    challenge = base64.urlsafe_b64encode(hashlib.sha256(asked.verifier.encode()).digest()).rstrip(b"=").decode()
    question = {
        "response_type": "code", "client_id": settings.client_id, "redirect_uri": redirect,
        "scope": " ".join(settings.scopes), "state": asked.state, "nonce": asked.nonce,
        "code_challenge": challenge, "code_challenge_method": "S256",
    }  # fmt: skip
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(question)}", asked


async def by_answer(settings: OidcProvider, asked: Asked, query: Query) -> dict[str, list[str]]:
    """The attributes of the user whom the provider sent back; raises Untrue or Unreachable."""
    if not hmac.compare_digest((query.one("state") or "").encode(), asked.state.encode()):
        raise Untrue("the answer is not to what this browser asked")
    if query.one("iss", settings.issuer) != settings.issuer:
        raise Untrue("the answer is of another provider than was asked")
    if query.one("error") is not None or not query.one("code"):
        raise Untrue(f"the provider says {(query.one('error') or 'nothing')[:80]!r}")
    provider = provider_of(settings)
    tokens = await provider.exchange(str(query.one("code")), asked.redirect_uri, asked.verifier)
    id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
    if not isinstance(id_token, str):
        raise Untrue("the provider gives no ID token")
    claims = await provider.signed(id_token)
    check_id_token(claims, settings, asked.nonce)
    about: Claims = {}
    if isinstance(access_token, str):
        about = await provider.about_user(access_token, claims["sub"])
    return attributes_of({**about, **claims})


def check_id_token(claims: Claims, settings: OidcProvider, nonce: str) -> None:
    """The ID token is for us and answers this question; raises Untrue.  Source: OpenID Connect Core 1.0 §3.1.3.7."""
    audience = claims.get("aud", [])
    named = audience if isinstance(audience, list) else [audience]
    if settings.client_id not in named or claims.get("azp", settings.client_id) != settings.client_id:
        raise Untrue("the ID token was made for another client")
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise Untrue("the ID token answers another question")


def attributes_of(claims: Claims) -> dict[str, list[str]]:
    """Claims by the names that mappings know: OIDC-claim, and HTTP_OIDC_CLAIM as a web server's module writes it.

    An object's claims stand under its name and a dot.  Two claims that would share a name get none of that form.
    REMOTE_USER is the user at that issuer, as the module has it unless told otherwise.
    """
    plain = flattened(claims, "", 0)
    found = {f"OIDC-{name}": values for name, values in plain.items()}
    found["REMOTE_USER"] = [f"{claims.get('sub')}@{str(claims.get('iss')).removeprefix('https://')}"]
    written: dict[str, list[str]] = {}
    for name in plain:
        written.setdefault("HTTP_OIDC_" + name.upper().replace("-", "_"), []).append(name)
    return found | {name: plain[of[0]] for name, of in written.items() if len(of) == 1}


def flattened(claims: Claims, before: str, depth: int) -> dict[str, list[str]]:
    """Claims as texts; what is no text, number, truth value or list of them is left out."""
    found: dict[str, list[str]] = {}
    for name, value in claims.items():
        if isinstance(value, dict):
            if depth < _DEPTH:
                found |= flattened(value, f"{before}{name}.", depth + 1)
            continue
        values = [text(v) for v in (value if isinstance(value, list) else [value])[:_VALUES]]
        if kept := [v for v in values if v is not None]:
            found[before + name] = kept
    return found


def text(value: Any) -> str | None:
    """A claim's value as a mapping compares it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def cookie_name(state: str) -> str:
    """The cookie of one log-in: a person may begin others in further tabs."""
    return f"{COOKIE}-{hashlib.sha256(state.encode()).hexdigest()[:16]}"


def cookie(asked: Asked, keys_folder: Any) -> str:
    """The cookie that keeps a log-in under way; browsers send it back to one address only."""
    return set_cookie(asked.state, seal(keys_folder, msgspec.json.encode(asked).decode()), asked.redirect_uri)


def end_cookie(asked: Asked) -> str:
    """What makes the browser forget a log-in that ended."""
    return set_cookie(asked.state, "", asked.redirect_uri)


def set_cookie(state: str, value: str, redirect: str) -> str:
    """The header's value."""
    address = urlsplit(redirect)
    secure = "; Secure" if address.scheme == "https" else ""
    life = ANSWER_SECONDS if value else 0
    return f"{cookie_name(state)}={value}; Path={address.path}; Max-Age={life}; HttpOnly; SameSite=Lax{secure}"


def kept(header: str, state: str, keys_folder: Any, redirect: str, now: float) -> Asked:
    """The log-in of this state that this browser began; raises Untrue."""
    try:
        found = SimpleCookie(header).get(cookie_name(state))
        asked = msgspec.json.decode(unseal(keys_folder, found.value if found else ""), type=Asked)
    except (CookieError, ServiceUnavailable, msgspec.DecodeError):
        raise Untrue("this browser did not begin to log in, or elsewhere") from None
    if asked.redirect_uri != redirect or asked.until < now:
        raise Untrue("this browser began to log in elsewhere, or too long ago")
    return asked
