"""Join tokens: a machine shows one, once and soon, to become a node.

A token is SECRET.FINGERPRINT: the database keeps only the secret's hash, and the fingerprint lets the
machine recognize the cloud's authority before it sends the secret.
"""

import hashlib
import secrets

from msgspec import Struct

from pileus.db.connect import Tx
from pileus.db.rows import Table


class JoinToken(Struct, frozen=True, kw_only=True):
    """A token that was given out; `node_id` is who used it."""

    hash: str
    created_at: float
    expires_at: float
    node_id: str | None = None


JOIN_TOKENS = Table(JoinToken, "join_tokens", key=("hash",))


def create_token(tx: Tx, *, fingerprint: str, seconds: float, now: float) -> str:
    """A new token; tokens that nobody used in time are forgotten."""
    tx.run("delete from join_tokens where expires_at < ? and node_id is null", now)
    secret = secrets.token_hex(32)  # a word of a command line: it must not begin with a dash
    JOIN_TOKENS.insert(tx, JoinToken(hash=_hash(secret), created_at=now, expires_at=now + seconds))
    return f"{secret}.{fingerprint}"


def redeem(tx: Tx, secret: str, node_id: str, now: float) -> bool:
    """Use a token's secret up for this node; False when it is unknown, used or too old."""
    taken = tx.run(
        "update join_tokens set node_id = ? where hash = ? and node_id is null and expires_at >= ?",
        node_id, _hash(secret), now,
    )  # fmt: skip
    return taken == 1


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
