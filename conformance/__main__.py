"""python -m conformance [--drivers fake|real] [--check | --record] LIST: see README.md."""

import argparse
import sys
from pathlib import Path

from conformance import ledger, outcome, report, tests
from conformance.cloud import Cloud
from conformance.http_files import Files
from conformance.outcome import Outcome
from conformance.preparation import prepare
from conformance.room import enter
from conformance.tempest import Tempest

FOLDER = Path(__file__).parent


def parse() -> argparse.Namespace:
    """The command line."""
    top = argparse.ArgumentParser("python -m conformance", description="Run Tempest tests against a fresh cloud.")
    top.add_argument(
        "list", nargs="?", help="a file of test names (also by name from conformance/lists), or a regular expression"
    )
    top.add_argument("--drivers", choices=("fake", "real"), default="fake", help="fake: only tests without a guest")
    top.add_argument("--concurrency", type=int, default=2)
    top.add_argument("--into", type=Path, default=Path(".cache/conformance-run"), help="folder of logs and results")
    top.add_argument(
        "--again", action="store_true", help="run nothing: take the results of the last run in that folder"
    )
    top.add_argument("--check", action="store_true", help="fail when a test of the ledger does not pass")
    top.add_argument("--record", action="store_true", help="add what passed to the ledger")
    given = top.parse_args()
    if not (given.list or given.again):
        top.error("name a list, or --again")
    return given


def run(given: argparse.Namespace) -> list[Outcome]:
    """Make the cloud, run the tests, leave nothing but logs."""
    into = given.into.resolve()
    tempest = Tempest(into)
    chosen = tests.choose(given.list, tempest.tests(), guests=given.drivers == "real")
    print(f"{len(chosen.ids)} tests, {given.drivers} drivers", flush=True)
    if not chosen.ids:
        return []
    with Files(into / "http") as files, Cloud(given.drivers, into) as cloud:
        tempest.configure(prepare(cloud, files))
        outcomes = tempest.run(chosen.ids, given.concurrency, cloud.enter)
    return outcomes + [Outcome(name, "not run", "needs a guest that answers over ssh") for name in chosen.left_out]


def main() -> int:
    """Run, print, compare with the ledger; the exit status."""
    given = parse()
    results = given.into / "results.json"
    outcomes = outcome.read(results) if given.again else run(given)
    outcome.write(results, outcomes)
    print(report.table(outcomes))
    (given.into / "report.txt").write_text(report.whole(outcomes))
    if given.record:
        ledger.record(outcomes)
    broken = ledger.broken(outcomes) if given.check else []
    for name in broken:
        print(f"in the ledger, but did not pass: {name}", file=sys.stderr)
    return 1 if broken or not outcomes else 0


if __name__ == "__main__":
    enter()
    sys.exit(main())
