"""One machine for everything that lives: things are made, changed and deleted in any order, while everything fails.

What lives says so in a `Life` (see lives.py): where it is listed, how it is made, what can be asked of it, how it
rests.  All else is here, the same for all: faults in the middle of work, nodes and clocks that misbehave, what must
hold after each step, and how all must end.
"""

import contextlib
import logging
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cloud import FakeNode, Killed
from direct import DEMO, Answer
from pileus.core.reconcile import LEASE
from pileus.node.client import CALL_SECONDS
from pileus.placement import facade as placement
from server_cloud import ServerCloud

BOUNDED = 4 * 3600.0  # seconds of the cloud's own clock in which everything comes to rest
FAULTS = ("kill", "kill", "break", "hang", "takeover", "request")  # in the middle of a worker's work
DRIFT = ("crash", "shut_down", "reboot", "full", "roomy", "away", "back", "back")  # of a node or its guests
EVENTS = ("peace", "peace", "sleep", *FAULTS, *DRIFT)
PAUSES = st.sampled_from([0.0, 0.0, 1.0, LEASE + 1, 3600.0])  # seconds
PROJECT = str(DEMO.project_id)
ADMIN = {"caller": "admin"}
ERRORS = {"ERROR", "error", "killed"}
Row = Mapping[str, Any]


class Scene:
    """What acts see of the cloud: things to choose among, and requests."""

    def __init__(self, cloud: ServerCloud, lives: Iterable["Life"], draw: Callable[[int], int]):
        self.cloud, self.lives, self._draw = cloud, {life.name: life for life in lives}, draw

    def of(self, options: Iterable[Any]) -> Any:
        """One of these; raises Nothing where there are none."""
        if not (found := list(options)):
            raise Nothing
        return found[self._draw(len(found))]

    def rows(self, name: str, *statuses: str) -> list[Row]:
        """Everything of a kind, as its list shows it, in an order that does not change."""
        life = self.lives[name]
        answer = self.cloud.call("GET", life.listed_at, **life.how)
        assert answer.status == 200, answer
        found = [row for row in answer.json[life.name] if life.mine(row)]
        return [row for row in found if not statuses or row.get("status") in statuses]

    def some(self, name: str, *statuses: str) -> str:
        """The id of one of a kind."""
        return str(self.of(self.rows(name, *statuses))["id"])

    def ask(self, method: str, path: str, body: Any = None, **how: Any) -> Answer:
        return self.cloud.call(method, path, body, **how)


class Nothing(Exception):
    """What an act needs is not there."""


@dataclass(frozen=True)
class Act:
    """Something that a user asks of one thing; `when` it most likely may be asked (statuses, empty: always)."""

    name: str
    ask: Callable[[Scene, Row], Answer]
    when: tuple[str, ...] = ()


@dataclass(frozen=True)
class Life:
    """One kind of thing that lives.

    `rests(cloud, row)` says what is wrong with a thing that nobody works on any more, "" when nothing is; things in one
    of ERRORS need a reason there, which `reason` finds.
    """

    name: str  # in the plural, as its list is called
    path: str
    make: Mapping[str, Callable[[Scene], Answer]]
    rests: Callable[[Scene, Row], str]
    acts: tuple[Act, ...] = ()
    reason: Callable[[Scene, Row], str] = lambda scene, row: ""
    listed_at: str = ""  # where its list is with all details, if not at `path`
    how: Mapping[str, Any] = field(default_factory=dict)  # caller and version of the list
    mine: Callable[[Row], bool] = lambda row: True  # whether a user may make and delete such a one
    delete: Callable[[Scene, str], Answer] | None = None
    weight: int = 1  # how often it is chosen
    usage: Callable[[Scene], Mapping[str, int]] = lambda scene: {}  # as quotas count it
    counted: Callable[[list[Row]], Mapping[str, int]] = lambda rows: {}  # the same, from its rows

    def __post_init__(self) -> None:
        object.__setattr__(self, "listed_at", self.listed_at or self.path)

    def end(self, scene: Scene, thing_id: str) -> Answer:
        """Ask for the end of one."""
        return self.delete(scene, thing_id) if self.delete else scene.ask("DELETE", f"{self.path}/{thing_id}")


