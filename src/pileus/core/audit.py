"""The audit trail: records that nobody can change, remove or add unseen, not even who can write the database.

Each record bears a MAC under a key outside of the database, from the transaction in which it is written.  Within a
second a sealer gives it a position, and a link: the MAC over its own MAC and the link before it.  What was changed
breaks a MAC, what was removed from the chain breaks a link; the newest link stands in the log as well, so that a
shortened chain shows.  Old records are pruned from the front alone: a mark under our MAC says where the chain begins.
"""

import hmac
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct, structs

from pileus.db.connect import Tx
from pileus.db.rows import Table

log = logging.getLogger("pileus.audit")
FIRST_LINK = "0" * 64
Mac = Callable[[bytes], str]  # under our key: "KEY-ID:hexadecimal digits"


class Record(Struct, frozen=True, kw_only=True):
    """One event; position and link are there once it is sealed."""

    id: str
    at: float
    event: str  # JSON
    mac: str
    position: int | None = None
    link: str | None = None


RECORDS = Table(Record, "audit")


class Mark(Struct, frozen=True, kw_only=True):
    """The last record that was pruned: what comes first now is linked to it."""

    position: int
    link: str
    mac: str

    @property
    def content(self) -> bytes:
        """What the MAC is over."""
        return f"pruned {self.position} {self.link}".encode()


MARKS = Table(Mark, "audit_pruned", ("position",))


class Trail:
    """The audit trail under one key; `check` says whether a MAC was made by one of our keys."""

    def __init__(self, mac: Mac, check: Callable[[bytes, str], bool]):
        self.mac, self.check = mac, check

    def write(self, tx: Tx, event: dict[str, Any], at: float) -> None:
        """Add a record in this transaction."""
        text = json.dumps(event, separators=(",", ":"))
        RECORDS.insert(tx, Record(id=event["id"], at=at, event=text, mac=self.mac(text.encode())))

    def seal(self, tx: Tx) -> int:
        """Link what is not in the chain yet; how many there were."""
        tx.lock("audit")
        waiting = RECORDS.query(tx, "where position is null order by at, id limit 10000")
        if not waiting:
            return 0
        row = tx.one("select position, link from audit where position is not null order by position desc limit 1")
        position, link = (int(row[0]), str(row[1])) if row else before_first(tx)
        for record in waiting:
            position, link = position + 1, self.mac(f"{link}{record.mac}".encode())
            RECORDS.update(tx, {"position": position, "link": link}, id=record.id)
        log.info("audit trail: %d ends with %s", position, link)
        return len(waiting)

    def old(self, tx: Tx, until: float) -> list[Record]:
        """The first records, up to the first that is not older than `until` (seconds since the epoch).

        Raises ValueError while the trail is not as it was written: nothing is covered up by pruning.
        """
        self.seal(tx)
        if wrong := next(self.wrong(tx), ""):
            raise ValueError(f"the trail is not as it was written: {wrong}")
        kept = tx.one("select min(position) from audit where at >= ?", until)
        below = int(kept[0]) if kept and kept[0] is not None else 0x7FFFFFFFFFFFFFFF
        return RECORDS.query(tx, "where position < ? order by position", below)

    def prune(self, tx: Tx, last: Record) -> None:
        """Remove all records up to this one, which stays known by its mark."""
        if RECORDS.get(tx, id=last.id) is None:
            return  # somebody else did
        assert last.position is not None and last.link is not None, "it is in the chain"
        mark = Mark(position=last.position, link=last.link, mac="")
        tx.run("delete from audit_pruned")
        MARKS.insert(tx, structs.replace(mark, mac=self.mac(mark.content)))
        tx.run("delete from audit where position <= ?", last.position)

    def wrong(self, tx: Tx) -> Iterator[str]:
        """What is not as it was written, one line each; nothing when all is well."""
        for mark in MARKS.all(tx):
            if not self.check(mark.content, mark.mac):
                yield f"the mark of what was pruned up to {mark.position} was changed"
        start, before = before_first(tx)
        expected = start + 1
        for record in RECORDS.query(tx, "order by coalesce(position, 9223372036854775807), at, id"):
            if not self.check(record.event.encode(), record.mac):
                yield f"record {record.id} ({record.position}) was changed"
            if record.position is None:
                continue
            if record.position != expected:
                yield f"records {expected} to {record.position - 1} are missing"
            elif not self.check(f"{before}{record.mac}".encode(), record.link or ""):
                yield f"record {record.id} ({record.position}) is not the one that was linked here"
            before, expected = record.link or "", record.position + 1


def before_first(tx: Tx) -> tuple[int, str]:
    """Position and link before the first record of the chain, as the mark has them."""
    marks = MARKS.query(tx, "order by position desc")
    return (marks[0].position, marks[0].link) if marks else (0, FIRST_LINK)


def equal(one: str, other: str) -> bool:
    """Whether two MACs are the same, in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())
