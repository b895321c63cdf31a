"""A provider of OpenID Connect: its documents and keys, and what its tokens say.

Sources: OpenID Connect Core 1.0 and Discovery 1.0; RFC 7517 (keys), 7662 (introspection), 9068 (access tokens),
8725 (which algorithms to believe).  Only signatures by a private key are taken: neither `none` nor HMAC, whose key
would be public.
"""

import asyncio
import base64
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from pileus.core.config import OidcProvider
from pileus.core.errors import ServiceUnavailable
from pileus.identity.federation.fetch import Fetched, Unreachable, check_address, fetch

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
TYPES = ("jwt", "at+jwt")  # of ID tokens and access tokens; logout tokens and their like are signed too
KEPT_SECONDS = 600.0  # that documents and keys are believed without asking again
PAUSE_SECONDS = 10.0  # between two looks for a key that is not known: it may be new
LEEWAY = 60  # seconds that clocks may differ
KEYS_MOST, KEY_LENGTH = 64, 2048  # keys that are looked at; characters of a number in one
PUBLIC_PARTS = ("kty", "kid", "alg", "n", "e", "crv", "x", "y")
TOKEN_LENGTH = 32_768
WAITING_MOST = 32  # requests to one provider at a time
Claims = dict[str, Any]


class Untrue(Exception):
    """Why a token is not believed; for the audit trail, never for the client."""


