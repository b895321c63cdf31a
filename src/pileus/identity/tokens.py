"""Tokens of one process: issued, examined, and kept in memory while nothing in identity changes."""

import functools
import logging
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from pileus.core.context import Caller
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.identity.catalog import Catalog
from pileus.identity.certificate import keeps_certificate
from pileus.identity.keys import KeyRing, create_ring, rotate
from pileus.identity.standing import Refused, Standing, memberships_end, standing
from pileus.identity.token import TOKEN_SECONDS, Payload, new_audit_id, read, sign
from pileus.identity.watched import changed, version

log = logging.getLogger("pileus.identity")
REMEMBERED = 4096
TOKEN_RING = "tokens.json"  # noqa: S105 (a file name)
CREDENTIAL_RING = "credentials.json"
AUDIT_RING = "audit.json"


class RevokedToken(Struct, frozen=True, kw_only=True):
    """A token that was ended before its time."""

    audit_id: str
    expires_at: float
    cascade: bool  # those made from it end too


REVOKED = Table(RevokedToken, "revoked_tokens", ("audit_id",))


class Known(Struct, kw_only=True):
    """A token that was found good, and what it stands for at this version of identity."""

    token: str
    payload: Payload
    standing: Standing
    caller: Caller
    version: int
    again_at: float | None  # when it must be judged anew: a group membership on which it rests ends
    bodies: dict[bool, bytes] = {}  # rendered answers of validation, with and without the catalog


class Tokens:
    """Issues and examines tokens under the keys of one folder."""

    def __init__(self, keys_folder: Path):
        self.ring = KeyRing(keys_folder / TOKEN_RING)
        self.catalog = Catalog()
        self._known: OrderedDict[str, Known] = OrderedDict()

    def issue(
        self, who: Standing, *, methods: Iterable[str], now: float, parent: Payload | None = None,
        certificate: str = "", until: float | None = None,
    ) -> tuple[str, Payload]:  # fmt: skip
        """A token for a standing; made from another one (`parent`) it never lives longer than that.

        With the thumbprint of a certificate it is good for who shows that; `until` ends it sooner.
        """
        expires = now + TOKEN_SECONDS
        if parent is not None:
            expires = min(expires, parent.expires_at)
        if who.ends_at is not None:
            expires = min(expires, who.ends_at)
        if until is not None:
            expires = min(expires, until)
        payload = Payload(
            user_id=who.user.id,
            methods=tuple(methods),
            scope=who.scope,
            scope_id=who.target.id if who.target else "",
            issued_at=now,
            expires_at=expires,
            audit_id=new_audit_id(),
            parent_audit_id=parent.audit_ids[-1] if parent else "",
            user_generation=who.generation,
            scope_generation=who.target.generation if who.target else 0,
            application_credential_id=who.credential.id if who.credential else "",
            trust_id=who.trust.id if who.trust else "",
            access_token_id=who.access_token.id if who.access_token else "",
            key_id=who.key_id,
            certificate=certificate,
        )
        return sign(payload, self.ring, now), payload

    def examine(self, tx: Tx, token: str, now: float, *, window: float = 0.0) -> Known | None:
        """What a token stands for in this transaction; None when it is no longer, or never was, one of ours.

        One that expired no more than `window` seconds ago is good too, while all else that it rests on is.
        """
        at = version(tx)
        known = self._known.get(token)
        if known is None or known.version != at or (known.again_at is not None and known.again_at <= now):
            known = self._judge(tx, token, now, at, window)
            if known is None:
                self._known.pop(token, None)
                return None
            self._remember(known)
        if known.payload.expires_at + window <= now:
            return None
        ends_at = known.standing.ends_at
        if ends_at is not None and ends_at <= now:
            return None
        return known

    def _judge(self, tx: Tx, token: str, now: float, at: int, window: float) -> Known | None:
        """Read a token and ask the database about everything that it rests on."""
        payload = read(token, self.ring)
        if payload is None or payload.expires_at + window <= now or revoked(tx, payload):
            return None
        try:
            who = standing(
                tx, payload.user_id, payload.scope, payload.scope_id,
                credential_id=payload.application_credential_id, trust_id=payload.trust_id,
                access_token_id=payload.access_token_id, key_id=payload.key_id, now=now,
            )  # fmt: skip
        except Refused as why:
            log.info("token %s refused: %s", payload.audit_id, why)
            return None
        if who.generation != payload.user_generation:
            return None
        if who.target is not None and who.target.generation != payload.scope_generation:
            return None
        vouched = "external" in payload.methods  # by the proxy, for the names in the certificate
        if payload.certificate and not vouched and not keeps_certificate(tx, payload.user_id, payload.certificate):
            return None
        return Known(
            token=token, payload=payload, standing=who, caller=caller_of(payload, who), version=at,
            again_at=memberships_end(tx, who, now), bodies={},
        )  # fmt: skip

    def _remember(self, known: Known) -> None:
        self._known[known.token] = known
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def ensure_keys(keys_folder: Path) -> None:
    """Make the key rings unless they are there; called as the user who may write the folder."""
    for name in (TOKEN_RING, CREDENTIAL_RING, AUDIT_RING):
        create_ring(keys_folder / name)


def rotate_keys(tx: Tx, keys_folder: Path, now: float, *, window: float = 0.0) -> None:
    """Sign new tokens with a new key; the old one is kept until `window` seconds after its last token has expired."""
    rotate(keys_folder / TOKEN_RING, now=now, keep_seconds=TOKEN_SECONDS + window)
    changed(tx)


def revoked(tx: Tx, payload: Payload) -> bool:
    """Whether a token, or the first of its chain with all that follow from it, was revoked."""
    rows = REVOKED.all(tx, audit_id=payload.audit_ids)
    return any(row.cascade or row.audit_id == payload.audit_id for row in rows)


def revoke(tx: Tx, payload: Payload, now: float, *, cascade: bool = True, window: float = 0.0) -> None:
    """End a token at once, everywhere; records go of tokens that expired by themselves more than `window` ago."""
    tx.run(
        "insert into revoked_tokens (audit_id, expires_at, cascade) values (?, ?, ?)"
        " on conflict (audit_id) do update set cascade = excluded.cascade",
        payload.audit_id, payload.expires_at, int(cascade),
    )  # fmt: skip
    tx.run("delete from revoked_tokens where expires_at <= ?", now - window)
    changed(tx)


def caller_of(payload: Payload, who: Standing) -> Caller:
    """The identity that every service sees."""
    project = who.target if who.scope == "project" else None
    rules = who.access_rules
    return Caller(
        user_id=who.user.id,
        user_name=who.user.name,
        user_domain_id=who.user_domain.id,
        user_domain_name=who.user_domain.name,
        project_id=project.id if project else None,
        project_name=project.name if project else None,
        project_domain_id=who.target_domain.id if who.target_domain else None,
        project_domain_name=who.target_domain.name if who.target_domain else None,
        domain_id=who.target.id if who.scope == "domain" and who.target else None,
        system=who.scope == "system",
        roles=tuple(name.lower() for _, name in who.roles),
        token=payload,
        expires_at=payload.expires_at,
        certificate=payload.certificate,
        access_rules=None if rules is None else tuple((r.service, r.method, r.path) for r in rules),
    )


@functools.lru_cache(maxsize=8)
def tokens_of(keys_folder: Path) -> Tokens:
    """The one keeper of tokens in this process for a folder of keys."""
    return Tokens(keys_folder)
