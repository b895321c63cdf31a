"""Directories are read again and again: who left one loses all tokens within a bounded time.

One row of work for each domain with a directory; a step reads those entries that were not seen for the longest time.
"""

import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from pileus.core.reconcile import AGAIN, Kind, Lease, Outcome, Transient, Wait, poke
from pileus.db.connect import Database, Tx
from pileus.identity.directories import Directories, Door
from pileus.identity.drivers import Away, Entry
from pileus.identity.mirror import DIRECTORY, ENTRIES, TABLES, DirectoryEntry, keep, keep_users_in, lose, public_id
from pileus.identity.rows import ASSIGNMENTS

STEP = 200  # entries that one step reads
_NO_END = float("inf")  # the patience of a wait that is as it should be


class Round(Struct, kw_only=True):
    """One look at a directory: the entries that are due, and what it has of them."""

    domain_id: str
    due: list[DirectoryEntry]
    next_due: float  # seconds from now
    assigned: set[str]  # ids of groups that have roles: their users are read too, so that lists of roles are whole
    found: list[Entry] | None = None  # None: it could not be asked


def due_in(tx: Tx, domain_id: str, every: float, now: float) -> Round:
    """What must be looked at now, and when the next look is due."""
    where = "where domain_id = ? and gone = 0 order by seen_at limit ?"
    oldest = ENTRIES.query(tx, where, domain_id, STEP)
    due = [entry for entry in oldest if entry.seen_at <= now - every]
    waits = [entry.seen_at + every - now for entry in oldest if entry.seen_at > now - every]
    groups = [entry.id for entry in due if entry.kind == "group"]
    assigned = {str(a.group_id) for a in ASSIGNMENTS.all(tx, group_id=groups)}
    return Round(domain_id=domain_id, due=due, next_due=min([every, *waits]), assigned=assigned)


def look_soon(tx: Tx, identifier: str, now: float) -> None:
    """Read an entry, if this is one, with the next look, which is now."""
    mapped = ENTRIES.get(tx, id=identifier)
    if mapped is not None and not mapped.gone:
        ENTRIES.update(tx, {"seen_at": 0.0}, id=identifier)
        poke(tx, DIRECTORY, mapped.domain_id, now)


def step(look: Round, door: Door | None) -> Outcome:
    """Read what is due; the directory being away is a wait with its reason, and nobody is taken for gone."""
    if not look.due or door is None:
        return Wait(max(look.next_due, 0.1), "the directory was read; it is read again when this wait ends", _NO_END)
    found: list[Entry] = []
    try:
        for kind in TABLES:
            ids = [entry.local_id for entry in look.due if entry.kind == kind]
            found += door.ask_now(lambda directory, k=kind, i=ids: directory.read(k, i))  # type: ignore[misc]  # defaults bind the loop's values, whose types mypy does not infer
        for group in [e for e in found if public_id(look.domain_id, e.kind, e.local_id) in look.assigned]:
            found += door.ask_now(lambda directory, g=group: directory.users_in(g))  # type: ignore[misc]  # defaults bind the loop's values, whose types mypy does not infer
    except Away as why:
        raise Transient(f"the directory cannot be asked: {why}") from None
    look.found = found
    return AGAIN


def save(tx: Tx, look: Round, _outcome: Outcome, now: float) -> None:
    """Bring our rows to what was read."""
    if look.found is None:
        return
    keep(tx, look.domain_id, look.found, now)
    there = {public_id(look.domain_id, entry.kind, entry.local_id) for entry in look.found}
    lose(tx, [entry for entry in look.due if entry.id not in there])
    for group in look.found:
        if group.kind == "group":
            keep_users_in(tx, look.domain_id, group)
    ENTRIES.update(tx, {"seen_at": now}, id=[entry.id for entry in look.due])


def kinds(db: Database, keys_folder: Path, every: float, clock: Callable[[], float] = time.time) -> list[Kind[Round]]:
    """The directories as work; each entry is read again after `every` seconds."""
    directories = Directories(keys_folder)

    def load(tx: Tx, domain_id: str) -> Round | None:
        return due_in(tx, domain_id, every, clock()) if directories.of(tx, domain_id) else None

    def world(lease: Lease) -> Door | None:
        return db.read(lambda tx: directories.of(tx, lease.id))

    def overdue(_look: Round, why: str) -> Outcome:
        return Wait(every, why, _NO_END)

    return [Kind(name=DIRECTORY, load=load, step=step, save=save, overdue=overdue, world=world)]
