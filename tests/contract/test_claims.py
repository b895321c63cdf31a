"""Claims of random consumers, in parallel, never pass a capacity: on SQLite and on PostgreSQL."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pileus.core.errors import Conflicted
from pileus.core.ids import new_id
from pileus.db.connect import Database, Tx
from pileus.placement import facade
from pileus.placement.claims import Claim, replace

CROWD = ThreadPoolExecutor(6)  # one crowd for all, since each thread keeps its connection
CAPACITY = {"VCPU": 6, "MEMORY_MB": 8}
AMOUNTS = st.fixed_dictionaries({}, optional={"VCPU": st.integers(1, 4), "MEMORY_MB": st.integers(1, 5)})
ACT = st.tuples(
    st.sampled_from(["claim", "claim", "claim", "release", "move", "many"]),
    st.integers(0, 3),  # consumer
    st.integers(0, 1),  # provider
    AMOUNTS,
)


class Arena:
    """Two fresh providers and some consumers that fight for them."""

    def __init__(self, db: Database):
        self.db = db
        self.providers = [new_id(), new_id()]
        self.consumers = [new_id() for _ in range(5)]
        for provider in self.providers:
            db.transact(lambda tx, p=provider: self._report(tx, p))

    @staticmethod
    def _report(tx: Tx, provider: str) -> None:
        have = {"VCPU": facade.Inventory(3, allocation_ratio=2.0), "MEMORY_MB": facade.Inventory(10, reserved=2)}
        facade.ensure_provider(tx, provider_id=provider, name=provider, inventories=have, traits=(), now=1.0)

    def act(self, what: str, consumer: int, provider: int, amounts: Mapping[str, int]) -> None:
        """One transaction; having no room is an answer."""
        mine, here = self.consumers[consumer], self.providers[provider]
        who: dict[str, Any] = {"project_id": "p", "user_id": "u"}

        def work(tx: Tx) -> None:
            if what == "claim":
                facade.claim(tx, consumer_id=mine, provider_id=here, resources=amounts, now=2.0, **who)
            elif what == "release":
                facade.release(tx, mine)
            elif what == "move" and not facade.allocations(tx, self.consumers[4]):
                facade.move(tx, mine, self.consumers[4], 2.0)
            elif what == "many":
                both = (mine, self.consumers[(consumer + 1) % 4])
                replace(tx, [Claim(consumer_id=c, resources={here: amounts}, **who) for c in both], 2.0)

        with suppress(Conflicted):  # no room, or another claim for the same consumer came first
            self.db.transact(work)

    def check(self) -> None:
        """Nothing is overdrawn, nothing is left over."""
        for have in self.db.read(lambda tx: facade.usages(tx, self.providers)).values():
            for name, usage in have.items():
                assert 0 <= usage.used <= usage.capacity == CAPACITY[name]
        assert self.db.read(facade.inconsistencies) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(ACT, min_size=1, max_size=24))
def test_claims_of_random_consumers_never_pass_a_capacity(db: Database, acts: list[Any]) -> None:
    arena = Arena(db)
    for act in acts:
        arena.act(*act)
        arena.check()


@settings(
    max_examples=8, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(acts=st.lists(ACT, min_size=12, max_size=24))
def test_nor_do_claims_that_race(db: Database, acts: list[Any]) -> None:
    arena = Arena(db)
    list(CROWD.map(lambda act: arena.act(*act), acts))
    arena.check()
