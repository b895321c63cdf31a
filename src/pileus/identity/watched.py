"""The tables that tokens depend on, and the version by which every process knows that one of them changed.

Whoever keeps something derived from these tables in memory keeps it together with the version, and
compares before use: one point read makes a change known everywhere with the next request.
"""

import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

from msgspec import Struct

from pileus.db.connect import Tx
from pileus.db.rows import Table

R = TypeVar("R", bound=Struct)


def version(tx: Tx) -> int:
    """The version as this transaction sees it."""
    row = tx.one("select version from identity_version where id = 1")
    return int(row[0]) if row else 0


def changed(tx: Tx) -> None:
    """Say that something on which tokens depend changes in this transaction.

    A random number rather than the next: one that was rolled back, or lost by restoring a backup, never
    comes again with another meaning.
    """
    tx.run("update identity_version set version = ? where id = 1", secrets.randbits(62))


class Watched(Table[R]):
    """A table whose every write changes the version."""

    def insert(self, tx: Tx, row: R) -> R:
        changed(tx)
        return super().insert(tx, row)

    def update(self, tx: Tx, changes: Mapping[str, Any], **where: Any) -> int:
        changed(tx)
        return super().update(tx, changes, **where)

    def delete(self, tx: Tx, **where: Any) -> int:
        changed(tx)
        return super().delete(tx, **where)
