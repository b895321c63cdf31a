"""What became of one test."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """`reason` is why it was skipped, or the traceback of its failure."""

    name: str
    status: str  # passed | failed | skipped | not run
    reason: str = ""
    seconds: float = 0.0

    @property
    def service(self) -> str:
        """The row of the table that it stands in: the package of the test below tempest."""
        parts = self.name.replace("tearDownClass (", "").split(".")
        return ".".join(parts[1:3]) if parts[1] == "api" else parts[1]

    @property
    def last_line(self) -> str:
        """The end of the reason: the exception itself."""
        lines = [line for line in self.reason.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


def write(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Keep the results of a run."""
    path.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")


def read(path: Path) -> list[Outcome]:
    """The results of an earlier run."""
    return [Outcome(**fields) for fields in json.loads(path.read_text())]