class Provider:
    """One provider, as this process knows it; everything asked of it is bounded and remembered."""

    def __init__(self, settings: OidcProvider, clock: Callable[[], float] = time.time):
        self.settings, self.clock = settings, clock
        self._document: dict[str, Any] = {}
        self._document_at = self._keys_at = self._keys_asked_at = self._failed_at = float("-inf")
        self._keys: list[dict[str, Any]] = []
        self._lock = asyncio.Lock()
        self._asking = 0

    def check_pause(self) -> None:
        """Refuse to wait for a provider again that did not answer a moment ago; raises Unreachable."""
        if self.clock() - self._failed_at < PAUSE_SECONDS:
            raise Unreachable("the provider did not answer a moment ago")

    async def read(self, url: str) -> dict[str, Any]:
        """One of the provider's documents; raises Unreachable."""
        self.check_pause()
        try:
            answer = await self.ask(url)
            if answer.status != 200:
                raise Unreachable(f"{url[:200]} answers {answer.status}")
            return answer.json()
        except Unreachable:
            self._failed_at = self.clock()
            raise

    async def ask(self, url: str, **how: Any) -> Fetched:
        """One request to the provider; raises Unreachable, or ServiceUnavailable when too many are under way."""
        check_address(url, self.settings.issuer, self.settings.hosts)
        if self._asking >= WAITING_MOST:
            raise ServiceUnavailable("Too many log-ins wait for this identity provider.", headers={"retry-after": "1"})
        self._asking += 1
        try:
            return await fetch(url, ca_file=self.settings.ca_file, **how)
        finally:
            self._asking -= 1

    async def document(self) -> dict[str, Any]:
        """The discovery document; raises Unreachable.  Source: OpenID Connect Discovery 1.0 §4."""
        async with self._lock:
            if self.clock() - self._document_at > KEPT_SECONDS:
                below = f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
                wanted = self.settings.discovery_url or below
                found = await self.read(wanted)
                if found.get("issuer") != self.settings.issuer:
                    raise Unreachable(f"the document at {wanted} is not that of {self.settings.issuer}")
                self._document, self._document_at = found, self.clock()
        return self._document

    async def endpoint(self, name: str) -> str:
        """An address that the provider names; "" when it has none."""
        found = (await self.document()).get(name)
        return found if isinstance(found, str) else ""

    async def key_set(self, key_id: str | None) -> Any:
        """The provider's public keys, asked for again when one is not among them; raises Unreachable."""
        from joserfc.jwk import KeySet

        url = await self.endpoint("jwks_uri")
        async with self._lock:
            known = {key.get("kid") for key in self._keys}
            old = self.clock() - self._keys_at > KEPT_SECONDS
            missing = key_id not in known and self.clock() - self._keys_asked_at > PAUSE_SECONDS
            if old or missing:
                self._keys_asked_at = self.clock()
                self._keys, self._keys_at = usable((await self.read(url)).get("keys")), self.clock()
        if not self._keys:
            raise Unreachable(f"{url[:200]} has no key by which tokens could be signed")
        return KeySet.import_key_set({"keys": self._keys})

    async def signed(self, token: str) -> Claims:
        """The claims of a token that this provider signed and that is valid now; raises Untrue or Unreachable."""
        from joserfc import jws, jwt
        from joserfc.errors import JoseError

        if len(token) > TOKEN_LENGTH or not token.isascii():
            raise Untrue("the token is too long")
        try:
            header = jws.extract_compact(token.encode()).headers()
            if str(header.get("typ", "JWT")).lower().removeprefix("application/") not in TYPES:
                raise Untrue("what was signed is neither an ID token nor an access token")
            if header.get("alg") not in ALGORITHMS:
                raise Untrue(f"the token is signed by {str(header.get('alg'))[:40]!r}, which is not believed")
            key_id = header.get("kid")
            keys = await self.key_set(key_id if isinstance(key_id, str) else None)
            claims: Claims = jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims
            expected = {"iss": {"essential": True, "value": self.settings.issuer}, "exp": {"essential": True},
                        "sub": {"essential": True}}  # fmt: skip
            jwt.JWTClaimsRegistry(now=int(self.clock()), leeway=LEEWAY, **expected).validate(claims)  # type: ignore[arg-type]  # options by name, which the stub does not know one by one
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise Untrue(f"the token is not the provider's, or not valid now: {type(error).__name__} {error}") from None
        return claims

    async def introspected(self, token: str) -> Claims:
        """What the provider says of a token that only it can read; raises Untrue or Unreachable.  Source: RFC 7662."""
        url = await self.endpoint("introspection_endpoint")
        if not url or not self.settings.client_secret_file:
            raise Untrue("the token is no JWT, and there is no way to ask the provider about it")
        form = {"token": token, "token_type_hint": "access_token"}
        answer = await self.ask(url, headers=self.basic(), form=urlencode(form).encode())
        found = answer.json() if answer.status == 200 else {}
        if found.get("active") is not True or found.get("iss", self.settings.issuer) != self.settings.issuer:
            raise Untrue("the provider says that the token is not valid")
        until = found.get("exp")
        if isinstance(until, int | float) and until + LEEWAY <= self.clock():
            raise Untrue("the token has expired")
        return {**found, "iss": self.settings.issuer}

    async def about_user(self, access_token: str, sub: str) -> Claims:
        """What the provider tells of the user of an access token; nothing when it tells nothing.

        Raises Untrue when that is another user.  Source: OpenID Connect Core 1.0 §5.3.2.
        """
        url = await self.endpoint("userinfo_endpoint") if self.settings.userinfo else ""
        if not url:
            return {}
        answer = await self.ask(url, headers={"authorization": f"Bearer {access_token}"})
        if answer.status != 200:  # an ID token, or a program's own access token: there is nothing to tell
            return {}
        found = answer.json()
        if found.get("sub") != sub:
            raise Untrue("the provider tells of another user than the token's")
        return found

    async def exchange(self, code: str, redirect_uri: str, verifier: str) -> dict[str, Any]:
        """The tokens for a code; raises Untrue or Unreachable.  Sources: RFC 6749 §4.1.3, RFC 7636 §4.5."""
        url = await self.endpoint("token_endpoint")
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri,
                "code_verifier": verifier}  # fmt: skip
        methods = (await self.document()).get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        headers = {}
        if self.settings.client_secret_file and "client_secret_basic" in methods:
            headers = self.basic()
        else:
            form["client_id"] = self.settings.client_id
            if self.settings.client_secret_file:
                form["client_secret"] = self.secret()
        answer = await self.ask(url, headers=headers, form=urlencode(form).encode())
        if answer.status != 200:
            raise Untrue(f"the provider does not take the code ({answer.status})")
        return answer.json()

    def secret(self) -> str:
        """The client's secret, read anew so that it can be changed without a restart; raises Unreachable."""
        try:
            return Path(self.settings.client_secret_file).read_text().strip()
        except (OSError, ValueError) as error:
            raise Unreachable(f"client_secret_file: {error}") from None

    def basic(self) -> dict[str, str]:
        """The header by which this cloud proves to be the client (RFC 6749 §2.3.1)."""
        pair = f"{quote(self.settings.client_id, safe='')}:{quote(self.secret(), safe='')}"
        return {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def usable(keys: Any) -> list[dict[str, Any]]:
    """The public signature keys of a provider's answer; what is huge, or no such key, is left out."""
    found = []
    for key in keys[:KEYS_MOST] if isinstance(keys, list) else ():
        if not isinstance(key, dict) or key.get("kty") not in ("RSA", "EC", "OKP") or key.get("use", "sig") != "sig":
            continue
        public = {name: value for name, value in key.items() if name in PUBLIC_PARTS}
        if all(isinstance(v, str) and len(v) <= KEY_LENGTH for v in public.values()) and importable(public):
            found.append(public)
    return found


def importable(key: dict[str, Any]) -> bool:
    """Whether this is a key at all."""
    from joserfc.errors import JoseError
    from joserfc.jwk import import_key

    try:
        import_key(key)
    except (JoseError, ValueError, TypeError, KeyError):
        return False
    return True


@functools.lru_cache(maxsize=64)
def provider_of(settings: OidcProvider) -> Provider:
    """The one memory of this process for a provider with these settings."""
    return Provider(settings)
