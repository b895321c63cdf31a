"""PostgreSQL through psycopg: serializable writes, retried when they lose a race; LISTEN/NOTIFY is the hint.

Serializable is what SQLite gives by having one writer: invariants that span rows (quotas, allocations)
hold on both engines by the same code."""

import functools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import errors

from pileus.db.connect import Conflict, Dialect, Row, Unavailable

T = TypeVar("T")
CHANNEL = "pileus_work"
ATTEMPTS = 20
PATIENT_ATTEMPTS = 4  # who lost more races than these takes turns with all others who did
LOSERS = "losers"


@functools.lru_cache(maxsize=4096)
def placeholders(sql: str) -> str:
    """Our `?` as psycopg's `%s`; a literal question mark does not occur in our SQL."""
    return sql.replace("%", "%%").replace("?", "%s")


class PostgresqlTx:
    """A transaction on one connection."""

    dialect: Dialect = "postgresql"

    def __init__(self, connection: psycopg.Connection[Row]):
        self.connection = connection
        self.poked = False
        self.locked: set[str] = set()

    def _execute(self, sql: str, params: tuple[object, ...]) -> psycopg.Cursor[Row]:
        values = tuple(int(p) if isinstance(p, bool) else p for p in params)
        return self.connection.execute(placeholders(sql).encode(), values)

    def all(self, sql: str, *params: object) -> list[Row]:
        return self._execute(sql, params).fetchall()

    def each(self, sql: str, *params: object) -> Iterator[Row]:
        return iter(self._execute(sql, params))

    def one(self, sql: str, *params: object) -> Row | None:
        return self._execute(sql, params).fetchone()

    def run(self, sql: str, *params: object) -> int:
        # A savepoint keeps the transaction usable when a constraint refuses, as SQLite does by itself.
        try:
            with self.connection.transaction():
                return self._execute(sql, params).rowcount
        except errors.IntegrityError as error:
            raise Conflict(f"{error.diag.constraint_name or ''} {error.diag.message_detail or error}") from None

    def lock(self, name: str) -> None:
        self.locked.add(name)
        self.connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (name,))


@contextmanager
def _held(connection: psycopg.Connection[Row], locks: set[str]) -> Iterator[None]:
    """Hold locks for the session, in an order that all follow."""
    names = sorted(locks)
    try:
        for name in names:
            connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (name,))
        yield
    finally:
        if names:
            with suppress(psycopg.Error):
                connection.execute("select pg_advisory_unlock_all()")


class PostgresqlDatabase:
    """A pool of one connection for each thread that asks."""

    dialect: Dialect = "postgresql"

    def __init__(self, url: str):
        self.url = url
        self._local = threading.local()
        self._connections: list[psycopg.Connection[Row]] = []
        self._listener: psycopg.Connection[Any] | None = None
        self._lock = threading.Lock()

    def _connection(self) -> psycopg.Connection[Row]:
        connection: psycopg.Connection[Row] | None = getattr(self._local, "connection", None)
        if connection is None or connection.closed:
            connection = psycopg.connect(self.url, autocommit=True, prepare_threshold=2)
            self._local.connection = connection
            with self._lock:
                self._connections = [one for one in self._connections if not one.closed]
                self._connections.append(connection)
        return connection

    def transact(self, work: Callable[[PostgresqlTx], T]) -> T:
        return self._attempts("begin isolation level serializable", work)

    def read(self, work: Callable[[PostgresqlTx], T]) -> T:
        return self._attempts("begin isolation level repeatable read read only", work)

    def _attempts(self, begin: str, work: Callable[[PostgresqlTx], T]) -> T:
        locks: set[str] = set()
        for attempt in range(ATTEMPTS):
            connection = None
            try:
                connection = self._connection()
                return self._once(connection, begin, work, locks)
            except (errors.SerializationFailure, errors.DeadlockDetected):
                if attempt >= PATIENT_ATTEMPTS:
                    locks.add(LOSERS)
                time.sleep(random.random() * 0.002 * 2 ** min(attempt, 9))  # noqa: S311 (jitter, no secret)
            except psycopg.OperationalError as error:
                if connection is not None:
                    connection.close()
                if attempt == ATTEMPTS - 1:
                    raise Unavailable(f"the database does not answer: {error}") from None
                time.sleep(0.05 * attempt)
        raise Unavailable("the transaction lost every race against others; try again")

    def _once(
        self, connection: psycopg.Connection[Row], begin: str, work: Callable[[PostgresqlTx], T], locks: set[str]
    ) -> T:
        """One attempt.  `locks` holds what earlier attempts locked, and gets what this one locks.

        A transaction that waits for a lock has its snapshot already, older than what the holder then
        commits: it must lose.  So the next attempt takes the locks first, and its snapshot sees everything.
        """
        with _held(connection, locks):
            tx = PostgresqlTx(connection)
            tx.locked = locks
            return self._inside(connection, begin, work, tx)

    def _inside(
        self, connection: psycopg.Connection[Row], begin: str, work: Callable[[PostgresqlTx], T], tx: PostgresqlTx
    ) -> T:
        connection.execute(begin.encode())
        try:
            result = work(tx)
            if tx.poked:
                connection.execute(f"notify {CHANNEL}".encode())
        except BaseException:
            with suppress(psycopg.Error):
                connection.execute("rollback")
            raise
        self._commit(connection)
        return result

    @staticmethod
    def _commit(connection: psycopg.Connection[Row]) -> None:
        """Commit; a connection lost right now must not make us do all of it a second time."""
        try:
            connection.execute("commit")
        except psycopg.OperationalError as error:
            if connection.closed:
                raise Unavailable(f"the database went away during the commit, which may be done: {error}") from None
            raise

    def wait(self, seconds: float) -> bool:
        try:
            if self._listener is None or self._listener.closed:
                self._listener = psycopg.connect(self.url, autocommit=True)
                self._listener.execute(f"listen {CHANNEL}".encode())
            return any(True for _ in self._listener.notifies(timeout=max(seconds, 0.001), stop_after=1))
        except psycopg.OperationalError:
            time.sleep(min(seconds, 1.0))
            return False

    def close(self) -> None:
        for connection in [*self._connections, *([self._listener] if self._listener else [])]:
            connection.close()
