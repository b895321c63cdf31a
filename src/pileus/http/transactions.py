"""How handlers reach the database from the event loop.

SQLite: inline on the loop, all writers that arrive while a commit is pending share it.
PostgreSQL: in worker threads, since each statement is a round trip.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from pileus.db.connect import Database, Tx, Unavailable
from pileus.db.sqlite import BUSY_SECONDS, SqliteDatabase, pauses

T = TypeVar("T")


class Transactions(Protocol):
    """Runs handlers."""

    async def read(self, work: Callable[[Tx], T]) -> T: ...

    async def read_aside(self, work: Callable[[Tx], T]) -> T:
        """As `read`, for work so long that it would hold up others: never on the event loop."""

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Returns after the commit is durable."""


class InlineTransactions:
    """SQLite on the loop with group commit.  While another process writes, the loop goes on and tries again."""

    def __init__(self, db: SqliteDatabase):
        self.db = db
        self._aside = ThreadPoolExecutor(2, "db-aside")
        self._waiting: list[tuple[asyncio.Future[Any], Any]] = []
        self._entering: list[asyncio.Future[None]] = []  # whoever waits for a transaction to open
        self._open = False
        self._poked = False

    async def read(self, work: Callable[[Tx], T]) -> T:
        return self.db.read(work)

    async def read_aside(self, work: Callable[[Tx], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._aside, self.db.read, work)

    async def write(self, work: Callable[[Tx], T]) -> T:
        loop = asyncio.get_running_loop()
        if not self._open:
            await self._enter(loop)
        result, poked = self.db.attempt(work)
        self._poked = self._poked or poked
        committed: asyncio.Future[T] = loop.create_future()
        self._waiting.append((committed, result))
        return await committed

    async def _enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Return inside an open transaction; raises Unavailable when others write for too long."""
        if not self._entering and self._begin():
            loop.call_soon(self._commit)
            return
        entered: asyncio.Future[None] = loop.create_future()
        self._entering.append(entered)
        if len(self._entering) == 1:
            self._opening = loop.create_task(self._open_when_free(loop))
        await entered

    def _begin(self) -> bool:
        """Open a transaction unless somebody else has one."""
        if not self.db.turn.acquire(blocking=False):
            return False
        try:
            self._open = self.db.try_begin()
        finally:
            if not self._open:
                self.db.turn.release()
        return self._open

    async def _open_when_free(self, loop: asyncio.AbstractEventLoop) -> None:
        """Try until it opens, then let in all who wait; the commit comes after their turns."""
        error: Exception = Unavailable("the database is locked by another process")
        try:
            for pause in pauses(BUSY_SECONDS):
                if self._begin():
                    break
                await asyncio.sleep(pause)
        except Exception as failure:
            error = failure
        entering, self._entering = self._entering, []
        for entered in entering:
            if entered.done():  # its client went away
                continue
            if self._open:
                entered.set_result(None)
            else:
                entered.set_exception(error)
        if self._open:
            loop.call_soon(self._commit)

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

    read_aside = read

    async def write(self, work: Callable[[Tx], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.pool, self.db.transact, work)


def transactions(db: Database) -> Transactions:
    """The way that suits the engine."""
    return InlineTransactions(db) if isinstance(db, SqliteDatabase) else ThreadedTransactions(db)
