"""SQLite: WAL, synchronous=FULL, one writer connection, concurrent writers share one commit.

An fsync costs more than the transaction itself, so writers that arrive while another commits
are run together, each in its own savepoint, and answered after the one commit that covers them.
"""

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from pileus.db.connect import Conflict, Dialect, Row, Unavailable

T = TypeVar("T")
BUSY_SECONDS = 20.0  # that a writer waits while another process writes
READ_SECONDS = 2.0  # that a reader waits: only who opens, closes or repairs the file is ever in its way
AWAY = {
    sqlite3.SQLITE_BUSY: "the database is locked by another process",
    sqlite3.SQLITE_LOCKED: "the database is locked",
    sqlite3.SQLITE_PROTOCOL: "the database is locked by another process",
    sqlite3.SQLITE_FULL: "the disk of the database is full",
    sqlite3.SQLITE_IOERR: "the disk of the database failed",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_READONLY: "the database cannot be written",
    sqlite3.SQLITE_NOMEM: "there is no memory for the database",
}
UNDONE = "a transaction that shared the commit was refused; nothing was done"


def translated(error: sqlite3.OperationalError) -> Exception:
    """Unavailable when file, disk or lock are the reason; else the error itself, which is a defect of ours."""
    reason = AWAY.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    return Unavailable(reason) if reason else error


def pauses(seconds: float) -> Iterator[float]:
    """How long to wait before each further try, short ones first, for so long altogether."""
    pause, ends = 0.001, time.monotonic() + seconds
    while time.monotonic() < ends:
        yield pause
        pause = min(0.02, pause * 1.5)


class SqliteTx:
    """A transaction on one connection."""

    dialect: Dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection):
        self.connection = connection
        self.poked = False

    def all(self, sql: str, *params: object) -> list[Row]:
        return self.connection.execute(sql, params).fetchall()

    def each(self, sql: str, *params: object) -> Iterator[Row]:
        return iter(self.connection.execute(sql, params))

    def one(self, sql: str, *params: object) -> Row | None:
        row: Row | None = self.connection.execute(sql, params).fetchone()
        return row

    def run(self, sql: str, *params: object) -> int:
        try:
            return self.connection.execute(sql, params).rowcount
        except sqlite3.IntegrityError as error:
            raise Conflict(str(error)) from None

    def lock(self, name: str) -> None:
        """SQLite has one writer: a write transaction is alone already."""


