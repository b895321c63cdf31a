"""Requests whose effects are undone, for tests that send very many of them to one cloud."""

import sqlite3
from collections.abc import Callable
from typing import Any

from pileus.db.connect import Tx
from pileus.db.sqlite import SqliteDatabase, SqliteTx


class Undone:
    """Transactions as the API uses them, inside one that is never committed, so that a request can be undone."""

    def __init__(self, db: SqliteDatabase):
        self.db = db
        self.connection: sqlite3.Connection = db._writer
        self.connection.execute("begin immediate")
        self.connection.execute("savepoint before")
        self._before = self._contents()
        self._changes = self.connection.total_changes

    async def read(self, work: Callable[[Tx], Any]) -> Any:
        return work(SqliteTx(self.connection))

    read_aside = read

    async def write(self, work: Callable[[Tx], Any]) -> Any:
        return self.db.attempt(work)[0]

    def written(self) -> bool:
        """Whether anything was written since the last `undo`, be it taken back already."""
        return self.connection.total_changes != self._changes

    def changed(self) -> list[str]:
        """The tables whose rows are not what they were at first."""
        return [table for table, rows in self._contents().items() if rows != self._before[table]]

    def undo(self) -> None:
        """Back to the beginning."""
        self.connection.execute("rollback to before")
        self._changes = self.connection.total_changes

    def _contents(self) -> dict[str, list[str]]:
        tables = self.connection.execute("select name from sqlite_master where type = 'table'").fetchall()
        return {name: sorted(map(repr, self.connection.execute(f"select * from {name}"))) for (name,) in tables}
