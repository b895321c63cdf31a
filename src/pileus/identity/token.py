"""The token itself: a few facts and their HMAC-SHA256, in at most 255 characters of base64url.

A token says who, for what, how long, and which generations of user and scope it was made from; all else
is looked up, so that nothing in it can grow stale.  Nothing is read before its MAC was checked.
"""

import base64
import binascii
import hmac
import secrets
from typing import Any, Literal

import msgspec
from msgspec import Struct

from pileus.identity.keys import KeyRing

TOKEN_SECONDS = 3600.0
MAX_LENGTH = 255
_MAC = 32
_HEAD = 5  # one byte of format, four of key id
_FORMAT = b"\x01"

ScopeKind = Literal["unscoped", "project", "domain", "system"]
SCOPES: tuple[ScopeKind, ...] = ("unscoped", "project", "domain", "system")
# The order is part of the token's format: new methods go to the end.
METHODS = ("password", "token", "application_credential")


class Payload(Struct, frozen=True, kw_only=True):
    """What a token says."""

    user_id: str
    methods: tuple[str, ...]
    scope: ScopeKind = "unscoped"
    scope_id: str = ""  # of the project or domain
    issued_at: float
    expires_at: float
    audit_id: str
    parent_audit_id: str = ""  # of the first token of the chain, when this one was made from another
    user_generation: int = 0
    scope_generation: int = 0
    application_credential_id: str = ""

    @property
    def audit_ids(self) -> list[str]:
        return [self.audit_id, self.parent_audit_id] if self.parent_audit_id else [self.audit_id]


class _Packed(Struct, frozen=True, array_like=True):
    """Ids are bytes where they are hexadecimal, text otherwise (a union that msgspec has no type for)."""

    user: Any
    methods: int
    scope: int
    scope_id: Any
    issued_at: float
    expires_at: float
    audit_id: bytes
    parent_audit_id: bytes
    user_generation: int
    scope_generation: int
    application_credential_id: Any


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(_Packed)


def new_audit_id() -> str:
    """Sixteen random bytes in 22 characters."""
    return secrets.token_urlsafe(16)


def _short(identifier: str) -> bytes | str:
    """An id of hexadecimal digits in half its length; any other as it is."""
    try:
        raw = bytes.fromhex(identifier)
    except ValueError:
        return identifier
    return raw if raw.hex() == identifier else identifier


def _long(identifier: bytes | str) -> str:
    return identifier.hex() if isinstance(identifier, bytes) else identifier


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sign(payload: Payload, ring: KeyRing, now: float) -> str:
    """The token that says this."""
    packed = _Packed(
        _short(payload.user_id),
        sum(1 << METHODS.index(m) for m in payload.methods),
        SCOPES.index(payload.scope),
        _short(payload.scope_id),
        payload.issued_at,
        payload.expires_at,
        _raw(payload.audit_id),
        _raw(payload.parent_audit_id),
        payload.user_generation,
        payload.scope_generation,
        _short(payload.application_credential_id),
    )
    key = ring.current(now)
    signed = _FORMAT + bytes.fromhex(key.id) + _encode(packed)
    token = _base64(signed + hmac.digest(key.secret, signed, "sha256"))
    assert len(token) <= MAX_LENGTH, "a token fits the columns that clients keep it in"
    return token


def read(token: str, ring: KeyRing) -> Payload | None:
    """What a token says, or None unless one of our keys made it."""
    if len(token) > MAX_LENGTH or not token.isascii():
        return None
    try:
        raw = _raw(token)
    except (binascii.Error, ValueError):
        return None
    signed, mac = raw[:-_MAC], raw[-_MAC:]
    if len(signed) <= _HEAD or signed[:1] != _FORMAT or _base64(raw) != token:
        return None
    key = ring.find(signed[1:_HEAD].hex())
    if key is None or not hmac.compare_digest(hmac.digest(key.secret, signed, "sha256"), mac):
        return None
    packed = _decoder.decode(signed[_HEAD:])
    return Payload(
        user_id=_long(packed.user),
        methods=tuple(name for i, name in enumerate(METHODS) if packed.methods >> i & 1),
        scope=SCOPES[packed.scope],
        scope_id=_long(packed.scope_id),
        issued_at=packed.issued_at,
        expires_at=packed.expires_at,
        audit_id=_base64(packed.audit_id),
        parent_audit_id=_base64(packed.parent_audit_id),
        user_generation=packed.user_generation,
        scope_generation=packed.scope_generation,
        application_credential_id=_long(packed.application_credential_id),
    )