class SqliteDatabase:
    """One file; readers use a connection each, writers one together."""

    dialect: Dialect = "sqlite"

    def __init__(self, path: str):
        self.path = path
        self._writer = self._open(0.0)
        self._readers = threading.local()
        self._all_readers: list[sqlite3.Connection] = []
        self.turn = threading.Lock()  # held from BEGIN to COMMIT
        self._queue: list[tuple[Callable[[Any], Any], Future[Any]]] = []
        self._queue_lock = threading.Lock()
        self._hint = Hint(path + ".poke")

    def _open(self, busy_seconds: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            isolation_level=None,
            timeout=BUSY_SECONDS,
            check_same_thread=False,
            cached_statements=512,
        )
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma busy_timeout = {int(busy_seconds * 1000)}")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma cache_size = -16000")
        return connection

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._readers, "connection", None)
        if connection is None:
            connection = self._open(READ_SECONDS)
            connection.execute("pragma query_only = on")
            self._readers.connection = connection
            with self._queue_lock:
                self._all_readers.append(connection)
        return connection

    def read(self, work: Callable[[SqliteTx], T]) -> T:
        try:
            connection = self._reader()
            connection.execute("begin")
            try:
                return work(SqliteTx(connection))
            finally:
                if connection.in_transaction:
                    connection.execute("commit")
        except sqlite3.OperationalError as error:
            raise translated(error) from None

    def try_begin(self) -> bool:
        """Start a write transaction unless another process writes; hold `turn` around begin … commit."""
        try:
            self._writer.execute("begin immediate")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                return False
            raise translated(error) from None
        return True

    def begin(self) -> None:
        """Start a write transaction, waiting for other processes; raises Unavailable."""
        for pause in pauses(BUSY_SECONDS):
            if self.try_begin():
                return
            time.sleep(pause)
        raise Unavailable(AWAY[sqlite3.SQLITE_BUSY])

    def attempt(self, work: Callable[[SqliteTx], T]) -> tuple[T, bool]:
        """Run one writer inside the open transaction, undone alone if it raises; (result, poked).

        Where the disk fails SQLite undoes the whole transaction: then nobody in it has done anything.
        """
        if not self._writer.in_transaction:
            raise Unavailable(UNDONE)
        tx = SqliteTx(self._writer)
        self._writer.execute("savepoint one")
        try:
            result = work(tx)
        except BaseException as error:
            if self._writer.in_transaction:
                self._writer.execute("rollback to one")
                self._writer.execute("release one")
            if isinstance(error, sqlite3.OperationalError):
                raise translated(error) from None
            raise
        self._writer.execute("release one")
        return result, tx.poked

    def commit(self, *, poked: bool) -> None:
        """End the open transaction durably, then hint the workers; raises Unavailable (disk full)."""
        if not self._writer.in_transaction:
            raise Unavailable(UNDONE)
        try:
            self._writer.execute("commit")
        except sqlite3.OperationalError as error:
            self.rollback()
            raise translated(error) from None
        if poked:
            self._hint.send()

    def rollback(self) -> None:
        """Undo the open transaction, if any."""
        if self._writer.in_transaction:
            self._writer.execute("rollback")

    def transact(self, work: Callable[[SqliteTx], T]) -> T:
        mine: Future[T] = Future()
        with self._queue_lock:
            self._queue.append((work, mine))
        with self.turn:
            if not mine.done():
                self._run_queue()
        return mine.result()

    def _run_queue(self) -> None:
        """Run everything queued by any thread in one transaction and answer all of them."""
        with self._queue_lock:
            batch, self._queue = self._queue, []
        done: list[tuple[Future[Any], Any]] = []
        poked = False
        try:
            self.begin()
            for work, future in batch:
                try:
                    result, its_poke = self.attempt(work)
                    done.append((future, result))
                    poked = poked or its_poke
                except Exception as error:
                    future.set_exception(error)
            self.commit(poked=poked)
        except BaseException as error:
            self.rollback()
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        for future, result in done:
            if not future.done():
                future.set_result(result)

    def wait(self, seconds: float) -> bool:
        return self._hint.wait(seconds)

    def close(self) -> None:
        self._hint.close()
        for connection in (self._writer, *self._all_readers):
            connection.close()


class Hint:
    """Wakes the worker process: a datagram to a socket beside the database file, lost without harm.

    Of several workers the last to come is woken; when it has died, another takes its place.
    """

    def __init__(self, path: str):
        self.path = path
        self._out: socket.socket | None = None
        self._in: socket.socket | None = None

    def send(self) -> None:
        if self._out is None:
            self._out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._out.setblocking(False)  # a full queue means that the worker is awake anyway
        try:
            self._out.sendto(b"p", self.path)
        except ConnectionRefusedError:  # whoever listened there has died
            with suppress(OSError):
                os.unlink(self.path)
        except OSError:
            pass

    def wait(self, seconds: float) -> bool:
        if self._in is None or not os.path.exists(self.path):
            self._in = self._listen()
        self._in.settimeout(max(seconds, 0.001))
        try:
            self._in.recv(64)
        except TimeoutError:
            return False
        self._in.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._in.recv(64)
        return True

    def _listen(self) -> socket.socket:
        if self._in is not None:
            self._in.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listening.bind(self.path)
        return listening

    def close(self) -> None:
        for end in (self._in, self._out):
            if end is not None:
                end.close()
        if self._in is not None:
            with suppress(FileNotFoundError):
                os.unlink(self.path)
