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
_RECEIPT_FORMAT = b"\x02"

ScopeKind = Literal["unscoped", "project", "domain", "system"]
SCOPES: tuple[ScopeKind, ...] = ("unscoped", "project", "domain", "system")
# The order is part of the token's format: new methods go to the end.
METHODS = ("password", "token", "application_credential", "totp", "external", "oauth1", "ec2credential", "mapped",
           "saml2", "openid", "oauth2_credential")  # fmt: skip
FEDERATED = frozenset(("mapped", "saml2", "openid"))  # whoever came by these, an identity provider vouched for


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
    # What the user delegated, or the key or certificate that they used: at most one of these five.
    application_credential_id: str = ""
    trust_id: str = ""
    access_token_id: str = ""  # of OAuth 1.0a
    key_id: str = ""  # of the EC2 credential that signed, where nothing was delegated
    certificate: str = ""  # thumbprint of the one that its client must show at every use (RFC 8705 §3)

    @property
    def delegated(self) -> bool:
        """Whether somebody acts for a user with a part of their rights."""
        return bool(self.application_credential_id or self.trust_id or self.access_token_id)

    @property
    def audit_ids(self) -> list[str]:
        return [self.audit_id, self.parent_audit_id] if self.parent_audit_id else [self.audit_id]


class Receipt(Struct, frozen=True, kw_only=True):
    """What somebody has proven who has not proven enough yet."""

    user_id: str
    methods: tuple[str, ...]
    issued_at: float
    expires_at: float
    user_generation: int


class _PackedReceipt(Struct, frozen=True, array_like=True):
    user: Any
    methods: int
    issued_at: float
    expires_at: float
    user_generation: int


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
    delegation_id: Any
    delegation: int = 0  # the place in _DELEGATIONS of what the id is of


# The order is part of the token's format.
_DELEGATIONS = ("application_credential_id", "trust_id", "access_token_id", "key_id", "certificate")
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(_Packed)
_receipt_decoder = msgspec.msgpack.Decoder(_PackedReceipt)


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
    delegation = next((i for i, name in enumerate(_DELEGATIONS) if getattr(payload, name)), 0)
    packed = _Packed(
        _short(payload.user_id),
        _bits(payload.methods),
        SCOPES.index(payload.scope),
        _short(payload.scope_id),
        payload.issued_at,
        payload.expires_at,
        _raw(payload.audit_id),
        _raw(payload.parent_audit_id),
        payload.user_generation,
        payload.scope_generation,
        _short(getattr(payload, _DELEGATIONS[delegation])),
        delegation,
    )
    return _sealed(_FORMAT, _encode(packed), ring, now)


def _bits(methods: tuple[str, ...]) -> int:
    return sum(1 << METHODS.index(m) for m in methods)


def _methods(bits: int) -> tuple[str, ...]:
    return tuple(name for i, name in enumerate(METHODS) if bits >> i & 1)


def _sealed(form: bytes, content: bytes, ring: KeyRing, now: float) -> str:
    """The content under a MAC of the current key."""
    key = ring.current(now)
    signed = form + bytes.fromhex(key.id) + content
    token = _base64(signed + hmac.digest(key.secret, signed, "sha256"))
    assert len(token) <= MAX_LENGTH, "a token fits the columns that clients keep it in"
    return token


def _opened(form: bytes, token: str, ring: KeyRing) -> bytes | None:
    """The content, or None unless one of our keys made it in this form."""
    if len(token) > MAX_LENGTH or not token.isascii():
        return None
    try:
        raw = _raw(token)
    except (binascii.Error, ValueError):
        return None
    signed, mac = raw[:-_MAC], raw[-_MAC:]
    if len(signed) <= _HEAD or signed[:1] != form or _base64(raw) != token:
        return None
    key = ring.find(signed[1:_HEAD].hex())
    if key is None or not hmac.compare_digest(hmac.digest(key.secret, signed, "sha256"), mac):
        return None
    return signed[_HEAD:]


def sign_receipt(receipt: Receipt, ring: KeyRing, now: float) -> str:
    """The receipt that says this."""
    packed = _PackedReceipt(
        _short(receipt.user_id), _bits(receipt.methods), receipt.issued_at, receipt.expires_at, receipt.user_generation
    )
    return _sealed(_RECEIPT_FORMAT, _encode(packed), ring, now)


def read_receipt(text: str, ring: KeyRing) -> Receipt | None:
    """What a receipt says, or None unless one of our keys made it."""
    content = _opened(_RECEIPT_FORMAT, text, ring)
    if content is None:
        return None
    packed = _receipt_decoder.decode(content)
    return Receipt(
        user_id=_long(packed.user), methods=_methods(packed.methods), issued_at=packed.issued_at,
        expires_at=packed.expires_at, user_generation=packed.user_generation,
    )  # fmt: skip


def read(token: str, ring: KeyRing) -> Payload | None:
    """What a token says, or None unless one of our keys made it."""
    content = _opened(_FORMAT, token, ring)
    if content is None:
        return None
    packed = _decoder.decode(content)
    return Payload(
        user_id=_long(packed.user),
        methods=_methods(packed.methods),
        scope=SCOPES[packed.scope],
        scope_id=_long(packed.scope_id),
        issued_at=packed.issued_at,
        expires_at=packed.expires_at,
        audit_id=_base64(packed.audit_id),
        parent_audit_id=_base64(packed.parent_audit_id),
        user_generation=packed.user_generation,
        scope_generation=packed.scope_generation,
        **{_DELEGATIONS[packed.delegation]: _long(packed.delegation_id)},
    )
