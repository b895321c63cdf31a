"""How handlers reach the database from the event loop.

SQLite: inline on the loop, all writers that arrive while a commit is pending share it.
PostgreSQL: in worker threads, since each statement is a round trip.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from pileus.db.connect import Database, Tx
from pileus.db.sqlite import SqliteDatabase

T = TypeVar("T")


class Transactions(Protocol):
    """Runs handlers."""

    async def read(self, work: Callable[[Tx], T]) -> T: ...

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Returns after the commit is durable."""


class InlineTransactions:
    """SQLite on the loop with group commit."""

    def __init__(self, db: SqliteDatabase):
        self.db = db
        self._waiting: list[tuple[asyncio.Future[Any], Any]] = []
        self._open = False
        self._poked = False

    async def read(self, work: Callable[[Tx], T]) -> T:
        return self.db.read(work)

    async def write(self, work: Callable[[Tx], T]) -> T:
        loop = asyncio.get_running_loop()
        if not self._open:
            self.db.turn.acquire()
            try:
                self.db.begin()
            except BaseException:
                self.db.turn.release()
                raise
            self._open = True
            loop.call_soon(self._commit)
        result, poked = self.db.attempt(work)
        self._poked = self._poked or poked
        committed: asyncio.Future[T] = loop.create_future()
        self._waiting.append((committed, result))
        return await committed

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        poked, self._poked, self._open = self._poked, False, False
        error: Exception | None = None
        try:
            self.db.commit(poked=poked)
        except Exception as failure:
            error = failure
        finally:
            self.db.turn.release()
        for future, result in waiting:
            if future.done():  # its client went away
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)


class ThreadedTransactions:
    """PostgreSQL in a bounded pool of threads."""

    def __init__(self, db: Database, threads: int = 16):
        self.db = db
        self.pool = ThreadPoolExecutor(threads, "db")

    async def read(self, work: Callable[[Tx], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.pool, self.db.read, work)

    async def write(self, work: Callable[[Tx], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.pool, self.db.transact, work)


def transactions(db: Database) -> Transactions:
    """The way that suits the engine."""
    return InlineTransactions(db) if isinstance(db, SqliteDatabase) else ThreadedTransactions(db)
