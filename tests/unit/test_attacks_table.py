"""docs/attacks.md names the tests that there are, and every number of those on identity and tenancy."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs/attacks.md").read_text()


def test_every_test_that_the_table_names_is_there() -> None:
    there = set(re.findall(r"def (test_\w+)", "".join(file.read_text() for file in ROOT.glob("tests/**/test_*.py"))))
    named = set(re.findall(r"`(test_\w+)`", TABLE))
    assert named and named <= there, sorted(named - there)
    assert all(list(ROOT.glob(f"tests/**/{file}")) for file in re.findall(r"`(test_\w+\.py)`", TABLE))


def test_every_attack_on_identity_and_tenancy_is_in_the_table() -> None:
    first = "".join(line.split("|")[1] for line in TABLE.splitlines() if line.startswith("| S"))
    assert re.findall(r"S\d\d", first) == [f"S{n:02}" for n in range(1, 26)]
