"""Everything that lives, in any order, whatever fails: one_machine.py says what is promised, lives.py what lives."""

from collections import Counter
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from lives import LIVES
from one_machine import Lives


def play(examples: int, steps: int, **how: Any) -> Counter[str]:
    """So many runs of at most so many steps; how often what was asked for was accepted."""

    class Machine(Lives):
        lives = LIVES
        accepted: ClassVar[Counter[str]] = Counter()

    run_state_machine_as_test(Machine, settings=settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck),
        database=None, phases=[Phase.generate], **how,
    ))  # fmt: skip
    return Machine.accepted


def test_whatever_happens_all_comes_to_rest_and_nothing_is_left() -> None:
    accepted = play(15, 30, derandomize=True)
    assert sum(accepted.values()) > 200, "where nearly nothing is accepted, nearly nothing is tried"


@pytest.mark.slow
def test_the_same_in_many_lives() -> None:
    """Others in each run; everything that can be asked for is accepted somewhere."""
    accepted = play(400, 50)
    asked = {f"{life.name}: {name}" for life in LIVES for name in [*life.make, *(a.name for a in life.acts), "delete"]}
    assert not asked - set(+accepted), asked - set(+accepted)
