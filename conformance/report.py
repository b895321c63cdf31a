"""The table of a run, and every reason."""

from collections import Counter
from collections.abc import Sequence

from conformance.outcome import Outcome

STATES = ("passed", "failed", "skipped", "not run")


def table(outcomes: Sequence[Outcome]) -> str:
    """Counts by service, then why tests were skipped, then what failed with its last line."""
    rows = [("service", *STATES, "tests")]
    services = sorted({outcome.service for outcome in outcomes})
    for service in (*services, "all"):
        own = [o for o in outcomes if service in ("all", o.service)]
        counts = Counter(o.status for o in own)
        rows.append((service, *(str(counts[state]) for state in STATES), str(len(own))))
    text = "\n".join(f"{row[0]:<24}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows)
    return "\n\n".join(part for part in (text, _reasons(outcomes), _failures(outcomes)) if part)


def _reasons(outcomes: Sequence[Outcome]) -> str:
    counts = Counter((o.status, o.last_line) for o in outcomes if o.status in ("skipped", "not run"))
    return "\n".join(f"{status} {count}: {why}" for (status, why), count in counts.most_common())


def _failures(outcomes: Sequence[Outcome]) -> str:
    return "\n".join(f"FAILED {o.name}\n    {o.last_line[:300]}" for o in outcomes if o.status == "failed")


def whole(outcomes: Sequence[Outcome]) -> str:
    """The table, and every failure with its traceback."""
    parts = [f"== {o.name} ({o.seconds:.0f} s)\n{o.reason}" for o in outcomes if o.status == "failed"]
    slow = sorted(outcomes, key=lambda o: -o.seconds)[:20]
    times = "\n".join(f"{o.seconds:8.1f} s  {o.name}" for o in slow)
    return "\n\n".join([table(outcomes), *parts, "slowest:\n" + times]) + "\n"
