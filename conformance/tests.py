"""Which tests a run chooses."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
LISTS = FOLDER / "lists"
GUESTS = LISTS / "need-a-guest.txt"


@dataclass(frozen=True)
class Chosen:
    """`ids` as Tempest names them, and the names left out since no guest would answer."""

    ids: list[str]
    left_out: list[str]


def bare(test_id: str) -> str:
    """The name of a test without its attributes."""
    return test_id.partition("[")[0].strip()


def read(path: Path) -> set[str]:
    """The names in a file; `#` begins a comment."""
    return {bare(line) for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")}


def find(wanted: str) -> Path | None:
    """The file that `wanted` names: a path, or a name from our lists."""
    places = (Path(wanted), LISTS / wanted, LISTS / f"{wanted}.txt", FOLDER / f"{wanted}.txt")
    return next((path for path in places if path.is_file()), None)


def choose(wanted: str, known: Sequence[str], *, guests: bool) -> Chosen:
    """The known tests that `wanted` names; without guests, those that need one are left out."""
    path = find(wanted)
    if path is not None:
        names = read(path)
        found = [test for test in known if bare(test) in names]
    else:
        found = [test for test in known if re.search(wanted, test)]
    need = set() if guests else read(GUESTS)
    return Chosen([test for test in found if bare(test) not in need], [bare(t) for t in found if bare(t) in need])
