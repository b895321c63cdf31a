"""The worker is killed at every driver effect and around every commit of each long operation, one point at a time.

For each point a fresh cloud is set up, the operation asked for, the worker killed there and started again.  It must end
ACTIVE, or ERROR with a reason, in bounded time; when all is deleted nothing is left.
"""

from pathlib import Path

import pytest
from scenarios import SCENARIOS, Scenario, delete_all

from cloud import FakeCloud

BOUNDED = 900.0  # seconds of the cloud's own clock


def points(folder: Path, scenario: Scenario) -> int:
    """How many places there are to be killed at, seen in an undisturbed run."""
    cloud = FakeCloud(folder)
    try:
        scenario.prepare(cloud)
        before = cloud.faults.count
        scenario.act(cloud)
        cloud.run(BOUNDED)
        scenario.check(cloud)
        return cloud.faults.count - before
    finally:
        cloud.close()


def killed_at(folder: Path, scenario: Scenario, point: int) -> None:
    cloud = FakeCloud(folder)
    try:
        scenario.prepare(cloud)
        cloud.faults.kill_at = {cloud.faults.count + point}
        scenario.act(cloud)
        kills = cloud.run_killed(BOUNDED)
        cloud.faults.end()
        assert kills <= 1
        scenario.check(cloud)
        delete_all(cloud)
        assert cloud.run_killed(BOUNDED) == 0
        assert cloud.leftovers() == []
        assert cloud.inconsistencies() == []
    finally:
        cloud.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_each_step_it_goes_on_and_nothing_leaks(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    (tmp_path / "whole").mkdir()
    total = points(tmp_path / "whole", scenario)
    assert total > 4, "a scenario without effects proves nothing"
    for point in every(total):
        folder = tmp_path / f"at{point}"
        folder.mkdir()
        try:
            killed_at(folder, scenario, point)
        except BaseException as error:
            error.add_note(f"{name} killed at point {point} of {total}")
            raise


def every(total: int) -> range:
    return range(1, total + 1)
