"""The one database handle of a controller: transactions on SQLite or PostgreSQL, the same SQL for both.

SQL is written with `?` placeholders in the common subset (RETURNING, ON CONFLICT, CTEs, JSON as
text, times as seconds since the epoch).  A transaction function must be pure database work: it
may be run again after a serialization failure.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
Row = tuple[Any, ...]
Dialect = Literal["sqlite", "postgresql"]


class Conflict(Exception):
    """A unique or foreign key constraint refused a write; `constraint` names columns or the constraint."""

    def __init__(self, constraint: str):
        super().__init__(constraint)
        self.constraint = constraint


class Unavailable(Exception):
    """The database cannot take the transaction now (locked too long, disk full, connection lost)."""


class Tx(Protocol):
    """A transaction under way."""

    dialect: Dialect
    poked: bool  # work was asked for: hint the workers after the commit

    def all(self, sql: str, *params: object) -> list[Row]:
        """All rows of a query."""

    def each(self, sql: str, *params: object) -> Iterator[Row]:
        """The rows of a query one by one: a long list is then never held twice."""

    def one(self, sql: str, *params: object) -> Row | None:
        """The first row of a query, or None."""

    def run(self, sql: str, *params: object) -> int:
        """Execute a write and return how many rows it touched; raises Conflict."""

    def lock(self, name: str) -> None:
        """Serialise with every other transaction that locks the same name, until commit."""


class Database(Protocol):
    """A store; `transact` commits durably before it returns."""

    dialect: Dialect

    def transact(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a write transaction and commit; what it raises rolls back."""

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on a snapshot, never blocked by writers."""

    def wait(self, seconds: float) -> bool:
        """Sleep until somebody pokes or `seconds` have passed; only a hint, True when poked."""

    def close(self) -> None: ...


def connect(url: str) -> Database:
    """Open `sqlite:///path/to/file` or `postgresql://…`; the schema is not touched (see migrate)."""
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        from pileus.db.sqlite import SqliteDatabase

        return SqliteDatabase(url.removeprefix("sqlite://"))
    if scheme in ("postgresql", "postgres"):
        from pileus.db.postgresql import PostgresqlDatabase

        return PostgresqlDatabase(url)
    raise ValueError(f"database url {url!r}: expected sqlite:///… or postgresql://…")
