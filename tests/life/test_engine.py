"""The engine itself: leases, epochs, pokes, patience, whatever is killed or slow."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct, structs

from pileus.core.reconcile import AGAIN, GONE, REST, Kind, Lease, Outcome, Wait, Worker, poke
from pileus.db.connect import Database, Tx, connect
from pileus.db.migrate import migrate
from pileus.db.rows import Table


class Lamp(Struct, kw_only=True):
    """Wants to burn so many hours."""

    id: str
    wanted: int
    burnt: int = 0
    fault: str = ""


LAMPS = Table(Lamp, "lamps")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class House:
    """A database with lamps, a worker, and a world that the test controls."""

    def __init__(self, folder: Path):
        self.db: Database = connect(f"sqlite://{folder}/db")
        migrate(self.db)
        self.db.transact(
            lambda tx: tx.run("create table lamps (id text primary key, wanted bigint, burnt bigint, fault text)")
        )
        self.clock = Clock()
        self.epochs: list[int] = []
        self.answer: object = None
        self.during: list[object] = []
        self.worker = self.new_worker()

    def new_worker(self, owner: str = "") -> Worker:
        kind = Kind("lamp", lambda tx, i: LAMPS.get(tx, id=i), self.step, self.save, self.overdue, lambda lease: lease)
        return Worker(self.db, {"lamp": kind}, owner=owner, clock=self.clock)

    def step(self, lamp: Lamp, lease: Lease) -> Outcome:
        self.epochs.append(lease.epoch)
        for act in self.during:
            act()  # type: ignore[operator]  # it is there when this runs
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, Wait):
            return self.answer
        if lamp.wanted < 0:
            return GONE
        if lamp.burnt < lamp.wanted:
            lamp.burnt += 1
            return AGAIN
        return REST

    @staticmethod
    def save(tx: Tx, lamp: Lamp, outcome: Outcome, now: float) -> None:
        if outcome == GONE:
            LAMPS.delete(tx, id=lamp.id)
        else:
            LAMPS.save(tx, lamp, ("burnt", "fault"))

    @staticmethod
    def overdue(lamp: Lamp, why: str) -> Outcome:
        lamp.fault = why
        return REST

    def want(self, hours: int) -> None:
        def work(tx: Tx) -> None:
            if LAMPS.get(tx, id="a") is None:
                LAMPS.insert(tx, Lamp(id="a", wanted=hours))
            LAMPS.update(tx, {"wanted": hours}, id="a")
            poke(tx, "lamp", "a", self.clock())

        self.db.transact(work)

    def lamp(self) -> Lamp | None:
        return self.db.read(lambda tx: LAMPS.get(tx, id="a"))

    def work(self) -> tuple[object, ...] | None:
        return self.db.read(lambda tx: tx.one("select due, lease, pokes, why from work where id = 'a'"))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.db.close()


def test_steps_until_rest_and_then_costs_nothing(house: House) -> None:
    house.want(3)
    assert house.worker.run_one()
    assert house.lamp() == Lamp(id="a", wanted=3, burnt=3)
    assert not house.worker.run_one()
    assert house.work()[0] is None  # type: ignore[index]  # None or another shape would fail the test here


def test_gone_removes_the_row_and_its_work(house: House) -> None:
    house.want(-1)
    house.worker.run_one()
    assert house.lamp() is None and house.work() is None


def test_a_poke_during_the_step_is_not_lost(house: House) -> None:
    house.want(1)

    def change_mind() -> None:
        house.during.clear()
        house.want(5)

    house.during.append(change_mind)
    while house.worker.run_one():
        pass
    assert house.lamp().burnt == 5  # type: ignore[union-attr]  # None would fail the test here, as it should


def test_a_poke_during_a_wait_shortens_it(house: House) -> None:
    house.want(1)
    house.answer = Wait(100, "the shop is closed")
    house.during.append(lambda: (house.during.clear(), house.want(2)))
    house.worker.run_one()
    house.answer = None
    assert house.worker.run_one()
    assert house.lamp().burnt == 2  # type: ignore[union-attr]  # None would fail the test here, as it should


def test_who_sleeps_past_the_lease_says_nothing(house: House) -> None:
    house.want(1)

    def sleep() -> None:
        house.during.clear()
        house.clock.now += 61
        house.new_worker().run_one()  # another takes over and finishes
        house.want(0)

    house.during.append(sleep)
    house.worker.run_one()
    assert house.epochs == sorted(house.epochs) and len(set(house.epochs)) == 2
    assert house.lamp().burnt == 1 and house.work()[0] is not None  # type: ignore[union-attr,index]  # None would fail the test here, as it should


def test_a_killed_worker_costs_only_its_lease(house: House) -> None:
    house.want(1)
    assert house.worker.lease(5)  # and then it is killed
    assert not house.new_worker().run_one()
    house.clock.now += 61
    assert house.new_worker().run_one()
    assert house.lamp().burnt == 1  # type: ignore[union-attr]  # None would fail the test here, as it should


def test_a_worker_that_starts_again_takes_back_its_own_leases_and_no_others(house: House) -> None:
    house.want(1)
    assert house.new_worker("one").lease(5)  # and then it is killed
    for name in ("", "two"):
        other = house.new_worker(name)
        other.reclaim()
        assert not other.run_one()
    again = house.new_worker("one")
    again.reclaim()
    assert again.run_one()
    assert house.lamp().burnt == 1  # type: ignore[union-attr]  # None would fail the test here, as it should
    assert house.epochs[0] == 2, "what the killed one still has under way is fenced off"


def test_a_turn_that_the_database_lost_is_taken_again_when_it_is_back(house: House) -> None:
    house.want(1)
    (turn,) = house.worker.lease(5)
    house.worker.lost.append(turn.lease)
    assert house.worker.run_one()
    assert house.worker.lost == [] and house.lamp().burnt == 1  # type: ignore[union-attr]  # None would fail the test here, as it should


def test_errors_wait_with_their_reason_and_back_off(house: House) -> None:
    house.want(1)
    house.answer = ConnectionError("the node is away")
    house.worker.run_one()
    due, lease, _, why = house.work()  # type: ignore[misc]  # None would fail the test here, as it should
    assert why == "the node is away" and lease == 0 and due > house.clock.now
    house.answer = None
    house.clock.now += 60
    house.worker.run_one()
    assert house.lamp().burnt == 1  # type: ignore[union-attr]  # None would fail the test here, as it should


def test_nothing_waits_for_ever(house: House) -> None:
    house.want(1)
    house.answer = Wait(1, "no oil", patience=30)
    for _ in range(60):
        house.worker.run_one()
        house.clock.now += 1
        if house.lamp().fault:  # type: ignore[union-attr]  # None would fail the test here, as it should
            break
    assert house.lamp().fault == "no oil" and house.clock.now <= 1033  # type: ignore[union-attr]  # None would fail the test here, as it should


def test_a_change_of_wish_gives_new_patience(house: House) -> None:
    house.want(1)
    house.answer = Wait(1, "no oil", patience=30)
    for second in range(50):
        if second == 20:
            house.want(2)
        house.worker.run_one()
        house.clock.now += 1
    assert house.lamp() == structs.replace(house.lamp(), fault="")  # type: ignore[type-var]  # None would fail the test here, as it should


def test_the_running_worker_hears_of_work_at_once(house: House) -> None:
    import threading
    import time

    house.worker.clock = time.time
    house.clock.now = time.time()
    running = threading.Thread(target=house.worker.run)
    running.start()
    time.sleep(0.1)
    house.want(2)
    ends = time.monotonic() + 10
    while house.lamp().burnt < 2 and time.monotonic() < ends:  # type: ignore[union-attr]  # None would fail the test here, as it should
        time.sleep(0.01)
    house.worker.stopping.set()
    running.join(10)
    assert house.lamp().burnt == 2 and not running.is_alive()  # type: ignore[union-attr]  # None would fail the test here, as it should
