"""Attack S19: whoever guesses names learns neither by the answer nor by its time whether one exists."""

import math
import random
import time
from pathlib import Path

import pytest
from msgspec import structs

from identity_cloud import QUICK, IdentityCloud
from pileus.core.config import Identity

GUESSES = {"right name": ("eve", "Default"), "no such name": ("nobody", "Default"), "locked": ("locked", "Default"),
           "no such domain": ("eve", "Nowhere")}  # fmt: skip


class Guesser:
    """Somebody who guesses names and looks at the clock."""

    def __init__(self, folder: Path, memory_kib: int):
        many = 1_000_000  # nobody is locked out by the guesses themselves
        rules = structs.replace(QUICK, lockout_failures=many, hash_memory_kib=memory_kib, hash_passes=2)
        self.cloud = IdentityCloud(folder, rules)
        self.cloud.person("eve")
        locked = self.cloud.person("locked")["id"]
        row = (locked, many, time.time())
        self.cloud.db.transact(lambda tx: tx.run("insert into log_in_failures values (?, ?, ?)", *row))
        self.bodies = {self.guess(kind, 0)[1] for kind in GUESSES}

    def guess(self, kind: str, i: int) -> tuple[float, tuple[int, bytes]]:
        """Seconds of our own time that an answer took, and the answer."""
        name, domain = GUESSES[kind]
        user = {"name": name, "domain": {"name": domain}, "password": f"wrong{i}"}
        began = time.process_time()
        answer = self.cloud.log_in({"password": {"user": user}})
        return time.process_time() - began, (answer.status, answer.raw)

    def likenesses(self, count: int) -> dict[str, float]:
        """How likely the times of each kind come from where those of a right name come from."""
        times: dict[str, list[float]] = {kind: [] for kind in GUESSES}
        for i in range(count):
            for kind in random.sample(list(GUESSES), len(GUESSES)):
                seconds, answer = self.guess(kind, i)
                times[kind].append(seconds)
                self.bodies.add(answer)
        return {kind: mann_whitney(times["right name"], found) for kind, found in times.items()}


def mann_whitney(some: list[float], others: list[float]) -> float:
    """The p-value of the two-sided Mann-Whitney U test, by its normal approximation (both samples are large)."""
    ranked = sorted([(value, 0) for value in some] + [(value, 1) for value in others])
    ranks = sum(rank for rank, (_, which) in enumerate(ranked, 1) if which == 0)
    n, m = len(some), len(others)
    deviation = math.sqrt(n * m * (n + m + 1) / 12)
    z = (ranks - n * (n + 1) / 2 - n * m / 2) / deviation
    return math.erfc(abs(z) / math.sqrt(2))


SLOWLY = pytest.param(Identity().hash_memory_kib, 2000, marks=pytest.mark.slow, id="as-it-is-by-default")


@pytest.mark.parametrize(("memory_kib", "count"), [pytest.param(4096, 250, id="quickly"), SLOWLY])
def test_s19_nothing_tells_whether_a_name_exists(tmp_path: Path, memory_kib: int, count: int) -> None:
    guesser = Guesser(tmp_path, memory_kib)
    for _ in range(3):  # equals are told apart in one of thirty rounds, but not thrice
        found = guesser.likenesses(count)
        if min(found.values()) > 0.01:
            break
    assert min(found.values()) > 0.01, found
    assert len(guesser.bodies) == 1
    guesser.cloud.close()


def test_s19_the_clock_would_tell(tmp_path: Path) -> None:
    """A twentieth of the time that a password takes is seen by the test above."""
    cloud = IdentityCloud(tmp_path, structs.replace(QUICK, hash_memory_kib=1024))
    took: list[float] = []
    for i in range(1000):
        began = time.process_time()
        cloud.by_password("nobody", f"wrong{i}")
        took.append(time.process_time() - began)
    assert mann_whitney(took[::2], took[1::2]) > 1e-6
    assert mann_whitney(took[::2], [seconds * 1.05 for seconds in took[1::2]]) < 0.01
    cloud.close()
