"""The engine: rows that want something, and the workers that take them one step nearer.

A resource that is ever worked on has a row in `work`: "look at it at `due`" (null: at rest).  It is
poked in the transaction that changes the wish.  A worker leases it, calls one `step`, and commits
the step's result together with the next due time.  Nothing is kept in memory, so killing any
process at any point loses nothing but time.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pileus.core.events import last_request
from pileus.core.log import REQUEST_ID
from pileus.db.connect import Database, Tx, Unavailable

LEASE = 60.0  # seconds, unless a worker is told otherwise; one step must finish well within it
BACKOFF_MAX = 30.0  # seconds
PATIENCE = 600.0  # seconds that a step may fail or wait for the same reason, unless it says otherwise
POLL = 1.0  # seconds; the truth behind every hint
log = logging.getLogger("pileus.work")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class Again:
    """Progress was made: save it and look again at once."""


@dataclass(frozen=True)
class Wait:
    """Nothing to do before `seconds` have passed or someone pokes; past `patience` seconds of it, give up."""

    seconds: float
    why: str
    patience: float = PATIENCE


@dataclass(frozen=True)
class Rest:
    """What is wanted is what is there: forget me until something changes."""


@dataclass(frozen=True)
class Gone:
    """Nothing is left: delete the row."""


Outcome = Again | Wait | Rest | Gone
AGAIN, REST, GONE = Again(), Rest(), Gone()


class Transient(Exception):
    """Try the same step later (a node is away, a lock is taken, …)."""


@dataclass(frozen=True)
class Lease:
    """The right to step one resource; nodes refuse what carries a lower epoch."""

    kind: str
    id: str
    epoch: int


@dataclass(frozen=True)
class Kind(Generic[R]):
    """How one kind of resource is loaded, stepped and saved.

    `load(tx, id)` gives None when the resource is gone.  `step(resource, world)` writes only status.
    `save(tx, resource, outcome, now)` writes the status columns, or deletes the row on Gone.
    `overdue(resource, why)` is called when a wait outlasts its patience: it records a fault.
    `world(lease)` makes the outside as seen under that lease.
    """

    name: str
    load: Callable[[Tx, str], R | None]
    step: Callable[[R, Any], Outcome]
    save: Callable[[Tx, R, Outcome, float], None]
    overdue: Callable[[R, str], Outcome]
    world: Callable[[Lease], Any]


def poke(tx: Tx, kind: str, resource_id: str, now: float | None = None) -> None:
    """Ask for a look at a resource; call it in the transaction that changes the resource."""
    at = time.time() if now is None else now
    tx.run(
        "insert into work (kind, id, due) values (?, ?, ?) on conflict (kind, id) do update set"
        " due = case when work.due is null or work.due > excluded.due then excluded.due else work.due end,"
        " pokes = work.pokes + 1, attempts = 0, since = null",
        kind, resource_id, at,
    )  # fmt: skip
    tx.poked = True


def forget(tx: Tx, kind: str, resource_id: str) -> None:
    """Drop the work of a resource that is deleted in this transaction and has nothing outside of the database."""
    tx.run("delete from work where kind = ? and id = ?", kind, resource_id)


class LeaseLost(Transient):
    """Another worker has taken the resource over."""


def transact(db: Database, lease: Lease, work: Callable[[Tx], T]) -> T:
    """Write in the middle of a step, but only while its lease is held; raises LeaseLost."""

    def guarded(tx: Tx) -> T:
        row = tx.one("select epoch from work where kind = ? and id = ?", lease.kind, lease.id)
        if row is None or row[0] != lease.epoch:
            raise LeaseLost(f"{lease.kind} {lease.id} was taken over by another worker")
        return work(tx)

    return db.transact(guarded)


_DUE = "select kind, id from work where due <= ? and lease <= ? order by due limit ?"
_LEASE = (
    "update work set lease = ?, owner = ?, epoch = epoch + 1, attempts = attempts + 1"
    " where kind = ? and id = ? and due <= ? and lease <= ? returning epoch, pokes, attempts, why, since"
)


@dataclass
class Turn:
    """One leased row while it is being stepped."""

    lease: Lease
    pokes: int
    attempts: int
    why: str | None
    since: float | None


class Worker:
    """Takes due rows and steps them, `threads` at a time.

    `owner` names it over restarts; whoever starts it sees to it that no other of this name lives ("": no name).
    """

    def __init__(
        self,
        db: Database,
        kinds: Mapping[str, Kind[Any]],
        *,
        threads: int = 8,
        lease_seconds: float = LEASE,
        owner: str = "",
        clock: Callable[[], float] = time.time,
        stopping: threading.Event | None = None,
    ):
        self.db, self.kinds, self.threads, self.clock = db, dict(kinds), threads, clock
        self.lease_seconds, self.owner = lease_seconds, owner
        self.lost: list[Lease] = []  # held, but the database was away when they ended
        self.stopping = stopping or threading.Event()

    def lease(self, limit: int) -> list[Turn]:
        """Lease the most overdue rows; each lease raises the row's epoch."""
        now, lost = self.clock(), list(self.lost)
        if not lost and not self.db.read(lambda tx: tx.one(_DUE, now, now, 1)):
            return []  # an idle worker writes nothing

        def take(tx: Tx) -> list[Turn]:
            turns = []
            for old in lost:
                tx.run("update work set lease = 0 where kind = ? and id = ? and epoch = ?", old.kind, old.id, old.epoch)
            for kind, resource_id in tx.all(_DUE, now, now, limit):
                until = now + self.lease_seconds
                for found in tx.all(_LEASE, until, self.owner, kind, resource_id, now, now):
                    epoch, pokes, attempts, why, since = found
                    turns.append(Turn(Lease(kind, resource_id, epoch), pokes, attempts, why, since))
            return turns

        turns = self.db.transact(take)
        for lease in lost:
            self.lost.remove(lease)
        return turns

    def reclaim(self) -> None:
        """Take back what this worker held when it was killed, rather than wait until its leases run out."""
        if self.owner:
            self.db.transact(lambda tx: tx.run("update work set lease = 0 where owner = ? and lease > 0", self.owner))

    def run_turn(self, turn: Turn) -> None:
        """Step a leased row until it waits, rests or is gone, or the lease is lost; each step is committed."""
        ends = self.clock() + self.lease_seconds / 2
        while self.step_once(turn) and self.clock() < ends and not self.stopping.is_set():
            turn.attempts = 1

    def step_once(self, turn: Turn) -> bool:
        """One step and its commit; True when progress was made and the lease is still held."""
        kind = self.kinds[turn.lease.kind]
        resource, request_id = self.db.read(
            lambda tx: (kind.load(tx, turn.lease.id), last_request(tx, kind.name, turn.lease.id))
        )
        REQUEST_ID.set(request_id)  # so that the log tells for whom this is done, here and on the node
        if resource is None:
            self.db.transact(lambda tx: self._forget(tx, turn))
            return False
        outcome = self._step(kind, resource, turn)
        return self.db.transact(lambda tx: self._finish(tx, kind, resource, turn, outcome))

    def _step(self, kind: Kind[Any], resource: Any, turn: Turn) -> Outcome:
        """The one broad except: the loop never dies; what was raised becomes a wait with its reason."""
        try:
            outcome = kind.step(resource, kind.world(turn.lease))
        except (Transient, OSError) as error:  # OSError: a node does not answer
            outcome = Wait(self._backoff(turn.attempts), str(error))
        except Exception as error:
            log.exception("step of %s %s failed", kind.name, turn.lease.id)
            outcome = Wait(self._backoff(turn.attempts), f"{type(error).__name__}: {error}")
        if isinstance(outcome, Wait) and turn.since is not None and outcome.why == turn.why:
            if self.clock() - turn.since > outcome.patience:
                log.warning("%s %s: patience ended: %s", kind.name, turn.lease.id, outcome.why)
                return kind.overdue(resource, outcome.why)
        return outcome

    @staticmethod
    def _backoff(attempts: int) -> float:
        return float(min(BACKOFF_MAX, 0.1 * 2.0 ** min(attempts, 12)) * (0.5 + random.random() / 2))  # noqa: S311 (jitter)

    def _forget(self, tx: Tx, turn: Turn) -> None:
        lease = turn.lease
        tx.run("delete from work where kind = ? and id = ? and epoch = ?", lease.kind, lease.id, lease.epoch)

    def _finish(self, tx: Tx, kind: Kind[Any], resource: Any, turn: Turn, outcome: Outcome) -> bool:
        """Save what the step found out and when to look again, unless another worker took over."""
        now, key = self.clock(), (turn.lease.kind, turn.lease.id)
        row = tx.one("select epoch, pokes from work where kind = ? and id = ?", *key)
        if row is None or row[0] != turn.lease.epoch:
            return False  # we slept past our lease: say nothing
        poked = row[1] != turn.pokes
        kind.save(tx, resource, outcome, now)
        match outcome:
            case Gone():
                tx.run("delete from work where kind = ? and id = ?", *key)
                return False
            case Again():
                tx.run("update work set lease = ?, due = ?, why = null, since = null where kind = ? and id = ?",
                       now + self.lease_seconds, now, *key)  # fmt: skip
                turn.pokes, turn.why, turn.since = row[1], None, None
                return True
            case Rest():
                tx.run("update work set lease = 0, due = ?, why = null, since = null, attempts = 0"
                       " where kind = ? and id = ?", now if poked else None, *key)  # fmt: skip
            case Wait(seconds, why, _):
                since = turn.since if turn.since is not None and turn.why == why and not poked else now
                tx.run("update work set lease = 0, due = ?, why = ?, since = ? where kind = ? and id = ?",
                       now if poked else now + seconds, why, since, *key)  # fmt: skip
        tx.poked = tx.poked or poked
        return False

    def run_one(self) -> bool:
        """Lease and run one row (tests, single thread); False when nothing is due."""
        turns = self.lease(1)
        for turn in turns:
            self.run_turn(turn)
        return bool(turns)

    def run(self) -> None:
        """Work until `stopping` is set."""
        free = threading.Semaphore(self.threads)
        back = threading.Event()

        def serve(turn: Turn) -> None:
            try:
                self.run_turn(turn)
            except Exception:  # the database is away: the row is taken again when it is back
                log.exception("turn of %s %s was lost", turn.lease.kind, turn.lease.id)
                self.lost.append(turn.lease)
            finally:
                free.release()
                back.set()

        try:
            self.reclaim()
        except Unavailable:
            log.exception("cannot take back what was leased")  # it runs out by itself
        with ThreadPoolExecutor(self.threads, "step") as pool:
            while not self.stopping.is_set():
                room = 0
                while room < self.threads and free.acquire(blocking=False):
                    room += 1
                turns = self._lease_safely(room) if room else []
                for turn in turns:
                    pool.submit(serve, turn)
                for _ in range(room - len(turns)):
                    free.release()
                if not room:
                    back.wait(POLL)
                    back.clear()
                elif not turns:
                    self.db.wait(self._until_due())

    def _lease_safely(self, limit: int) -> list[Turn]:
        try:
            return self.lease(limit)
        except Exception:
            log.exception("cannot lease work")
            self.stopping.wait(POLL)
            return []

    def _until_due(self) -> float:
        """Seconds until the next row is due, at most POLL."""
        now = self.clock()
        try:
            row = self.db.read(lambda tx: tx.one("select min(due) from work where due is not null and lease <= ?", now))
        except Exception:
            return POLL
        return POLL if row is None or row[0] is None else min(POLL, max(0.001, row[0] - now))