class Lives(RuleBasedStateMachine):
    """The machine over the lives of `lives`; `accepted` counts over all runs what was asked for and accepted."""

    lives: tuple[Life, ...] = ()
    accepted: ClassVar[Counter[str]] = Counter()

    @initialize(rounds=st.integers(0, 2))
    def start(self, rounds: int) -> None:
        self.undo = contextlib.ExitStack()
        self.undo.enter_context(patch("uuid.uuid4", Ids(rounds).next))
        self.folder = self.undo.enter_context(tempfile.TemporaryDirectory())
        self.cloud = ServerCloud(Path(self.folder), nodes=2, rounds=rounds)
        self.undo.callback(self.cloud.close)
        self.said, self.steps = Said(), 0
        logging.getLogger("pileus").addHandler(self.said)
        self.undo.callback(logging.getLogger("pileus").removeHandler, self.said)
        for life in reversed(self.lives):
            name, making = next(iter(life.make.items()))
            self.tried(f"{life.name}: {name}", lambda making=making: making(self.scene(lambda most: 0)))
            self.cloud.run(BOUNDED)

    def scene(self, draw: Callable[[int], int]) -> Scene:
        return Scene(self.cloud, self.lives, draw)

    def tried(self, name: str, ask: Callable[[], Answer]) -> None:
        """A request that may be refused, but not lead to a defect."""
        try:
            answer = ask()
        except Nothing:
            return
        assert answer.status < 500, (name, answer)
        self.accepted[name] += answer.status < 300

    # --- what is asked for

    def request(self, scene: Scene) -> None:
        """Make, change (most often) or delete something of some kind."""
        life = scene.of(life for life in self.lives for _ in range(life.weight))
        verb = scene.of(["make", "make", *["act"] * 7, "delete"])
        if verb == "make":
            name = scene.of(life.make)
            self.tried(f"{life.name}: {name}", lambda: life.make[name](scene))
        elif rows := scene.rows(life.name):
            row = scene.of(rows)
            if verb == "act" and life.acts:
                fitting = [act for act in life.acts if not act.when or row["status"] in act.when]
                act = scene.of(fitting or life.acts)  # what does not fit must be refused
                self.tried(f"{life.name}: {act.name}", lambda: act.ask(scene, row))
            elif verb == "delete":
                self.tried(f"{life.name}: delete", lambda: life.end(scene, row["id"]))

    @rule(seed=st.integers(0, 2**32 - 1), number=st.integers(0, 4), what=st.sampled_from(EVENTS), pause=PAUSES)
    def live(self, seed: int, number: int, what: str, pause: float) -> None:
        """Something is asked for, some work is done, something happens, time passes.

        One rule for all: of several, Hypothesis leaves out some in each run.
        """
        self.steps += 1
        dice = Random(f"{seed} {self.steps}")  # small seeds come often: other dice at each step
        for _ in range(number):
            self.request(self.scene(dice.randrange))
        if what in DRIFT:
            self.drift(list(self.cloud.nodes.values())[dice.randrange(2)], what)
        with self.disturbed(what, dice.randrange(1, 12), dice):
            for _ in range(dice.randrange(0, 20)):
                if not self.cloud.worker.run_one():
                    self.cloud.later(1.0)
        self.time_passes(what, pause)

    # --- what happens meanwhile

    @contextlib.contextmanager
    def disturbed(self, what: str, after: int, dice: Random) -> Iterator[None]:
        """To the n-th thing that the worker does here, something happens."""
        faults = self.cloud.faults
        happen = {
            "break": self.breaks, "hang": self.hangs, "takeover": lambda: self.takes_over(dice),
            "request": lambda: self.request(self.scene(dice.randrange)),
        }  # fmt: skip
        if what == "kill":
            faults.kill_at = {faults.count + after}
        elif what in happen:
            faults.once(after, happen[what])
        try:
            yield
        except Killed:
            self.cloud.revive()
        finally:
            faults.end()

    def breaks(self) -> None:
        raise ConnectionError("the connection was cut")

    def hangs(self) -> None:
        self.cloud.later(CALL_SECONDS)
        raise ConnectionError("no answer came in time")

    def takes_over(self, dice: Random) -> None:
        """The worker sleeps past its lease; minds change, another worker goes on, then the first wakes up."""
        self.cloud.later(LEASE + 1)
        for _ in range(dice.randrange(3)):
            self.request(self.scene(dice.randrange))
        other = self.cloud.another_worker()
        for _ in range(dice.randrange(1, 20)):
            other.run_one()

    def time_passes(self, what: str, seconds: float) -> None:
        """All is done in peace; or nobody works; or the whole cloud sleeps, and wakes up late."""
        if what == "peace":
            self.cloud.run(seconds)
        elif what == "sleep":
            self.cloud.now += seconds
        else:
            self.cloud.later(seconds)

    def drift(self, node: FakeNode, how: str) -> None:
        """A machine, or a guest on it, does something of its own."""
        machine = node.hypervisor.machine
        if how in ("crash", "shut_down"):
            for guest_id in [g for g, guest in machine.guests.items() if guest.seen.pid][:1]:
                getattr(machine, how)(guest_id)
        elif how == "reboot":
            node.reboot()
        elif how in ("full", "roomy"):
            node.refuses = "it is full" if how == "full" else ""
        else:
            node.alive = how == "back"
        self.cloud.report()

    # --- what must hold

    @invariant()
    def records_agree(self) -> None:
        """What `verify` would say, of all but what waits for a worker or for a node that is away."""
        if hasattr(self, "cloud"):
            lasting = self.contradictions()
            if lasting:
                self.cloud.report()  # agents remove what is nobody's
                lasting &= self.contradictions()
            assert not lasting, lasting
            assert not self.said.errors, self.said.errors

    def contradictions(self) -> set[str]:
        """At this moment: servers that a worker will look at again may still be shown as they were."""
        away = tuple(f"node {node.name}: node {node.name} does not answer" for node in self.cloud.nodes.values())
        return {line for line in self.verify() if not line.startswith((*away, "work: ", "server "))}

    def verify(self) -> list[str]:
        """What `verify` says; a fake node's draft of an image that is gone ends only when it is asked for again."""
        return [line for line in self.cloud.inconsistencies() if ": draft of image " not in line]

    @invariant()
    def quotas_count_what_there_is(self) -> None:
        if hasattr(self, "cloud"):
            scene = self.scene(lambda most: 0)
            for life in self.lives:
                rows = scene.rows(life.name) if life.counted([]) else []
                assert life.usage(scene) == life.counted(rows), life.name

    def calm_down(self) -> None:
        """All is well again; everything that was asked for is done in bounded time."""
        for node in self.cloud.nodes.values():
            node.alive, node.refuses = True, ""
        self.cloud.report()
        self.cloud.run(BOUNDED)
        assert not (lines := self.verify()), lines
        waiting = self.cloud.db.read(lambda tx: tx.all("select kind, id, why from work where due is not null"))
        assert not waiting, waiting

    def settled(self) -> None:
        """At rest as it is wanted, or in error with a reason."""
        scene = self.scene(lambda most: 0)
        for life in self.lives:
            for row in scene.rows(life.name):
                if row.get("status") in ERRORS or str(row.get("status")).startswith("error_"):
                    assert life.reason(scene, row), f"{life.name} without a reason: {row}"
                else:
                    assert not life.rests(scene, row), f"{life.rests(scene, row)}: {row}"

    def claims(self) -> None:
        """What servers and resizes have claimed is what they use, and nobody else has claimed anything."""
        db, scene = self.cloud.db, self.scene(lambda most: 0)
        claimed = db.read(
            lambda tx: {consumer: placement.allocations(tx, consumer) for consumer in placement.consumers(tx)}
        )
        for row in scene.rows("servers"):
            holds = claimed.pop(row["id"], {})
            assert bool(holds) == bool(row["OS-EXT-SRV-ATTR:host"]), (row, holds)
        open_ones = "select id from server_migrations where state in ('migrating', 'finished', 'reverting')"
        assert set(claimed) <= {row[0] for row in db.read(lambda tx: tx.all(open_ones))}, claimed

    def teardown(self) -> None:
        if not hasattr(self, "cloud"):
            return
        with self.undo:
            if sys.exc_info()[0] is None:
                self.all_ends_well()

    def all_ends_well(self) -> None:
        """Everything comes to rest; then everything is deleted, and nothing is left."""
        self.calm_down()
        self.settled()
        self.claims()
        self.delete_all()
        assert self.cloud.leftovers() == []

    def delete_all(self) -> None:
        """Everything, in an order in which the API allows it."""
        scene = self.scene(lambda most: 0)
        for life in self.lives:
            for row in scene.rows(life.name):
                answer = life.end(scene, row["id"])
                assert answer.status < 300 or answer.status == 404, (life.name, row, answer)
            self.calm_down()
            assert scene.rows(life.name) == [], life.name


class Ids:
    """Random UUIDs, the same in each run, so that a failure repeats."""

    def __init__(self, seed: int):
        self.random = Random(seed)

    def next(self) -> uuid.UUID:
        return uuid.UUID(int=self.random.getrandbits(128), version=4)


class Said(logging.Handler):
    """What was logged as a defect."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.errors.append(self.format(record))


def nothing_wrong(scene: Scene, row: Row) -> str:
    """Of what has no state of its own."""
    return ""


def rests_in(*statuses: str) -> Callable[[Scene, Row], str]:
    """It must be in one of these statuses."""
    return lambda scene, row: "" if row["status"] in statuses else "it does not rest"
