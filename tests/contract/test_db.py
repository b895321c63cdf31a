"""Both engines keep the same promises."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec import Struct

from pileus.core.errors import OverQuota
from pileus.core.paging import Listing
from pileus.core.quota import Quota
from pileus.db.connect import Conflict, Database, Tx
from pileus.db.migrate import migrate, migrations, statements
from pileus.db.rows import Table


class Thing(Struct, frozen=True, kw_only=True):
    id: str
    name: str | None = None
    size: int = 0
    shown: bool = True
    extra: dict[str, int] = {}


THINGS = Table(Thing, "things")
SCHEMA = "create table things (id text primary key, name text unique, size bigint, shown bigint, extra text)"


@pytest.fixture
def things(db: Database) -> Database:
    db.transact(lambda tx: tx.run(SCHEMA))
    return db


def insert(db: Database, **fields: object) -> Thing:
    return db.transact(lambda tx: THINGS.insert(tx, Thing(**fields)))  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it


def test_rows_come_back_as_they_went(things: Database) -> None:
    row = insert(things, id="1", name="ä\n%?'", size=2**40, shown=False, extra={"a": 1})
    assert things.read(lambda tx: THINGS.get(tx, id="1")) == row
    assert things.read(lambda tx: THINGS.get(tx, name=None)) is None


def test_unique_constraints_are_conflicts_and_leave_the_transaction_usable(things: Database) -> None:
    insert(things, id="1", name="x")

    def work(tx: Tx) -> int:
        with pytest.raises(Conflict):
            THINGS.insert(tx, Thing(id="2", name="x"))
        THINGS.insert(tx, Thing(id="3", name="y"))
        return THINGS.count(tx)

    assert things.transact(work) == 2


def test_what_raises_leaves_nothing(things: Database) -> None:
    def work(tx: Tx) -> None:
        THINGS.insert(tx, Thing(id="1"))
        raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError):
        things.transact(work)
    assert things.read(THINGS.count) == 0


def test_reads_see_one_snapshot(things: Database) -> None:
    def work(tx: Tx) -> tuple[int, int]:
        before = THINGS.count(tx)
        with ThreadPoolExecutor(1) as other:
            other.submit(insert, things, id="late").result()
        return before, THINGS.count(tx)

    assert things.read(work) == (0, 0)
    assert things.read(THINGS.count) == 1


def test_updates_compare_and_swap(things: Database) -> None:
    insert(things, id="1", size=1)
    assert things.transact(lambda tx: THINGS.update(tx, {"size": 2, "extra": {"b": 2}}, id="1", size=1)) == 1
    assert things.transact(lambda tx: THINGS.update(tx, {"size": 3}, id="1", size=1)) == 0
    assert things.read(lambda tx: THINGS.get(tx, id="1")) == Thing(id="1", size=2, extra={"b": 2})


def test_parallel_writers_lose_nothing(things: Database) -> None:
    insert(things, id="n", size=0)

    def bump(_: int) -> None:
        def work(tx: Tx) -> None:
            row = THINGS.get(tx, id="n")
            assert row is not None
            THINGS.update(tx, {"size": row.size + 1}, id="n")

        things.transact(work)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bump, range(60)))
    assert things.read(lambda tx: THINGS.get(tx, id="n")).size == 60  # type: ignore[union-attr]  # None would fail the test here, as it should


def test_a_quota_is_never_passed_by_parallel_requests(things: Database) -> None:
    quota = Quota("test", {"things": (10, lambda tx, _project: THINGS.count(tx))})

    def create(number: int) -> bool:
        def work(tx: Tx) -> None:
            quota.take(tx, "p", things=1)
            THINGS.insert(tx, Thing(id=str(number)))

        try:
            things.transact(work)
        except OverQuota:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(32))) == 10


def test_pages_follow_each_other_in_any_order(things: Database) -> None:
    for number in range(25):
        insert(things, id=f"{number:02}", name=f"n{number:02}" if number % 3 else None, size=number % 4)
    for sort in ([("id", False)], [("size", True), ("id", False)], [("name", False), ("id", True)]):
        whole = things.read(lambda tx, s=sort: Listing(THINGS).page(tx, sort=s))
        seen: list[Thing] = []
        while page := things.read(
            lambda tx, s=sort: Listing(THINGS).page(tx, sort=s, limit=4, marker=seen[-1] if seen else None)
        ):
            seen += page
        assert seen == whole and len(whole) == 25
        before = things.read(
            lambda tx, s=sort: Listing(THINGS).page(tx, sort=s, limit=4, marker=whole[10], reverse=True)
        )
        assert before == whole[6:10]


def test_a_poke_wakes_the_waiting_worker(db: Database) -> None:
    from pileus.core.reconcile import poke

    db.wait(0.01)  # listening from now on
    threading.Timer(0.2, lambda: db.transact(lambda tx: poke(tx, "thing", "1"))).start()
    assert db.wait(5.0)
    assert not db.wait(0.05)


def test_migrations_are_applied_once_and_refuse_the_future(db: Database) -> None:
    assert migrate(db) == []
    assert [n for n, _, _ in migrations()] == sorted({n for n, _, _ in migrations()})
    db.transact(lambda tx: tx.run("insert into schema_version (number, name) values (9999, 'from the future')"))
    with pytest.raises(RuntimeError, match="newer"):
        migrate(db)


def test_migrations_may_speak_to_one_engine() -> None:
    sql = "create table a (b text);\n-- sqlite:create index i on a (b);\n-- a remark;\n"
    assert len(statements(sql, "sqlite")) == 2 and len(statements(sql, "postgresql")) == 1
