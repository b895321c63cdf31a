"""A store that is locked or full: who asked is refused, whole, and nothing else happens."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pileus.db.connect import Tx, Unavailable
from pileus.db.sqlite import Hint, SqliteDatabase
from pileus.http.transactions import InlineTransactions

BIG = 40_000


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    found = SqliteDatabase(f"{tmp_path}/x.db")
    found.transact(lambda tx: tx.run("create table things (name text, bytes text)"))
    yield found
    found.close()


def insert(name: str, size: int = 1) -> Any:
    return lambda tx: tx.run("insert into things values (?, ?)", name, "x" * size)


def names(db: SqliteDatabase) -> list[str]:
    def all_names(tx: Tx) -> list[str]:
        return [name for (name,) in tx.all("select name from things order by name")]

    return db.read(all_names)


def pages(db: SqliteDatabase, most: int) -> None:
    """As if the disk held so many pages of the file."""
    db._writer.execute(f"pragma max_page_count = {most}")


async def together(db: SqliteDatabase, *works: Any) -> list[Any]:
    inline = InlineTransactions(db)
    return await asyncio.gather(*(inline.write(work) for work in works), return_exceptions=True)


def test_on_a_full_disk_all_who_share_the_commit_are_refused_and_none_is_half_done(db: SqliteDatabase) -> None:
    pages(db, 8)
    told = asyncio.run(together(db, insert("first"), insert("big", BIG), insert("last")))
    done = [
        name for name, answer in zip(["first", "big", "last"], told, strict=True) if not isinstance(answer, Exception)
    ]
    assert isinstance(told[1], Unavailable) and "full" in str(told[1])
    assert all(isinstance(answer, Unavailable | int) for answer in told)
    assert names(db) == done, "who was told that it is done is there, who was refused is not"
    pages(db, 1000)
    assert asyncio.run(together(db, insert("again", BIG))) == [1]
    assert names(db) == sorted([*done, "again"])


def test_threads_that_share_a_commit_are_refused_together_too(db: SqliteDatabase) -> None:
    pages(db, 8)
    with pytest.raises(Unavailable, match="full"):
        db.transact(insert("big", BIG))
    assert db.transact(insert("small")) == 1
    assert names(db) == ["small"]


def test_while_another_process_writes_the_loop_goes_on_and_all_get_their_turn(db: SqliteDatabase) -> None:
    other = sqlite3.connect(db.path, isolation_level=None)
    other.execute("begin exclusive")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert names(db) == [], "reads are served meanwhile"
            ticks += 1
        other.execute("rollback")

    async def all_of_it() -> list[Any]:
        inline = InlineTransactions(db)
        return await asyncio.gather(tick(), *(inline.write(insert(str(i))) for i in range(5)))

    assert asyncio.run(all_of_it()) == [None, 1, 1, 1, 1, 1]
    assert ticks == 20 and names(db) == ["0", "1", "2", "3", "4"]
    other.close()


def test_who_waits_too_long_is_refused_and_the_next_is_served(
    db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.http.transactions.BUSY_SECONDS", 0.1)
    other = sqlite3.connect(db.path, isolation_level=None)
    other.execute("begin immediate")
    began = time.monotonic()
    told = asyncio.run(together(db, insert("a"), insert("b")))
    assert [str(answer) for answer in told] == ["the database is locked by another process"] * 2
    assert time.monotonic() - began < 2
    other.execute("rollback")
    assert asyncio.run(together(db, insert("c"))) == [1]
    assert names(db) == ["c"]
    other.close()


def test_a_defect_in_sql_is_no_unavailable_store(db: SqliteDatabase) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        db.read(lambda tx: tx.all("select * from absent"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        db.transact(lambda tx: tx.run("delete from absent"))


def test_a_worker_hears_pokes_again_after_another_that_took_its_place_died(db: SqliteDatabase) -> None:
    first, other, sender = Hint(db.path + ".poke"), Hint(db.path + ".poke"), Hint(db.path + ".poke")
    assert not first.wait(0.01)
    assert not other.wait(0.01)
    assert other._in is not None
    other._in.close()  # killed: its file stays
    sender.send()
    assert not first.wait(0.01)
    sender.send()
    assert first.wait(1.0)
    for hint in (first, sender):
        hint.close()
