"""Rules about users' passwords and about who is locked out; which of them hold is in core.config.Identity.

Source: Identity administration guide, "Security compliance and PCI-DSS".  Being locked out, being unknown and
being wrong cost the same time and the same writes (OSSA-2021-003 told them apart).
"""

import re
from typing import Any

from msgspec import Struct

from pileus.core.config import Identity
from pileus.core.errors import BadRequest
from pileus.core.ids import new_hex
from pileus.db.connect import Tx
from pileus.db.rows import Table
from pileus.identity.passwords import keep_hash
from pileus.identity.rows import User

DAY = 86_400.0
NOBODY = ""  # failures of names that do not exist, or are locked already, count here


class PastPassword(Struct, frozen=True, kw_only=True):
    """A password that a user had, or has."""

    id: str
    user_id: str
    hash: str
    set_at: float

    def __repr__(self) -> str:
        return f"<PastPassword of {self.user_id} ***>"


class Failures(Struct, frozen=True, kw_only=True):
    """Wrong passwords in a row for a user."""

    user_id: str
    failures: int
    failed_at: float


HISTORY = Table(PastPassword, "password_history")
FAILURES = Table(Failures, "log_in_failures", ("user_id",))


def check_pattern(rules: Identity, password: str) -> None:
    """Refuse a password that does not fit the operator's pattern."""
    if rules.pattern and re.fullmatch(rules.pattern, password) is None:
        meaning = rules.pattern_meaning or "it does not fit the pattern that this cloud asks for"
        raise BadRequest(f"password: The password does not match the requirements: {meaning}.")


def past_hashes(tx: Tx, user_id: str, rules: Identity) -> list[str]:
    """Hashes of the passwords that a user may not choose again, newest first."""
    rows = HISTORY.query(tx, "where user_id = ? order by set_at desc", user_id)
    return [row.hash for row in rows[: rules.unique_last]]


def check_age(tx: Tx, user: User, rules: Identity, now: float) -> None:
    """Refuse a change that comes too soon after the last one, unless the password has expired."""
    if not rules.minimum_age_days or (user.password_expires_at is not None and user.password_expires_at <= now):
        return
    row = tx.one("select max(set_at) from password_history where user_id = ?", user.id)
    if row and row[0] is not None and row[0] + rules.minimum_age_days * DAY > now:
        raise BadRequest(f"password: it can be changed again {rules.minimum_age_days:g} days after the last change.")


def keep_password(
    tx: Tx, user_id: str, options: dict[str, Any], hashed: str, rules: Identity, now: float, *, own: bool
) -> float | None:
    """Store a new password; the time at which it expires.  `own`: the user chose it, not an administrator."""
    keep_hash(tx, user_id, hashed)
    HISTORY.insert(tx, PastPassword(id=new_hex(), user_id=user_id, hash=hashed, set_at=now))
    for old in HISTORY.query(tx, "where user_id = ? order by set_at desc", user_id)[max(rules.unique_last, 1) :]:
        HISTORY.delete(tx, id=old.id)
    FAILURES.delete(tx, user_id=user_id)
    if not own and rules.change_upon_first_use and options.get("ignore_change_password_upon_first_use") is not True:
        return now
    if rules.expires_days and options.get("ignore_password_expiry") is not True:
        return now + rules.expires_days * DAY
    return None


def locked(tx: Tx, user: User, rules: Identity, now: float) -> bool:
    """Whether too many wrong passwords, or too long an absence, keep a user out."""
    if rules.lockout_failures and user.options.get("ignore_lockout_failure_attempts") is not True:
        found = FAILURES.get(tx, user_id=user.id)
        if found and found.failures >= rules.lockout_failures and found.failed_at + rules.lockout_seconds > now:
            return True
    if rules.inactive_days and user.options.get("ignore_user_inactivity") is not True:
        row = tx.one("select seen_at from users_seen where user_id = ?", user.id)
        return row is not None and float(row[0]) + rules.inactive_days * DAY <= now
    return False


def count_failure(tx: Tx, user_id: str, rules: Identity, now: float) -> None:
    """A wrong password; those from before the last lock-out ended are forgotten."""
    tx.run("delete from log_in_failures where failed_at <= ?", now - rules.lockout_seconds)
    tx.run(
        "insert into log_in_failures (user_id, failures, failed_at) values (?, 1, ?) on conflict (user_id)"
        " do update set failures = log_in_failures.failures + 1, failed_at = excluded.failed_at",
        user_id, now,
    )  # fmt: skip


def greet_is_due(tx: Tx, user_id: str, rules: Identity, now: float) -> bool:
    """Whether a right password has anything to write: failures to forget, a day to note."""
    if rules.lockout_failures and FAILURES.get(tx, user_id=user_id) is not None:
        return True
    if not rules.inactive_days:
        return False
    row = tx.one("select seen_at from users_seen where user_id = ?", user_id)
    return row is None or float(row[0]) // DAY != now // DAY


def greet(tx: Tx, user_id: str, now: float) -> None:
    """A right password: failures are forgotten, and the user was seen."""
    FAILURES.delete(tx, user_id=user_id)
    tx.run(
        "insert into users_seen (user_id, seen_at) values (?, ?)"
        " on conflict (user_id) do update set seen_at = excluded.seen_at",
        user_id, now,
    )  # fmt: skip
