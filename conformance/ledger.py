"""The ledger: tests that pass.  It only grows; what stands in it must go on passing."""

from collections.abc import Iterable
from pathlib import Path

from conformance.outcome import Outcome
from conformance.tests import read

LEDGER = Path(__file__).parent / "ledger.txt"
HEAD = "# Tests of Tempest 47 that pass; `--record` adds to it, nothing is taken out.\n"


def known() -> set[str]:
    """The names in it."""
    return read(LEDGER) if LEDGER.exists() else set()


def record(outcomes: Iterable[Outcome]) -> None:
    """Add what passed."""
    passed = {o.name for o in outcomes if o.status == "passed"}
    LEDGER.write_text(HEAD + "".join(f"{name}\n" for name in sorted(known() | passed)))


def broken(outcomes: Iterable[Outcome]) -> list[str]:
    """Tests of the ledger that ran and did not pass."""
    promised = known()
    return sorted(o.name for o in outcomes if o.name in promised and o.status in ("failed", "skipped"))
